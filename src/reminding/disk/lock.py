"""The lock of a folder: one living process at a time.

The lock is the system's own: flock, or on Windows a locked byte. It ends with the process, however that ends, and
with the children it has forked; no lock outlasts a reboot. On a network file system it holds between hosts if the
system passes locks on to the server, as Linux does with NFS. Where there are no locks at all, the process that the
file names decides: one of another host is taken to live, and one of this host is looked up by its number.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import platform
from collections.abc import Generator
from pathlib import Path
from typing import Any

from reminding.disk import operations
from reminding.disk.errors import FolderInUseError
from reminding.disk.writing import alive, naming

LOCK_NAME = ".lock"
_held: dict[Path, int] = {}
"""The folders that this process has locked, each with the descriptor of its open file."""
_NO_LOCKS = {errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL}


@contextlib.contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold the lock of a folder. The file stays when the lock ends, since removing it would let two processes in.

    Raises:
        FolderInUseError: another living process holds it; the message names the process.
        CannotWriteError: the folder cannot be written to.
    """
    path = folder / LOCK_NAME
    with naming(path):
        descriptor = operations.open_to_append(path)
    try:
        if not _acquired(descriptor):
            raise FolderInUseError(
                f"{folder} is in use by {_holder(path)}: wait until it ends, or choose another folder with --out"
            )
        with naming(path):
            operations.truncate(descriptor, 0)
            operations.write(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode())
        _held[folder] = descriptor
        try:
            yield
        finally:
            del _held[folder]
            with contextlib.suppress(OSError):
                operations.truncate(descriptor, 0)
    finally:
        operations.close(descriptor)


def check_held(folder: Path) -> None:
    """Refuse to write on in the place of a folder that this process has locked, if another process's is there by now.

    Raises:
        FolderInUseError: the folder was moved or removed, and another process has begun one in its place.
    """
    if (descriptor := _held.get(folder)) is None:
        return
    with contextlib.suppress(OSError):  # without a file there, there is no other process
        if not os.path.samestat(os.fstat(descriptor), (folder / LOCK_NAME).stat()):
            told = "that of this process was moved or removed, and it writes no more"
            raise FolderInUseError(f"{folder} is another process's folder by now: {told}")


def holder(folder: Path) -> str | None:
    """The living process that holds the lock of a folder; None if none does."""
    path = folder / LOCK_NAME
    if not path.is_file():
        return None
    with path.open("r+b" if os.access(path, os.W_OK) else "rb") as file:
        return None if _acquired(file.fileno()) else _holder(path)


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError):
        if text := path.read_text(errors="replace").strip():
            return text
    return "another process"


def wait(descriptor: int) -> None:
    """Lock an open file until it is closed, after others have closed it; without effect where there are no locks."""
    with contextlib.suppress(OSError):
        _lock(descriptor, wait=True)


def _lock(descriptor: int, *, wait: bool) -> None:
    if os.name == "nt":
        system: Any = importlib.import_module("msvcrt")
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # a byte behind the text, which others may then read
        system.locking(descriptor, system.LK_LOCK if wait else system.LK_NBLCK, 1)
    else:
        system = importlib.import_module("fcntl")
        system.flock(descriptor, system.LOCK_EX | (0 if wait else system.LOCK_NB))


def _acquired(descriptor: int) -> bool:
    """Lock an open file until it is closed, or report that another process has locked it."""
    try:
        _lock(descriptor, wait=False)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            return False
        return not _named_process_lives(descriptor)
    return True


def _named_process_lives(descriptor: int) -> bool:
    """Whether the process that the file names lives, as far as that can be known."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    words = os.read(descriptor, 1000).decode(errors="replace").split()
    if len(words) != 4 or not words[1].isdecimal():
        return False
    process = int(words[1])
    return words[3] != platform.node() or (process != os.getpid() and alive(process))
