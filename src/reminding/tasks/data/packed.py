"""Reading a data file whether it is plain or packed: gzip, xz, or a member of a zip or tar archive."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.datasets import DataFile

SUFFIXES = (".gz", ".xz", ".zip")
"""Suffixes of a single packed file."""
_MAGIC = {"gzip": b"\x1f\x8b", "xz": b"\xfd7zXZ\x00", "zip": b"PK\x03\x04"}
_TAR_MAGIC = slice(257, 262)  # the place of "ustar" in a tar archive
_TAR_HEADER = 512
# RuntimeError: a zip archive with a password or an unknown method.
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, RuntimeError)


def read_raw(path: Path, member: str = "", size: int | None = None) -> bytes:
    """Read the bytes of a file and unpack them if they are packed, whatever the file is called.

    Args:
        path: a plain file, a file packed by gzip or xz, a zip archive, or a tar archive, packed or not.
        member: name of the wanted file, without folders, if `path` is an archive of several.
        size: how many bytes it should unpack to. No more than one further byte is unpacked, however many there are.

    Raises:
        OSError: the file cannot be read.
        ValueError: the archive is damaged, or has no such member; the message names the file.
    """
    with path.open("rb") as file:
        start = file.read(_TAR_HEADER)
    kind = next((kind for kind, magic in _MAGIC.items() if start.startswith(magic)), "")
    if not kind and start[_TAR_MAGIC] != b"ustar":
        return path.read_bytes()
    most = -1 if size is None else size + 1
    try:
        if kind == "zip":
            return _from_zip(path, member, most)
        return _from_tar(path, member, most) if not kind else _decompressed(path, kind, member, most)
    except _DAMAGE as error:
        raise ValueError(
            f"{path}: damaged {kind or 'tar'} of {path.stat().st_size} bytes ({error}), expected one that unpacks"
        ) from error


def open_raw(path: Path, member: str = "", size: int | None = None) -> NDArray[np.uint8]:
    """Read the bytes of a file like `read_raw`, (n,), but map a plain file instead of loading it."""
    with path.open("rb") as file:
        start = file.read(_TAR_HEADER)
    plain = start[_TAR_MAGIC] != b"ustar" and not start.startswith(tuple(_MAGIC.values()))
    if plain and start:  # an empty file cannot be mapped
        return np.memmap(path, np.uint8, mode="r")
    return np.frombuffer(read_raw(path, member, size), np.uint8)


def check_raw(raw: bytes | NDArray[np.uint8], file: DataFile, path: Path) -> None:
    """Raise a ValueError that names `path` unless `raw` has the published size and md5."""
    if len(raw) != file.raw_size:
        more = "more than " if len(raw) == file.raw_size + 1 else ""
        raise ValueError(f"{path}: {more}{len(raw) - bool(more)} bytes decompressed, expected {file.raw_size}")
    md5 = hashlib.md5(raw if isinstance(raw, bytes) else raw.data, usedforsecurity=False).hexdigest()
    if md5 != file.raw_md5:
        raise ValueError(f"{path}: md5 of the decompressed bytes is {md5}, expected {file.raw_md5}")


def _decompressed(path: Path, kind: str, member: str, most: int) -> bytes:
    with gzip.open(path) if kind == "gzip" else lzma.open(path) as file:
        if file.read(_TAR_HEADER)[_TAR_MAGIC] == b"ustar":
            return _from_tar(path, member, most)
        file.seek(0)
        return file.read(most)


def _from_zip(path: Path, member: str, most: int) -> bytes:
    with zipfile.ZipFile(path) as archive, archive.open(_choose(archive.namelist(), member, path)) as file:
        return file.read(most)


def _from_tar(path: Path, member: str, most: int) -> bytes:
    with tarfile.open(path) as archive:
        names: list[str] = []
        for entry in archive:  # in order, so that nothing after the member is unpacked
            names.append(entry.name)
            if entry.isfile() and PurePosixPath(entry.name).name == member:
                file = archive.extractfile(entry)
                return file.read(most) if file is not None else b""
    raise _no_member(path, member, names)


def _choose(names: Sequence[str], member: str, path: Path) -> str:
    """The entry called `member` in any folder, or the only entry."""
    files = [name for name in names if not name.endswith("/")]
    named = [name for name in files if PurePosixPath(name).name == member]
    if not named and len(files) != 1:
        raise _no_member(path, member, files)
    return (named or files)[0]


def _no_member(path: Path, member: str, names: Sequence[str]) -> ValueError:
    return ValueError(f"{path}: holds {', '.join(names) or 'nothing'}, expected {member or 'one file'}")
