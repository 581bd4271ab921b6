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

from reminding.lab.predict.frames import times_index, utc
from reminding.lab.predict.given import names_of, table_times, table_values
from reminding.lab.runs.model import SequenceModel
from reminding.tasks import FileStream
from reminding.tasks.data.reading import Reading
from reminding.tasks.data.tables import TableSource
from reminding.tasks.data.tables.clock import Timing
from reminding.tasks.files.known import MASK

CHUNK = 1000
"""Rows that are read at a time."""


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
        source = _opened(task, data, None, "data")
        times = None if source.clock is None else source.times
        timing = task.known.timing
        return Rows(source.steps(), source.read, times, task.time, source.reading(), source.numbers, timing)
    given = table_values(data, task.column_names, missing=task.missing != "error")
    values = task.filled(given)
    kept = np.flatnonzero(~np.isnan(given).any(1)) if task.missing == "drop" else np.arange(len(given))
    numbers = None if len(kept) == len(given) else _slices(kept)
    times = _times_of(task, data)
    read_times = None if times is None else _slices(times[kept])
    return Rows(len(values), _slices(values), read_times, task.time, None, numbers, task.known.timing)


def _slices(values: NDArray[Any]) -> Callable[[int, int], NDArray[Any]]:
    """What gives rows start to stop - 1 of an array."""
    return lambda start, stop: values[start:stop]


def _times_of(task: FileStream, data: Any) -> NDArray[Any] | None:
    """The times of a table in memory, (T,), read as those of the training data; None: it has no time column."""
    names = [str(name).strip() for name in names_of(data) or ()]
    if task.time is None or task.time.strip() not in names:
        return None
    return table_times(data, task.time, task.known.timing)


def future_of(task: FileStream, data: Any, steps: int, last: Any = None) -> NDArray[np.float64]:
    """The known inputs of the next rows, (n, C - K) and their masks, NaN where a value is missing.

    Args:
        data: a path, a table or an array; None: there are none.
        steps: n, the rows that are needed.
        last: the time of the row before them, (1,); None: it is not known.

    Raises:
        ValueError: they are needed and missing, or too few; or the first is not later than the row before.
    """
    names = tuple(name for name in task.column_names if name not in task.targets)
    if data is None:
        raise ValueError(
            f"future: {steps + 1} steps need the inputs {', '.join(names)} of the next {steps} rows, which are read "
            "but not predicted"
        )
    if isinstance(data, str | Path):
        source = _opened(task, data, names, "future")
        total, values, times = source.steps(), source.read(0, steps), source.times(0, 1)
    else:
        given = table_values(data, names, "future", missing=task.missing in ("carry", "zero"))
        masked = [names.index(name) for name in task.masks if name in names]
        total, values = len(given), np.concatenate([given, np.isnan(given[:, masked])], axis=1)[:steps]
        times = None if (every := _times_of(task, data)) is None else every[:1]
    if total < steps:
        raise ValueError(f"future must have at least {steps} rows for {steps + 1} steps, got {total}")
    if last is not None and times is not None:
        _check_later(times, last, task.time or "")
    return values


def _check_later(times: Any, last: Any, name: str) -> None:
    """Refuse known inputs whose first time is not later than that of the row before.

    Args:
        times, last: the two times, (1,) each, as a file or a table has them.
    """
    first, before = (utc(times_index(each, name))[0] for each in (times, last))
    try:
        later = bool(first > before)
    except TypeError as error:
        raise ValueError(f"future: its times and those of the data are of two kinds: {error}") from error
    if not later:
        raise ValueError(f"future must begin after the last row of the data, {before}, got {first}")


def _opened(task: FileStream, data: str | Path, columns: Sequence[str] | None, what: str) -> TableSource:
    source = task.open(_file(data, what), columns)
    assert isinstance(source, TableSource)
    return source


def _file(data: str | Path, what: str) -> Path:
    path = Path(data)
    if not path.is_file():
        raise FileNotFoundError(f"{what}: {path} is not a file")
    return path


class Scaling:
    """A task's inputs in their own units and on the scale, row by row."""

    def __init__(self, task: FileStream) -> None:
        self._task, self._scale = task, task.target_scale
        self.targets = task.known.target_places
        names = task.input_names
        known = [name for name in task.column_names if name not in task.targets]
        known += [f"{name}{MASK}" for name in task.masks if name in known]
        self.known = [names.index(name) for name in known]

    def scaled(self, values: NDArray[np.float64]) -> Tensor:
        """Rows as the model reads them, (T, 1, I), of rows in their own units, (T, I)."""
        return torch.as_tensor(self._task.prepared(values), dtype=torch.float32).unsqueeze(1)

    def own(self, prediction: Tensor) -> NDArray[np.float64]:
        """Predictions in their own units, (..., K)."""
        return self._scale.undo(prediction.detach().cpu().double().numpy())

    def carried(self, row: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
        """A row (I,) with the values of the row before where they are missing, if the task carries them."""
        return np.where(np.isnan(row), before, row) if self._task.missing == "carry" else row


def known_inputs(task: FileStream, rows: Rows, origin: int, steps: int, future: Any) -> NDArray[np.float64]:
    """The known inputs of the S - 1 rows from `origin` on, (S - 1, C - K) and their masks.

    Args:
        rows: all that are there. If they go on long enough after the origin, they have the inputs.
        origin: number of the first row that is predicted.
        steps: S.
        future: a path, a table or an array with the inputs; None: there is none.

    Raises:
        FileNotFoundError: `future` is no file, whether or not it is needed.
        ValueError: they are needed and missing, or too few; or they begin before the first row that is predicted.
    """
    if isinstance(future, str | Path):
        _file(future, "future")
    if not needs_inputs(task, steps):
        return np.empty((steps - 1, 0))
    if future is None and rows.total >= origin + steps - 1:
        return rows.read(origin, origin + steps - 1)[:, Scaling(task).known]
    last = None if rows.times is None or origin < 1 else rows.times(origin - 1, origin)
    return future_of(task, future, steps - 1, last)


def needs_inputs(task: FileStream, steps: int) -> bool:
    """Whether a forecast of so many rows needs the known inputs of the rows after the first."""
    return steps > 1 and len(task.targets) < len(task.column_names)


def next_rows(
    model: SequenceModel, task: FileStream, rows: Rows, steps: int, known: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Predict the rows that follow some rows, in the columns' own units.

    Args:
        rows: those so far; at least one.
        steps: S, at least 1.
        known: what `known_inputs` gives.

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
        for start in range(0, rows.total, CHUNK):
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
