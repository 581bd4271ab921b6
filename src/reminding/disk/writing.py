"""Writing a file so that it is the old one or the new one at any moment, even if the process or the power fails.

A file is written under a temporary name in its own folder, brought to the disk, and renamed. The temporary name has
the host and the process in it, so that what a killed process leaves can be told from what a living one writes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import re
from collections.abc import Generator
from pathlib import Path

from reminding.disk import operations
from reminding.disk.errors import CannotWriteError

LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<host>[\w-]+)-(?P<process>\d+)-\d+\.part")
"""The names of unfinished files and folders."""
NAME_BYTES = 120
"""Bytes of a file's name that the unfinished file has in its own, of 255 at most; a host's name has up to 64."""
_numbers = itertools.count()
_unfinished: set[Path] = set()
"""What this process is writing now."""


@contextlib.contextmanager
def naming(path: Path) -> Generator[None]:
    """Turn an error of the system into one that names the file that could not be written."""
    try:
        yield
    except CannotWriteError:
        raise
    except OSError as error:
        raise CannotWriteError(path, error) from error


def write_file(path: Path, data: bytes) -> None:
    """Write a file, or replace it, in one step. A file that has this content already is left alone.

    Raises:
        CannotWriteError: the disk is full or read-only; the old file is as it was.
    """
    if holds(path, data):
        return
    remove_leftovers(path.parent, path.name)
    with naming(path), temporary(path) as unfinished:
        write_new(unfinished, data)
        operations.rename(unfinished, path)
        operations.sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder to write to, and those above it, unless it is there.

    Raises:
        CannotWriteError: as `check_folder`, the disk is read-only, or permission is missing.
    """
    check_folder(path)
    with naming(path):
        path.mkdir(parents=True, exist_ok=True)


def check_name(path: Path) -> None:
    """Refuse a name that the libraries which read and write files do not take.

    Raises:
        ValueError: it has bytes that are no UTF-8, or no text in the locale.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError as error:
        told = "this name, or that of a folder above it, is no UTF-8 text, or no text in this locale (LC_ALL)"
        raise ValueError(f"{path}: {told}; choose another name") from error


def check_folder(path: Path) -> None:
    """Refuse a path at which no folder is and none can be made, before work whose results are written there.

    Raises:
        ValueError: its name is no UTF-8 text.
        CannotWriteError: it, or what should be a folder above it, is a file, or a link to nothing.
    """
    check_name(path)
    with naming(path):
        for each in (path, *path.parents):
            if each.is_dir():
                return
            what = "it" if each == path else str(each)
            if each.exists():
                raise CannotWriteError(path, f"{what} is a file, and a folder is needed")
            if each.is_symlink():
                raise CannotWriteError(path, f"{what} is a link to nothing, and a folder is needed")


def check_place(path: Path) -> None:
    """Refuse a path at which no file can be written, before work whose result it takes.

    Raises:
        ValueError: its name is no UTF-8 text.
        CannotWriteError: it is a folder, its name is too long, or there can be no folder above it.
    """
    check_folder(path.parent)
    check_name(path)
    with naming(path):
        if path.is_dir():
            raise CannotWriteError(path, "it is a folder, and a file is needed")


def write_text(path: Path, text: str) -> None:
    """`write_file` of text in UTF-8."""
    write_file(path, text.encode())


@contextlib.contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Let another library write a file, under the name this gives; it then takes the place of `path` in one step.

    Raises:
        CannotWriteError: the disk is full or read-only; the old file is as it was.
    """
    remove_leftovers(path.parent, path.name)
    with naming(path), temporary(path) as unfinished:
        yield unfinished
        descriptor = operations.open_to_append(unfinished)
        try:
            operations.sync(descriptor)
        finally:
            operations.close(descriptor)
        operations.rename(unfinished, path)
        operations.sync_folder(path.parent)


def holds(path: Path, data: bytes) -> bool:
    """Whether a file has this content."""
    try:
        return path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


def write_new(path: Path, data: bytes) -> None:
    """Write a new file under its own name, and wait until it is on the disk."""
    descriptor = operations.create(path)
    try:
        operations.write(descriptor, data)
        operations.sync(descriptor)
    finally:
        operations.close(descriptor)


@contextlib.contextmanager
def temporary(path: Path) -> Generator[Path]:
    """A name for an unfinished file or folder, beside the finished one; after an error what has it is removed."""
    unfinished = path.with_name(f".{_short(path.name)}.{_host()}-{os.getpid()}-{next(_numbers)}.part")
    _unfinished.add(unfinished)
    try:
        yield unfinished
    except BaseException:
        discard(unfinished)
        raise
    finally:
        _unfinished.discard(unfinished)


def remove_leftovers(folder: Path, name: str | None = None, *, everywhere: bool = False) -> None:
    """Remove what killed processes left unfinished in a folder; without permission it stays.

    Args:
        name: of the file whose leftovers are meant; None: of every file.
        everywhere: also remove what a process on another host left. Its life cannot be seen from here, so this is for
            a folder whose lock is held.
    """
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        found = LEFTOVER.fullmatch(path.name)
        if found is None or (name is not None and found["name"] != _short(name)):
            continue
        if _is_left(path, found["host"], int(found["process"]), everywhere):
            discard(path)


def is_leftover(path: Path) -> bool:
    """Whether this is an unfinished file, of a living process or of one that was killed."""
    return LEFTOVER.fullmatch(path.name) is not None


def _is_left(path: Path, host: str, process: int, everywhere: bool) -> bool:
    """Whether the process that wrote an unfinished file has ended; its number may be this process's by now."""
    if host != _host():
        return everywhere
    return path not in _unfinished if process == os.getpid() else not alive(process)


def discard(path: Path) -> None:
    """Remove a file, or a folder of files, as far as that is possible."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            for inner in list(path.iterdir()):
                operations.remove(inner)
            operations.remove_folder(path)
        elif path.exists() or path.is_symlink():
            operations.remove(path)


def alive(process: int) -> bool:
    """Whether a process of this host lives. Windows does not tell."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it lives, and belongs to someone else
        return True
    return True


def _short(name: str) -> str:
    """The beginning of a name, so that the unfinished file's own is not too long."""
    return os.fsencode(name)[:NAME_BYTES].decode(errors="ignore")


def _host() -> str:
    """The name of this machine, in letters that a file name may have."""
    return re.sub(r"[^\w-]", "_", platform.node()) or "host"
