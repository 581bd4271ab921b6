"""The record of a run while it goes on: log.jsonl, and the same for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reminding.lab.runs.watch import Trouble

LOG_NAME = "log.jsonl"
BOARD_NAME = "tensorboard"


class RunLog:
    """Writes one JSON object a line to log.jsonl and its numbers to TensorBoard.

    Args:
        folder: of the run.
        after: the update that a resumed run goes on from: what was logged of later ones is dropped.

    Attributes:
        kept: the records so far of a run that is resumed.
    """

    def __init__(self, folder: Path, after: int = 0) -> None:
        path = folder / LOG_NAME
        self.kept = [record for record in read_log(folder) if record["step"] <= after] if after else []
        path.write_text("".join(json.dumps(record) + "\n" for record in self.kept))
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
        """Record a warning, with what to try; TensorBoard gets it as text."""
        told = {"name": trouble.name, "what": trouble.what, "advice": trouble.advice}
        self._append({"kind": "warning", "step": step, **told})
        self._board.add_text("warning", str(trouble), step)

    def _append(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close both."""
        self._file.close()
        self._board.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The records of a run so far; a last line that a crash cut short is left out."""
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
