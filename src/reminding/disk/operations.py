"""Every system call with which this package changes the files of a run or of a state.

Tests replace `os` in this module, so that a call fails, or the process is killed before it or in the middle of it.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

PIECE = 1 << 20
"""Bytes per call of write."""


def create(path: Path) -> int:
    """Open a new file with the mode of the user's umask, and return its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def open_to_append(path: Path) -> int:
    """Open a file, or make it, so that every write goes to its end."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)


def write(descriptor: int, data: bytes) -> None:
    """Write all of the data."""
    rest = memoryview(data)
    while len(rest):
        rest = rest[os.write(descriptor, rest[:PIECE]) :]


def truncate(descriptor: int, size: int) -> None:
    """Cut an open file to a number of bytes."""
    os.ftruncate(descriptor, size)


def sync(descriptor: int) -> None:
    """Wait until the content of an open file is on the disk."""
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk. Windows and some network file systems have no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def close(descriptor: int) -> None:
    """Close an open file."""
    os.close(descriptor)


def rename(old: Path, new: Path) -> None:
    """Rename a file or a folder; a file of the new name is replaced in one step."""
    os.replace(old, new)


def remove(path: Path) -> None:
    """Remove a file."""
    os.unlink(path)


def make_folder(path: Path) -> None:
    """Make a folder."""
    os.mkdir(path)


def remove_folder(path: Path) -> None:
    """Remove an empty folder."""
    os.rmdir(path)
