"""The machine of a run: its device, its versions, its memory, and the command that was typed."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from reminding.version import __version__


def choose_device(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU if there is one.

    Raises:
        ValueError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


@contextmanager
def conditions_of_training() -> Generator[None]:
    """How all models are trained and timed here, so that none of them loses time on a CPU; also a decorator.

    Subnormal numbers count as 0, within; and from here on the process keeps the memory that it frees.
    """
    keep_freed_memory()
    with subnormals_flushed():
        yield


def keep_freed_memory() -> bool:
    """Keep the memory that this process frees for its later tensors, from now on, instead of giving it back to Linux.

    Otherwise a tensor of some megabytes is new memory each time, which costs a page fault for every 4 KB: a training
    step of `nn.LSTM` over 1,600 steps takes 1.7 times as long (results/bench). The process holds what it held at its
    peak, and more where sizes vary much, since what is kept then fits the next tensor less well.

    Returns:
        False where nothing changes: the C library is not glibc, or a variable of glibc's own (MALLOC_ARENA_MAX and
        the like, or GLIBC_TUNABLES) says how memory is to be handled.
    """
    told = any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.getenv("GLIBC_TUNABLES", "")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" and not told else None
    return mallopt is not None and all(mallopt(option, value) == 1 for option, value in _KEEPING.items())


_KEEPING = {-4: 0, -1: -1}
"""Options of mallopt(3): M_MMAP_MAX, no block is mapped on its own; M_TRIM_THRESHOLD, the heap never shrinks."""


@contextmanager
def subnormals_flushed() -> Generator[None]:
    """Count numbers too small for a normal float (below 1.2e-38 in float32) as 0, within; also a decorator.

    A gradient that vanishes over hundreds of steps becomes such numbers, and a CPU computes with them many times more
    slowly: an update of `nn.LSTM` on 784 pixels with one answer takes ten times as long. Where the processor
    cannot, nothing changes.
    """
    flushed = _flushes_subnormals()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushed)


def _flushes_subnormals() -> bool:
    return float(torch.tensor(1e-39) * 1.0) == 0.0


def command_line() -> str:
    """The command line of this process, without the password of a database."""
    return without_password(" ".join(["reminding", *sys.argv[1:]]))


def without_password(text: str) -> str:
    """A text in which addresses of databases have no password, so that it may be shown and recorded."""
    return re.sub(r"(://[^\s:/@]*):[^\s@]*@", r"\1@", text)


def environment(device: torch.device | str = "cpu") -> dict[str, Any]:
    """What results depend on apart from the seed: machine, versions, threads."""
    return {
        "device": str(device),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "reminding": __version__,
    }


def processor() -> str:
    """The processor's name, as far as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def peak_resident_bytes() -> int | None:
    """The peak memory of this process, PyTorch itself included; None where the system does not report it."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
