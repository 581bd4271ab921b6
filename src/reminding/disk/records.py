"""JSON with checksums: files of one object, and files of one object a line.

A file's checksum is its last entry, "checksum"; a line's is "crc32". Files and lines without one are from older
versions or written by hand, and are read as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from reminding.disk import lock, operations
from reminding.disk.errors import DamagedFileError
from reminding.disk.writing import naming, write_file

CHECKSUM = "checksum"
_LOST = re.compile(rb'"[0-9a-f]{64}"\s*\}\s*$')
"""The end of a file whose last value is a checksum, whatever it is called."""
_LINE_END = re.compile(rb', "(?P<name>[^"]*)": "(?P<sum>[^"]*)"\}$')
_CRC_NAME = "crc32"


def packed_json(content: Mapping[str, Any], *, ascii_only: bool = True) -> bytes:
    """The text of a file with one object and its checksum."""
    whole = {**content, CHECKSUM: _checksum(content)}
    return (json.dumps(whole, indent=2, ensure_ascii=ascii_only) + "\n").encode()


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
    found = content.pop(CHECKSUM, None)
    if found is None and (checksum_required or _LOST.search(raw)):
        raise DamagedFileError(path, "it is missing", CHECKSUM)
    if found is not None and found != _checksum(content):
        raise DamagedFileError(
            path, f'it is wrong. If you changed the file yourself, delete the entry "{CHECKSUM}"', CHECKSUM
        )
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True)
class Lines:
    """What a file with one object a line holds.

    Attributes:
        records: of the lines that can be read.
        starts: where each of these lines begins in the file, bytes.
        damaged: the numbers of the other lines, from 1.
        whole: the size of the file without a last line that was cut short, bytes.
    """

    records: list[dict[str, Any]]
    starts: list[int]
    damaged: list[int]
    whole: int


def packed_line(record: Mapping[str, Any]) -> str:
    """The text of a line with one object and its checksum."""
    text = json.dumps(record)
    return f'{text[:-1]}, "{_CRC_NAME}": "{zlib.crc32(text.encode()):08x}"}}'


def add_line(path: Path, record: Mapping[str, Any]) -> None:
    """Add an object to a file, and wait until it is on the disk.

    Raises:
        CannotWriteError: the disk is full or read-only.
    """
    with naming(path):
        descriptor = operations.open_to_append(path)
        try:
            lock.wait(descriptor)  # a second process may add a line too
            whole = path.read_bytes().rfind(b"\n") + 1
            if path.stat().st_size > whole:  # a killed process has left a line unfinished
                operations.truncate(descriptor, whole)
            operations.write(descriptor, packed_line(record).encode() + b"\n")
            operations.sync(descriptor)
        finally:
            operations.close(descriptor)


def read_lines(path: Path) -> Lines:
    """Read a file with one object a line; a missing file has no lines."""
    raw = path.read_bytes() if path.is_file() else b""
    lines = Lines([], [], [], raw.rfind(b"\n") + 1)
    start = 0
    for number, line in enumerate(raw[: lines.whole].split(b"\n")[:-1], 1):
        record = _record(line)
        if record is None:
            lines.damaged.append(number)
        else:
            lines.records.append(record)
            lines.starts.append(start)
        start += len(line) + 1
    return lines


def _record(line: bytes) -> dict[str, Any] | None:
    """The object in a line; None if the line is damaged."""
    end = _LINE_END.search(line)
    if end is not None and (end["name"] == _CRC_NAME.encode() or re.fullmatch(rb"[0-9a-f]{8}", end["sum"])):
        line = line[: end.start()] + b"}"
        if end["name"] != _CRC_NAME.encode() or end["sum"] != f"{zlib.crc32(line):08x}".encode():
            return None
    try:
        content: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", content) if isinstance(content, dict) else None
