"""A table with dates and a unit, and explanations made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reminding.lab.explain.explanation import Explanation, Reminders
from reminding.lab.explain.legend import Legend
from reminding.lab.runs.checkpoint import save_weights, with_facts
from reminding.lab.runs.config import ModelOptions, RunConfig
from reminding.lab.runs.facts import save_facts
from reminding.lab.runs.model import SequenceModel
from reminding.tasks import FileStream

ROWS = 400
HOURS = [f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00" for i in range(ROWS)]


def table(folder: Path) -> tuple[Path, Path, np.ndarray[Any, Any]]:
    """A file of two columns with dates, a run on it with its initial weights, and its rows, (T, 2)."""
    rng = np.random.default_rng(0)
    values = np.stack([20 + 5 * np.sin(np.arange(ROWS) / 8), rng.normal(300, 40, ROWS)], 1).round(2)
    lines = [f"{when},{warm},{flow}" for when, (warm, flow) in zip(HOURS, values.tolist(), strict=True)]
    path = folder / "oven.csv"
    path.write_text("\n".join(["when,warm,flow", ",degC,l/h", *lines]) + "\n")
    task = FileStream(path, target=("warm",), time="when", chunk=20, eval_rows=2, held_out=100)
    options = ModelOptions(hidden_size=8, k_trunc=3, capacity=16)
    run = folder / "run"
    run.mkdir()
    config = with_facts(RunConfig(task, options), run, resume=False)
    save_facts(run, config.task)
    config.save(run / "config.json")
    save_weights(run, SequenceModel(config.task, config.model))
    return path, run, values


Recalled = Mapping[int, Sequence[tuple[int, float]]]
"""Step -> the memories that it recalled, each with its weight."""


def by_hand(legend: Legend, prediction: Any, target: Any, recalled: Recalled) -> Explanation:
    """An explanation of some steps, with a memory stored at every second one."""
    prediction = np.asarray(prediction, np.float64)
    steps = len(prediction)
    step, weight = np.zeros((steps, 2), np.int64), np.zeros((steps, 2))
    for reader, memories in recalled.items():
        for slot, (memory, amount) in enumerate(memories):
            step[reader - 1, slot], weight[reader - 1, slot] = memory, amount
    later, slot = np.nonzero(step)
    found = Reminders(step, weight, later + 1, step[later, slot], 2 * weight[later, slot])
    given = np.arange(steps) % max(len(legend.names), 1) if legend.kind == "tokens" else np.zeros((steps, 1))
    return Explanation(
        "test sequence 0", "the task's loss", legend, given, prediction, np.asarray(target), (found,), 2
    )
