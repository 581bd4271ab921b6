"""Named tensors in safetensors files, with a checksum of each tensor: the one owner of that optional dependency.

A file's metadata holds "checksums", one for each tensor, and "checksum", of these, of every name, type and shape, and
of the rest of the metadata. Files of version 0.1 have neither and are read without them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reminding.disk.errors import DamagedFileError
from reminding.disk.writing import check_name, write_file

TENSOR_SUMS, WHOLE_SUM = "checksums", "checksum"
UNCHECKED = {"format", "version", "batched", "zero_slot", "made_by", "packed"}
"""The metadata of files without checksums. Others have been damaged in the name of an entry."""


def safetensors_library() -> Any:
    """The library that reads and writes the files.

    Raises:
        ImportError: it is missing; the message says what to install.
    """
    try:
        import safetensors
        from safetensors import torch as _  # noqa: F401  the package does not load it by itself
    except ImportError as error:
        raise ImportError('saving and loading need safetensors: pip install "reminding[io]"') from error
    return safetensors


def pack_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The content of a safetensors file."""
    # Cloned, since the format refuses tensors that share memory: a cell may return the same one twice.
    own = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    sums = {name: _digest(tensor) for name, tensor in own.items()}
    sealed = {**metadata, TENSOR_SUMS: json.dumps(sums, allow_nan=False), WHOLE_SUM: _seal(own, metadata, sums)}
    return safetensors_library().torch.save(own, metadata=sealed)


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors to a safetensors file, replacing it only once the new one is whole.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the name is no UTF-8 text.
        CannotWriteError: the disk is full or read-only.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {path.parent}")
    check_name(path)  # with which it could not be read
    write_file(path, pack_tensors(tensors, metadata))


def load_tensors(path: str | Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file, and compare it with its checksums.

    Returns:
        the tensors by name, and the file's metadata without the checksums.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its name is no UTF-8 text.
        DamagedFileError: it is damaged or no safetensors file; the message names it and, if only one tensor is
            damaged, the tensor.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    check_name(path)  # which the library would take for damage
    library = safetensors_library()
    try:
        with library.safe_open(path, framework="pt", device="cpu") as file:
            # Cloned, since the file's own layout leaves tensors unaligned in memory, where sums round otherwise: what
            # goes on from a file would differ in its last bits from what was never interrupted.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            metadata: dict[str, str] = file.metadata() or {}
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the library has several errors for what a header may not hold
        raise DamagedFileError(path, f"it is no whole safetensors file ({error})") from error
    _check(path, tensors, metadata)
    rest = {name: text for name, text in metadata.items() if name not in (TENSOR_SUMS, WHOLE_SUM)}
    return {name: tensor.to(device) for name, tensor in tensors.items()}, rest


def _check(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Compare what was read with its checksums."""
    if WHOLE_SUM not in metadata and set(metadata) <= UNCHECKED:
        return
    try:
        sums: dict[str, str] = dict(json.loads(metadata[TENSOR_SUMS]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFileError(path, "they are missing or cannot be read", f"metadata {TENSOR_SUMS}") from error
    for name, tensor in tensors.items():
        if sums.get(name) != _digest(tensor):
            raise DamagedFileError(path, "its checksum is wrong", f"tensor {name}")
    rest = {name: text for name, text in metadata.items() if name not in (TENSOR_SUMS, WHOLE_SUM)}
    if metadata.get(WHOLE_SUM) != _seal(tensors, rest, sums):
        raise DamagedFileError(path, "its checksum is wrong", "header")


def _digest(tensor: Tensor) -> str:
    """The checksum of a tensor's numbers."""
    content = tensor.reshape(-1).view(torch.uint8) if tensor.numel() else tensor.new_empty(0, dtype=torch.uint8)
    return hashlib.sha256(content.numpy().data).hexdigest()[:32]


def _seal(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], sums: Mapping[str, str]) -> str:
    """The checksum of a header."""
    listed = sorted((name, str(tensor.dtype), list(tensor.shape)) for name, tensor in tensors.items())
    content = [listed, sorted(metadata.items()), sorted(sums.items())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
