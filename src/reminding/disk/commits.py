"""Commits: several files that exist together or not at all, each commit in a folder with its number.

The files are written to a folder with a temporary name, with a manifest of their sizes and checksums. The folder is
renamed when all of them are on the disk.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reminding.disk import operations
from reminding.disk.errors import DamagedFileError
from reminding.disk.records import packed_json, read_json
from reminding.disk.writing import discard, naming, remove_leftovers, temporary, write_new

KEPT = 2
MANIFEST_NAME = "manifest.json"
MANIFEST_FORMAT = 1


class Commits:
    """The commits in a folder.

    Args:
        folder: that holds one folder for each commit. It is made by the first commit.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def numbers(self) -> list[int]:
        """The numbers of all commits, whole or damaged, the newest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((int(path.name) for path in found if path.name.isdecimal()), reverse=True)

    def place(self, number: int) -> Path:
        """The folder of a commit."""
        return self.folder / str(number)

    def write(self, number: int, files: Mapping[str, bytes]) -> None:
        """Commit some files. A commit of this number, which must be damaged or outdated, is replaced.

        Raises:
            CannotWriteError: the disk is full or read-only; the earlier commits are as they were.
        """
        place = self.place(number)
        with naming(place):
            if not self.folder.is_dir():
                operations.make_folder(self.folder)
                operations.sync_folder(self.folder.parent)
            remove_leftovers(self.folder)
            with temporary(place) as unfinished:
                operations.make_folder(unfinished)
                for name, data in files.items():
                    write_new(unfinished / name, data)
                write_new(unfinished / MANIFEST_NAME, packed_json(_manifest(number, files)))
                operations.sync_folder(unfinished)
                if place.exists():
                    with temporary(place) as replaced:
                        operations.rename(place, replaced)
                    discard(replaced)
                operations.rename(unfinished, place)
            operations.sync_folder(self.folder)

    def keep_only(self, *numbers: int) -> None:
        """Remove all other commits, as far as that is possible."""
        for number in self.numbers():
            if number not in numbers:
                # Renamed first, so that it never looks like a commit that lacks files.
                with contextlib.suppress(OSError), temporary(self.place(number)) as removed:
                    operations.rename(self.place(number), removed)
                    discard(removed)

    def verified(self, number: int, name: str) -> Path:
        """The path of one file of a commit, which is as it was written.

        Raises:
            DamagedFileError: it is damaged or missing.
        """
        path = self.place(number) / name
        entry = self.manifest(number).get(name)
        if entry is None:
            raise DamagedFileError(path.parent / MANIFEST_NAME, f"it does not list {name}", "files")
        try:
            if path.stat().st_size != entry["bytes"]:
                raise DamagedFileError(path, f"it has {path.stat().st_size} bytes, expected {entry['bytes']}")
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError as error:
            raise DamagedFileError(path, "it is missing") from error
        if digest != entry["sha256"]:
            raise DamagedFileError(path, "its checksum is wrong")
        return path

    def manifest(self, number: int) -> dict[str, Any]:
        """The names of a commit's files, each with "bytes" and "sha256".

        Raises:
            DamagedFileError: the manifest is damaged or missing.
        """
        path = self.place(number) / MANIFEST_NAME
        content = read_json(path, checksum_required=True)
        if content.get("format") != MANIFEST_FORMAT:
            raise DamagedFileError(path, f"it is {content.get('format')}, expected {MANIFEST_FORMAT}", "format")
        if content.get("number") != number:
            raise DamagedFileError(path, f"it is {content.get('number')}, the folder is {number}", "number")
        return content["files"]

    def check(self, number: int) -> list[DamagedFileError]:
        """What is wrong with a commit; empty if it is whole."""
        try:
            names = list(self.manifest(number))
        except DamagedFileError as error:
            return [error]
        wrong: list[DamagedFileError] = []
        for name in names:
            try:
                self.verified(number, name)
            except DamagedFileError as error:
                wrong.append(error)
        return wrong


def _manifest(number: int, files: Mapping[str, bytes]) -> dict[str, Any]:
    entries = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    return {"format": MANIFEST_FORMAT, "number": number, "files": entries}
