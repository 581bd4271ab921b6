"""The values of a table's next rows, by feeding each prediction back as the next input.

Shapes: T rows, C columns, I values of a row: the columns, then the masks; K columns predicted, S steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.lab.predict.given import INDEXED, check_index, names_of, table_times, table_values
from reminding.lab.runs.model import SequenceModel
from reminding.tasks import FileStream
from reminding.tasks.data.reading import Reading
from reminding.tasks.data.tables import TableSource
from reminding.tasks.data.tables.clock import Timing

CHUNK = 1000
"""Rows that the network reads at a time."""


@dataclass(frozen=True)
class Rows:
    """The rows of a table.

    Args:
        total: their number.
        read: reads rows start to stop - 1 as the training data were read, (n, I): with NaN where a value is missing
            and was not carried, and with masks.
        times: the time column of rows start to stop - 1, as an array or a column of a table; None: it has none.
        time: its name.
        reading: what was read of a file.
        numbers: the numbers of rows start to stop - 1 in the data, from 0; None: no row was left out.
        timing: what is known of the times of the training data.
    """

    total: int
    read: Callable[[int, int], NDArray[np.float64]]
    times: Callable[[int, int], Any] | None = None
    time: str | None = None
    reading: Reading | None = None
    numbers: Callable[[int, int], NDArray[np.int64]] | None = None
    timing: Timing | None = None

    def numbers_of(self, start: int, stop: int) -> range | NDArray[np.int64]:
        """The numbers of rows start to stop - 1 in the data; a range where no row was left out."""
        return range(start, stop) if self.numbers is None else self.numbers(start, stop)

    def without_last(self, count: int) -> Rows:
        """The rows without the last ones.

        Raises:
            ValueError: none would be left.
        """
        if not 0 <= count < self.total:
            raise ValueError(f"held_out must be from 0 to {self.total - 1}, for {self.total} rows, got {count}")
        return replace(self, total=self.total - count)


def rows_of(task: FileStream, data: Any) -> Rows:
    """The rows of a table that a user gives; a file is read a piece at a time.

    Args:
        data: a path, a table or an array.
    """
    if isinstance(data, str | Path):
        source = opened(task, data, None, "data")
        times = None if source.clock is None else source.times
        timing = task.known.timing
        reading = task.reading_of(source)
        return Rows(source.steps(), source.read, times, task.time, reading, source.numbers, timing)
    given = table_values(data, task.column_names, missing=task.missing != "error", na=task.na)
    values = task.filled(given)
    kept = np.flatnonzero(~np.isnan(given).any(1)) if task.missing == "drop" else np.arange(len(given))
    numbers = None if len(kept) == len(given) else _slices(kept)
    if (times := times_of(task, data)) is None:
        _check_timed(task, data)
    read_times = None if times is None else _slices(times[kept])
    return Rows(len(values), _slices(values), read_times, task.time, None, numbers, task.known.timing)


def _check_timed(task: FileStream, data: Any) -> None:
    """Refuse a table in memory without the time column of the training data, unless its index has the times."""
    names, index = names_of(data), getattr(data, "index", None)
    if task.time is not None and names is not None and getattr(index, "inferred_type", None) not in INDEXED:
        raise ValueError(
            f"time: data has no {task.time!r}; it has {', '.join(map(str, names))}. The index of a pandas table may "
            "have the times instead, as points in time or periods"
        )


def _slices(values: NDArray[Any]) -> Callable[[int, int], NDArray[Any]]:
    """What gives rows start to stop - 1 of an array."""
    return lambda start, stop: values[start:stop]


def times_of(task: FileStream, data: Any) -> NDArray[Any] | None:
    """The times of a table in memory, (T,), read as those of the training data; None: it has no time column.

    Raises:
        ValueError: a row is not later than the one before, by its time or, without a time column, by its index.
    """
    names = [str(name).strip() for name in names_of(data) or ()]
    if task.time is None or task.time.strip() not in names:
        check_index(data)
        return None
    return table_times(data, task.time, task.known.timing)


def opened(task: FileStream, data: str | Path, columns: Sequence[str] | None, what: str) -> TableSource:
    """A table's file, read as the training data were.

    Args:
        columns: the only ones that are read; None: those of the task.
        what: the argument that the file is, for messages.
    """
    check_file(data, what)
    source = task.open(Path(data), columns)
    assert isinstance(source, TableSource)
    return source


def check_file(data: str | Path, what: str) -> None:
    """Refuse what is no file.

    Raises:
        FileNotFoundError: it is none; the message begins with `what`.
    """
    if not Path(data).is_file():
        raise FileNotFoundError(f"{what}: {data} is not a file")


class Scaling:
    """A task's inputs in their own units and on the scale, row by row."""

    def __init__(self, task: FileStream) -> None:
        self._task, self._scale = task, task.target_scale
        self.targets = task.known.target_places
        masks = task.known.mask_places
        known = [name for name in task.column_names if name not in task.targets]
        self.known = [*map(task.column_names.index, known), *(masks[name] for name in task.masks if name in known)]

    def scaled(self, values: NDArray[np.float64]) -> Tensor:
        """Rows as the model reads them, (T, 1, I), of rows in their own units, (T, I)."""
        return torch.as_tensor(self._task.prepared(values), dtype=torch.float32).unsqueeze(1)

    def own(self, prediction: Tensor) -> NDArray[np.float64]:
        """Predictions in their own units, (..., K)."""
        return self._scale.undo(prediction.detach().cpu().double().numpy())

    def carried(self, row: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
        """A row (I,) with the values of the row before where they are missing, if the task carries them."""
        return np.where(np.isnan(row), before, row) if self._task.missing == "carry" else row


def next_rows(
    model: SequenceModel,
    task: FileStream,
    rows: Rows,
    steps: int,
    known: NDArray[np.float64],
    context: int | None = None,
) -> NDArray[np.float64]:
    """Predict the rows that follow some rows, in the columns' own units.

    Args:
        rows: those so far; at least one.
        steps: S, at least 1.
        known: the known inputs of the S - 1 rows that follow, (S - 1, C - K) and their masks.
        context: number of the last rows that are read; None: all.

    Returns:
        (S, K).

    Raises:
        ValueError: there are no rows.
    """
    if rows.total < 1:
        raise ValueError("data must have at least 1 row, got none")
    scaling = Scaling(task)
    state: Any = None
    last, row = torch.zeros(0), np.zeros(0)
    device = next(model.parameters()).device
    with torch.no_grad():
        first = 0 if context is None else max(0, rows.total - context)
        for start in range(first, rows.total, CHUNK):
            chunk = rows.read(start, min(start + CHUNK, rows.total))
            prediction, state, _ = model(scaling.scaled(chunk).to(device), state)
            last, row = prediction[-1:], chunk[-1]
        found = [scaling.own(last[0, 0])]
        for step in range(steps - 1):
            following = np.zeros(len(row))
            following[scaling.targets] = found[-1]
            following[scaling.known] = known[step]
            row = scaling.carried(following, row)
            last, state, _ = model(scaling.scaled(row[None]).to(device), state)
            found.append(scaling.own(last[0, 0]))
    return np.stack(found)
