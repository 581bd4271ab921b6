"""The journal file of a study: a record a line, to which any number of processes append.

Optuna reads and writes it. A process that is killed while it appends, a loss of power or a full disk leaves the last
line unfinished: Optuna passes over such a line, and then appends to it, which would make it unreadable for ever.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from reminding.disk import operations
from reminding.disk.writing import naming
from reminding.lab.show.terminal import say

BEGINNING = b'{"op_code":'
"""Of every record that Optuna writes."""
PIECE = 1 << 16
"""Bytes that are read at a time to find where the last line begins."""


class Journal:
    """A journal file as Optuna's storage wants it, whose every line is whole before the next is appended.

    Args:
        library: Optuna.
        path: of the file, which is made if there is none.

    Raises:
        ValueError: a line is no record of a journal; the message names the file and the line.
        CannotWriteError: there is no such file, and none can be made.
    """

    def __init__(self, library: Any, path: Path) -> None:
        # The lock is a link to the file, whose age Optuna reads through it: a relative one leads nowhere.
        self._path = path.absolute()
        check_lines(self._path)
        kinds = library.storages.journal
        lock = _Lock(kinds.JournalFileSymlinkLock(str(self._path)), self._path)
        with naming(path):
            self._file = kinds.JournalFileBackend(str(self._path), lock_obj=lock)

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any]]:
        """The records from a number on.

        Raises:
            ValueError: a line is no record.
        """
        try:
            yield from self._file.read_logs(log_number_from)
        except ValueError:
            check_lines(self._path)
            raise

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, and wait until they are on the disk.

        Raises:
            CannotWriteError: the disk is full or read-only.
        """
        with naming(self._path):
            self._file.append_logs(logs)


class _Lock:
    """Optuna's lock of a journal, whose holder finds the last line whole."""

    def __init__(self, lock: Any, path: Path) -> None:
        self._lock, self._path = lock, path

    def acquire(self) -> bool:
        self._lock.acquire()
        try:
            cut_unfinished(self._path)
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        self._lock.release()


def cut_unfinished(path: Path) -> None:
    """Cut off a last line that was not written to its end. Whoever calls this holds the lock.

    Raises:
        ValueError: the line is not the beginning of a record: the file is no journal, and is left as it is.
    """
    descriptor = operations.open_to_append(path)
    try:
        size = os.fstat(descriptor).st_size
        whole = _whole(descriptor, size)
        if whole == size:
            return
        if not _may_be_record(_read(descriptor, whole, len(BEGINNING))):
            raise ValueError(f"storage: {path} is no journal of a study: its last line is no record")
        operations.truncate(descriptor, whole)
        operations.sync(descriptor)
    finally:
        operations.close(descriptor)
    say(f"storage: the last line of {path} was not written to its end, and is cut off")


def _whole(descriptor: int, size: int) -> int:
    """The size of an open file without a last line that has no end, bytes."""
    end = size
    while end > 0:
        start = max(0, end - PIECE)
        found = _read(descriptor, start, end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _read(descriptor: int, start: int, size: int) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)
    return os.read(descriptor, size)


def _may_be_record(beginning: bytes) -> bool:
    """Whether a line may begin a record. A loss of power leaves zeros where no text came to the disk."""
    written = beginning.rstrip(b"\0")
    return written == BEGINNING[: len(written)]


def check_lines(path: Path) -> None:
    """Refuse a file with a line that is no record; the last line may be the beginning of one.

    Raises:
        ValueError: names the file and the line.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not (_is_record(line) if line.endswith(b"\n") else _may_be_record(line[: len(BEGINNING)])):
                raise ValueError(
                    f"storage: {path} is damaged, or no journal of a study: line {number:,} is no record"
                )


def _is_record(line: bytes) -> bool:
    try:
        return "op_code" in json.loads(line)
    except (ValueError, TypeError, RecursionError):
        return False
