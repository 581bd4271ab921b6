"""The log of a run that was killed holds each record once, and so does TensorBoard."""

from __future__ import annotations

from pathlib import Path

import pytest

from reminding.disk.lock import locked
from reminding.lab.runs.runlog import LogSize, RunLog, read_log


def losses(log: RunLog, *steps: int) -> LogSize:
    """Write the losses of some updates, and end, as a killed process does."""
    for step in steps:
        log.write("train", step, {"loss": 10.0 * step})
    size = log.sync()
    log.close()
    return size


def shown(folder: Path) -> list[tuple[int, float]]:
    """The losses that TensorBoard shows."""
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = events.EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return [(each.step, each.value) for each in found.Scalars("train/loss")]


def test_records_without_a_checkpoint_are_shown_once(tmp_path: Path) -> None:
    """Killed after an evaluation was logged, and before it was saved: it comes again."""
    want = [(3, 30.0), (6, 60.0), (7, 70.0), (9, 90.0)]
    with locked(tmp_path):
        losses(RunLog(tmp_path), 3)
        saved = losses(RunLog(tmp_path), 3, 6)
        losses(RunLog(tmp_path, 7, saved), 7)  # saved at 7 when interrupted, then killed in an evaluation there
        losses(RunLog(tmp_path, 7, saved), 7, 9)
        assert [(each["step"], each["loss"]) for each in read_log(tmp_path)] == want
        assert shown(tmp_path) == want
        losses(RunLog(tmp_path, 9, None), 12)
        assert shown(tmp_path) == [*want, (12, 120.0)]
