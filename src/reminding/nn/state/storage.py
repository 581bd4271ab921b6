"""Named tensors in safetensors files: the one owner of that optional dependency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def _safetensors() -> Any:
    try:
        import safetensors
        from safetensors import torch as _  # noqa: F401  the package does not load it by itself
    except ImportError as error:
        raise ImportError('saving and loading need safetensors: pip install "reminding[io]"') from error
    return safetensors


def save_tensors(path: str | Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors to a safetensors file, replacing it only once the new one is whole."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {path.parent}")
    temporary = path.with_name(path.name + ".part")
    # Cloned, since the format refuses tensors that share memory: a cell may return the same one twice.
    own = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    temporary.touch()
    mode = temporary.stat().st_mode  # that of the user's umask; the library makes the file private
    _safetensors().torch.save_file(own, temporary, metadata=metadata)
    temporary.chmod(mode)
    temporary.replace(path)


def load_tensors(path: str | Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file.

    Returns:
        the tensors by name, and the file's metadata.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or no safetensors file; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    library = _safetensors()
    try:
        with library.safe_open(path, framework="pt", device=device) as file:
            # Cloned, since the file's own layout leaves tensors unaligned in memory, where sums round otherwise: what
            # goes on from a file would differ in its last bits from what was never interrupted.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except library.SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error
