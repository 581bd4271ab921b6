"""Fingerprints of files: whether a file is still the same, or has only grown at its end."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BLOCK = 1 << 20
"""Bytes read at a time."""


def fingerprint(path: Path) -> dict[str, Any]:
    """The size of a file, bytes, its SHA-256, and whether it ends with a line end, as JSON values."""
    size = path.stat().st_size
    digest, last = _digest(path, size)
    return {"size": size, "sha256": digest, "whole_lines": last in (b"\n", b"\r", b"")}


def check_unchanged(path: Path, recorded: Mapping[str, Any], *, lines: bool) -> None:
    """Refuse a file unless it is the one recorded, or has grown at its end.

    Args:
        path: the file as it is now.
        recorded: what `fingerprint` returned for it then.
        lines: whether its steps are lines. A last line without a line end must then not have been continued.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is shorter, or its beginning has changed, or its last line was continued.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    size, then = path.stat().st_size, int(recorded["size"])
    if size < then:
        raise ValueError(f"{path} was cut: it has {size:,} bytes, and had {then:,}")
    digest, _ = _digest(path, then)
    if digest != recorded["sha256"]:
        raise ValueError(f"{path} was changed: its first {then:,} bytes are not those it had")
    if lines and size > then and not recorded["whole_lines"]:
        with path.open("rb") as file:
            file.seek(then)
            if file.read(1) not in (b"\n", b"\r"):
                raise ValueError(f"{path} was changed: its last line, which had no line end, is longer than it was")


def _digest(path: Path, size: int) -> tuple[str, bytes]:
    """SHA-256 of the first `size` bytes, and the last of them."""
    digest, left, last = hashlib.sha256(), size, b""
    with path.open("rb") as file:
        while left and (block := file.read(min(BLOCK, left))):
            digest.update(block)
            left, last = left - len(block), block[-1:]
    return digest.hexdigest(), last
