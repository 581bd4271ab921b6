"""JSON with checksums: files of one object, and files of one object a line.

A file begins with the entry "sealed" and ends with "checksum"; a line begins with "crc32". Files without any of these
are from version 0.1 or written by hand, and are read as they are; a file that has some of them must have them all.
Numbers that are not finite are written as `finite` says, and given back as they were.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import zlib
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from reminding.disk import lock, operations
from reminding.disk.errors import DamagedFileError
from reminding.disk.finite import finite, restored
from reminding.disk.writing import naming, write_file

SEALED, CHECKSUM = "sealed", "checksum"
"""The first and the last entry of a file: damage in one place does not take both."""
_CRC = re.compile(rb'\{"crc32": "([0-9a-f]{8})", ')
"""The beginning of a line."""
_LOST = re.compile(rb'\{"[^"]*": "[0-9a-f]{8}", ')
"""The same under another name, which only damage gives it."""


def packed_json(content: Mapping[str, Any], *, ascii_only: bool = True) -> bytes:
    """The text of a file with one object and its checksum."""
    content = finite(content)
    whole = {SEALED: "sha256", **content, CHECKSUM: _checksum(content)}
    return (json.dumps(whole, indent=2, ensure_ascii=ascii_only, allow_nan=False) + "\n").encode()


def write_json(path: Path, content: Mapping[str, Any], *, ascii_only: bool = True) -> None:
    """Write a file with one object, in one step; it is left alone if it has this content.

    Raises:
        CannotWriteError: the disk is full or read-only.
    """
    write_file(path, packed_json(content, ascii_only=ascii_only))


def read_json(path: Path, *, checksum_required: bool = False) -> dict[str, Any]:
    """Read a file with one object, without its checksum.

    Raises:
        DamagedFileError: it is missing, cannot be read, or has changed since it was written.
    """
    try:
        raw = path.read_bytes()
        content: Any = json.loads(raw)
    except FileNotFoundError as error:
        raise DamagedFileError(path, "it is missing") from error
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(path, f"it is no JSON ({error or 'it is empty'})") from error
    if not isinstance(content, dict):
        raise DamagedFileError(path, "it holds no object")
    content = cast("dict[str, Any]", content)
    kind, found = content.pop(SEALED, None), content.pop(CHECKSUM, None)
    if kind is None and found is None and not checksum_required:
        return _restored(path, content)
    if kind != "sha256" or found is None:
        raise DamagedFileError(path, "it is missing", CHECKSUM if found is None else SEALED)
    if found != _checksum(content):
        advice = f'If you changed the file yourself, delete its entries "{SEALED}" and "{CHECKSUM}"'
        raise DamagedFileError(path, f"it is wrong. {advice}", CHECKSUM)
    return _restored(path, content)


def _restored(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    try:
        return restored(content)
    except ValueError as error:
        raise DamagedFileError(path, str(error)) from error


def _checksum(content: Mapping[str, Any]) -> str:
    """Of the object in a file; one of version 0.1 may have numbers that are not finite."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True)
class Lines:
    """What a file with one object a line holds.

    Attributes:
        records: of the lines that can be read.
        starts: where each of these lines begins in the file, bytes.
        damaged: the numbers of the other lines, from 1.
        whole: the size of the file without a last line that was cut short, bytes.
        checked: whether its lines have checksums.
    """

    records: list[dict[str, Any]]
    starts: list[int]
    damaged: list[int]
    whole: int
    checked: bool


def packed_line(record: Mapping[str, Any]) -> str:
    """The text of a line with one object and its checksum."""
    text = json.dumps(finite(record), allow_nan=False)
    return f'{{"crc32": "{zlib.crc32(text.encode()):08x}", {text[1:]}'


def add_line(path: Path, record: Mapping[str, Any]) -> None:
    """Add an object to a file, and wait until it is on the disk.

    Raises:
        CannotWriteError: the disk is full or read-only.
    """
    seal_lines(path)
    with _held(path) as descriptor:
        lines = read_lines(path)
        if path.stat().st_size > lines.whole:  # a killed process has left a line unfinished
            operations.truncate(descriptor, lines.whole)
        operations.write(descriptor, packed_line(record).encode() + b"\n")
        operations.sync(descriptor)


@contextlib.contextmanager
def _held(path: Path) -> Generator[int]:
    """The open file at a path, which no other process adds to or replaces meanwhile."""
    with naming(path):
        while True:
            descriptor = operations.open_to_append(path)
            try:
                lock.wait(descriptor)
                if path.is_file() and os.path.samestat(os.fstat(descriptor), path.stat()):
                    yield descriptor
                    return
            finally:  # it was replaced while this process waited
                operations.close(descriptor)


def _while_replaced(path: Path) -> AbstractContextManager[object]:
    """`_held` where an open file can be replaced; on Windows it cannot, and a line added meanwhile may be lost."""
    return nullcontext() if os.name == "nt" else _held(path)


def drop_damaged(path: Path) -> int:
    """Leave out the damaged lines of a file, and return how many there were."""
    if not read_lines(path).damaged:
        return 0
    with _while_replaced(path):
        lines, raw = read_lines(path), path.read_bytes()
        write_file(path, b"".join(raw[start : raw.index(b"\n", start) + 1] for start in lines.starts))
    return len(lines.damaged)


def seal_lines(path: Path) -> None:
    """Give the lines of a file of version 0.1 checksums, as those to come have; damaged ones stay as they are."""
    if not path.is_file() or path.stat().st_size == 0 or read_lines(path).checked:
        return
    with _while_replaced(path):
        if read_lines(path).checked:  # by another process
            return
        lines = path.read_bytes().split(b"\n")[:-1]
        records = ((line, _record(line, checked=False)) for line in lines)
        sealed = (line if record is None else packed_line(record).encode() for line, record in records)
        write_file(path, b"".join(line + b"\n" for line in sealed))


def read_lines(path: Path) -> Lines:
    """Read a file with one object a line; a missing file has no lines."""
    raw = path.read_bytes() if path.is_file() else b""
    lines = Lines([], [], [], raw.rfind(b"\n") + 1, checked=b'"crc32"' in raw)
    start, seen = 0, set[bytes]()
    for number, line in enumerate(raw[: lines.whole].split(b"\n")[:-1], 1):
        record = _record(line, lines.checked)
        if record is None or (lines.checked and line in seen):  # no line is written twice
            lines.damaged.append(number)
        else:
            lines.records.append(record)
            lines.starts.append(start)
        seen.add(line)
        start += len(line) + 1
    return lines


def _record(line: bytes, checked: bool) -> dict[str, Any] | None:
    """The object in a line; None if the line is damaged. Git and editors on Windows end lines in CRLF."""
    line = line.removesuffix(b"\r")
    if checked:
        found = _CRC.match(line)
        line = b"{" + line[found.end() :] if found is not None else b""
        if found is None or found[1] != f"{zlib.crc32(line):08x}".encode():
            return None
    elif _LOST.match(line):
        return None
    try:
        content: Any = json.loads(line)
        return restored(cast("dict[str, Any]", content)) if isinstance(content, dict) else None
    except (ValueError, RecursionError):
        return None
