"""Finding files and folders, each of them once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def once(paths: Iterable[Path]) -> list[Path]:
    """Each place once, under the first of its names: relative, absolute, or by a link."""
    named: dict[Path, Path] = {}
    for path in paths:
        named.setdefault(path.resolve(), path)
    return list(named.values())


def find_below(path: Path, name: str) -> list[Path]:
    """Folders at any depth that hold a file of a name, and links to others, in natural order (T200 before T1000)."""
    places = [file.parent for file in path.rglob(name)]  # before links, which would name the folder itself otherwise
    places += [each for each in path.rglob("*") if each.is_symlink() and (each / name).is_file()]
    return sorted(once(places), key=_natural)


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]
