"""The log of a run: log.jsonl, and the same numbers for TensorBoard."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from reminding.disk import operations
from reminding.disk.lock import check_held
from reminding.disk.records import packed_line, read_lines, seal_lines
from reminding.disk.writing import naming
from reminding.lab.runs.watch import Trouble

LOG_NAME = "log.jsonl"
BOARD_NAME = "tensorboard"


@dataclass(frozen=True)
class LogSize:
    """How long a log is: its whole lines, and their bytes."""

    lines: int
    bytes: int

    def beyond(self, other: LogSize) -> int:
        """How many lines of this log another one lacks; at least 1 if it has fewer bytes."""
        return max(self.lines - other.lines, 1) if self.bytes > other.bytes else 0


class RunLog:
    """Writes one JSON object per line to log.jsonl, and its numbers to TensorBoard.

    What is in the file stays as it is; only the records of later updates, those that came after the update was saved,
    and a last line that was cut short are cut off its end.

    Args:
        folder: of the run.
        after: the update from which a resumed run continues.
        committed: the size of the log when that update was saved; None: unknown.

    Attributes:
        earlier: the records that a resumed run continues.
        damaged: the numbers of lines among these that cannot be read.
        missing: the number of lines that were there when the update was saved, and are no more.

    Raises:
        CannotWriteError: the disk is full or read-only; so do its methods.
        FolderInUseError: of its methods, another run's folder has taken the place of this one's.
    """

    def __init__(self, folder: Path, after: int = 0, committed: LogSize | None = None) -> None:
        self._path, self._board_path = folder / LOG_NAME, folder / BOARD_NAME
        seal_lines(self._path)
        lines = read_lines(self._path)
        steps = [int(record["step"]) if _is_record(record) else 0 for record in lines.records]
        known = math.inf if committed is None else committed.bytes
        later = (step > after or start >= known for step, start in zip(steps, lines.starts, strict=True))
        count = next((at for at, cut in enumerate(later) if cut), len(steps)) if after else 0
        self.earlier = [record for record in lines.records[:count] if _is_record(record)]
        size = 0 if not after else lines.starts[count] if count < len(steps) else lines.whole
        with naming(self._path):
            self._file = operations.open_to_append(self._path)
            if self._path.stat().st_size > size:
                operations.truncate(self._file, size)
        self.damaged, self._size = damaged_lines(folder), log_size(folder)
        self.missing = 0 if committed is None else committed.beyond(self._size)
        with naming(self._board_path):
            self._board = _board(self._board_path, after + 1 if after in steps[:count] else after)
        self._hook = threading.excepthook
        threading.excepthook = cast("Any", _without_the_boards_thread(self._hook))

    def write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Record some numbers of one update.

        Args:
            kind: "train" or "valid".
        """
        self._append({"kind": kind, "step": step, **values})
        with naming(self._board_path):
            for name, value in values.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)
            self._board.flush()

    def warn(self, step: int, trouble: Trouble) -> None:
        """Record a warning with its advice; TensorBoard gets it as text."""
        content = {"name": trouble.name, "what": trouble.what, "advice": trouble.advice}
        self._append({"kind": "warning", "step": step, **content})
        with naming(self._board_path):
            self._board.add_text("warning", str(trouble), step)
            self._board.flush()

    def _append(self, record: dict[str, Any]) -> None:
        check_held(self._path.parent)
        line = packed_line(record).encode() + b"\n"
        with naming(self._path):
            operations.write(self._file, line)
        self._size = LogSize(self._size.lines + 1, self._size.bytes + len(line))

    def sync(self) -> LogSize:
        """Wait until log.jsonl is on the disk; returns its size."""
        with naming(self._path):
            operations.sync(self._file)
        return self._size

    def close(self) -> None:
        """Close the files. Nothing is left to write: by now another run's folder may be in this one's place."""
        operations.close(self._file)
        with contextlib.suppress(OSError):
            self._board.close()
        threading.excepthook = self._hook


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The records of a run so far, without damaged lines; `damaged_lines` numbers these."""
    return [record for record in read_lines(folder / LOG_NAME).records if _is_record(record)]


def log_size(folder: Path) -> LogSize:
    """The size of a run's log without a last line that was cut short; that of a missing log is 0."""
    path = folder / LOG_NAME
    raw = path.read_bytes() if path.is_file() else b""
    return LogSize(raw.count(b"\n"), raw.rfind(b"\n") + 1)


def damaged_lines(folder: Path) -> list[int]:
    """The numbers, from 1, of the lines of a run's log that cannot be read; an unfinished last line is not one."""
    lines = read_lines(folder / LOG_NAME)
    strange = [start for record, start in zip(lines.records, lines.starts, strict=True) if not _is_record(record)]
    if not strange:
        return lines.damaged
    raw = (folder / LOG_NAME).read_bytes()
    return sorted([*lines.damaged, *(raw.count(b"\n", 0, start) + 1 for start in strange)])


def _is_record(content: dict[str, Any]) -> bool:
    return isinstance(content.get("kind"), str) and isinstance(content.get("step"), int)


def _without_the_boards_thread(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A hook for errors of threads that is silent about TensorBoard's: the next call raises the same error."""

    def silent(arguments: Any) -> None:
        if not (isinstance(arguments.exc_value, OSError) and type(arguments.thread).__name__ == "_AsyncWriterThread"):
            hook(arguments)

    return silent


def _board(folder: Path, begin: int) -> Any:
    """TensorBoard's writer; what is in the folder of the update `begin` and of later ones is shown no more."""
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise ImportError('training logs need tensorboard: pip install "reminding[experiments]"') from error
    return SummaryWriter(str(folder), purge_step=begin)  # pyright: ignore[reportUnknownVariableType]
