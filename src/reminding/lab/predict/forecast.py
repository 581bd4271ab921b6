"""Forecasts of a table's next rows, by feeding each prediction back as the next input.

Shapes: T rows, C columns read, K columns predicted, S steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.lab.predict.given import table_values
from reminding.lab.runs.model import SequenceModel
from reminding.tasks import FileStream

CHUNK = 1000
"""Rows that are read at a time."""


class Rows(NamedTuple):
    """The rows of a table: their number, and a function that reads rows start to stop - 1, (n, C)."""

    total: int
    read: Callable[[int, int], NDArray[np.float64]]


def rows_of(task: FileStream, data: Any, columns: Sequence[str], what: str = "data") -> Rows:
    """The rows of a table that a user gives; a file is read a piece at a time.

    Args:
        data: a path, a table or an array.
        columns: that are read, by name.
        what: the name of the argument, for messages.
    """
    if isinstance(data, str | Path):
        path = Path(data)
        if not path.is_file():
            raise FileNotFoundError(f"{what}: {path} is not a file")
        source = task.open(path, columns)
        return Rows(source.steps(), source.read)
    values = table_values(data, columns, what)

    def read(start: int, stop: int) -> NDArray[np.float64]:
        return values[start:stop]

    return Rows(len(values), read)


class Scaling:
    """The scale of a task's columns, and the place of the predicted ones among them."""

    def __init__(self, task: FileStream) -> None:
        self.mean, self.deviation = task.scale
        self.targets = [task.column_names.index(name) for name in task.targets]
        self.known = [place for place, name in enumerate(task.column_names) if name not in task.targets]

    def scaled(self, values: NDArray[np.float64]) -> Tensor:
        """Rows as the model reads them, (T, 1, C), of rows in their own units, (T, C)."""
        return torch.as_tensor((values - self.mean) / self.deviation, dtype=torch.float32).unsqueeze(1)

    def own(self, prediction: Tensor) -> NDArray[np.float64]:
        """Predictions in their own units, (..., K)."""
        values = prediction.detach().cpu().double().numpy()
        return values * self.deviation[self.targets] + self.mean[self.targets]


def forecast(model: SequenceModel, task: FileStream, rows: Rows, steps: int, future: Any) -> NDArray[np.float64]:
    """Predict the rows that follow some rows, in the columns' own units.

    Args:
        rows: those so far; at least one.
        steps: S, at least 1.
        future: the known inputs of the S - 1 rows that follow; None: there are none.

    Returns:
        (S, K).

    Raises:
        ValueError: there are no rows, or known inputs of the future are missing.
    """
    scaling = Scaling(task)
    if rows.total < 1:
        raise ValueError("data must have at least 1 row, got none")
    known = _known_inputs(task, scaling, future, steps)
    state: Any = None
    last = torch.zeros(0)
    device = next(model.parameters()).device
    with torch.no_grad():
        for start in range(0, rows.total, CHUNK):
            chunk = scaling.scaled(rows.read(start, min(start + CHUNK, rows.total)))
            prediction, state, _ = model(chunk.to(device), state)
            last = prediction[-1:]
        found = [scaling.own(last[0, 0])]
        for step in range(steps - 1):
            row = np.empty((1, len(task.column_names)))
            row[0, scaling.targets] = found[-1]
            row[0, scaling.known] = known[step]
            last, state, _ = model(scaling.scaled(row).to(device), state)
            found.append(scaling.own(last[0, 0]))
    return np.stack(found)


def _known_inputs(task: FileStream, scaling: Scaling, future: Any, steps: int) -> NDArray[np.float64]:
    """The known inputs of the rows that are fed back, (S - 1, C - K)."""
    names = tuple(task.column_names[place] for place in scaling.known)
    if not names or steps == 1:
        return np.empty((steps - 1, len(names)))
    if future is None:
        raise ValueError(
            f"future: {steps} steps need the inputs {', '.join(names)} of the next {steps - 1} rows, which are read "
            "but not predicted"
        )
    given = rows_of(task, future, names, "future")
    if given.total < steps - 1:
        raise ValueError(f"future must have at least {steps - 1} rows for {steps} steps, got {given.total}")
    return given.read(0, steps - 1)
