"""Numbers that are not finite end a run, with the place where they were found, or the input that they come from."""

from __future__ import annotations

from typing import Any

import numpy as np

from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.watch import calmer
from reminding.tasks import Batch, FileStream
from reminding.tasks.kinds.base import EvalSplit

LARGE = 1e6
"""Standard deviations. Measured values do not come near: a value as far from the mean stands for something else, as
a rule for a missing one."""
PIECE = 10_000
"""Rows that are read at a time."""


class NotFiniteError(ValueError):
    """A batch, a loss or a gradient was NaN or infinite."""


def check_input(batch: Batch, number: int) -> None:
    """Refuse a batch whose input is not finite.

    Raises:
        NotFiniteError: names the update, and the first bad step (counted from 1) and row.
    """
    if not batch.input.is_floating_point() or bool(batch.input.isfinite().all()):
        return
    bad = (~batch.input.isfinite()).flatten(2).any(2).nonzero()  # (n, 2), by time first
    step, row = (int(index) for index in bad[0])
    value = batch.input[step, row][~batch.input[step, row].isfinite()][0]
    raise NotFiniteError(
        f"update {number}: input holds {float(value)} at step {step + 1} of sequence {row} of the batch"
    )


def cause(config: RunConfig) -> str:
    """Why a metric of the test is not finite though all weights are, and what to do about it."""
    if (found := large_value(config.task, "test")) is not None:
        return f"In the test split, {found}"
    return f"The network's state grows without bound on the test split: {calmer(config.model, config.train)}"


def large_value(task: Any, split: EvalSplit) -> str | None:
    """The value of a table's held-out part that is furthest from the mean, and what to do about it, as text.

    Returns:
        None if it is nearer than `LARGE`, or if the task reads no table.
    """
    if not isinstance(task, FileStream) or task.vocabulary is not None:
        return None
    furthest, place, names = LARGE, None, task.input_names
    for piece in (piece for row in range(task.eval_rows) for piece in task.held_out_row(split, row).pieces):
        for start in range(piece.start, piece.stop, PIECE):
            values = task.opened.read(start, min(start + PIECE, piece.stop))  # (n, I)
            far = np.abs(task.prepared(values))
            row, column = np.unravel_index(int(far.argmax()), far.shape)
            if far[row, column] >= furthest:
                furthest = float(far[row, column])
                place = start + int(row), names[column], values[row, column]
    if place is None:
        return None
    step, name, value = place
    return (
        f"the column {name!r} in {task.opened.where(step)} is {value:g}, which is {furthest:.3g} standard deviations "
        "from the mean of the training rows; if it stands for a missing value, name it by --na, and say by --missing "
        "what becomes of it"
    )
