"""The log of a run: log.jsonl, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reminding.lab.runs.watch import Trouble

LOG_NAME = "log.jsonl"
BOARD_NAME = "tensorboard"


class RunLog:
    """Writes one JSON object per line to log.jsonl, and its numbers to TensorBoard.

    Args:
        folder: of the run.
        after: the update from which a resumed run continues; records of later updates are dropped.

    Attributes:
        earlier: the records that a resumed run continues.
    """

    def __init__(self, folder: Path, after: int = 0) -> None:
        path = folder / LOG_NAME
        self.earlier = [record for record in read_log(folder) if record["step"] <= after] if after else []
        path.write_text("".join(json.dumps(record) + "\n" for record in self.earlier))
        self._file = path.open("a")
        self._board = _board(folder / BOARD_NAME, after)

    def write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Record some numbers of one update.

        Args:
            kind: "train" or "valid".
        """
        self._append({"kind": kind, "step": step, **values})
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def warn(self, step: int, trouble: Trouble) -> None:
        """Record a warning with its advice; TensorBoard gets it as text."""
        content = {"name": trouble.name, "what": trouble.what, "advice": trouble.advice}
        self._append({"kind": "warning", "step": step, **content})
        self._board.add_text("warning", str(trouble), step)

    def _append(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._board.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The records of a run so far, without a last line that a crash cut short."""
    path = folder / LOG_NAME
    records: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def _board(folder: Path, after: int) -> Any:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise ImportError('training logs need tensorboard: pip install "reminding[experiments]"') from error
    return SummaryWriter(str(folder), purge_step=after + 1 if after else None)  # pyright: ignore[reportUnknownVariableType]
