"""Finished runs as read from files, with numbers that are easy to work out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.runlog import LOG_NAME
from tests.lab.conftest import small


def write(
    folder: Path, config: RunConfig, curve: list[tuple[int, float, float]], stopped: str = "steps", **summary: float
) -> None:
    """A finished run as read from its files; curve: update, seconds, value."""
    folder.mkdir(parents=True)
    config.save(folder / checkpoint.CONFIG_NAME)
    metric = config.task.metric
    with (folder / LOG_NAME).open("w") as file:
        for step, seconds, value in curve:
            file.write(json.dumps({"kind": "train", "step": step, "seconds": seconds, "loss": 1.0}) + "\n")
            file.write(json.dumps({"kind": "valid", "step": step, metric: value}) + "\n")
    steps, seconds, _ = curve[-1]
    ending = {metric: curve[-1][2], "task": config.task.name, "stopped": stopped, "steps": steps, "seconds": seconds}
    checkpoint.write_summary(folder, {**ending, "command": f"reminding {folder.name}", **summary})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two methods, one with two seeds."""
    write(tmp_path / "T10" / "sab-seed0", small(seed=0), [(2, 10.0, 0.5), (4, 20.0, 0.4), (6, 30.0, 0.9)])
    write(tmp_path / "T10" / "sab-seed1", small(seed=1), [(2, 12.0, 0.3), (4, 24.0, 0.8)], backward_steps=7.0)
    write(tmp_path / "T10" / "lstm-seed0", small(model="lstm"), [(2, 1.0, 0.2), (4, 2.0, 0.6), (8, 4.0, 0.7)])
    return tmp_path
