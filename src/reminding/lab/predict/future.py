"""The known inputs of the rows that a forecast predicts: from the data themselves, or from a table of the user's.

Shapes: C columns, K columns predicted, S steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reminding.lab.predict.forecast import Rows, Scaling, check_file, opened, times_of
from reminding.lab.predict.frames import LATEST, distances_of, in_zone_of, is_dated, joined, times_index, utc
from reminding.lab.predict.given import table_values
from reminding.tasks import FileStream
from reminding.tasks.data.reading import Reading
from reminding.tasks.data.times.interval import TOLERANCE, distance_text

HOUR = 3600.0
"""Seconds that a clock may be put forward between two rows."""


class Inputs(NamedTuple):
    """What is known of the first rows of a forecast.

    Attributes:
        values: the known inputs of S - 1 rows, (S - 1, C - K) and their masks; NaN where a value is missing.
        times: the index of these rows, of the kind of the data's; None: the table of the inputs has none.
        reading: what was read of a file of the inputs.
    """

    values: NDArray[np.float64]
    times: Any = None
    reading: Reading | None = None


def needs_inputs(task: FileStream, steps: int) -> bool:
    """Whether a forecast of so many rows needs the known inputs of the rows after the first."""
    return steps > 1 and len(task.targets) < len(task.column_names)


def known_inputs(task: FileStream, rows: Rows, origin: int, steps: int, future: Any) -> Inputs:
    """The known inputs of the S - 1 rows from `origin` on.

    Args:
        rows: all that are there. If they go on long enough after the origin, they have the inputs.
        origin: number of the first row that is predicted.
        steps: S.
        future: a path, a table or an array with the inputs; None: there is none.

    Raises:
        FileNotFoundError: `future` is no file, whether or not it is needed.
        ValueError: they are needed and missing, or too few; or their times do not follow those of the data.
    """
    if isinstance(future, str | Path):
        check_file(future, "future")
    if not needs_inputs(task, steps):
        return Inputs(np.empty((steps - 1, 0)))
    if future is None and rows.total >= origin + steps - 1:
        return Inputs(rows.read(origin, origin + steps - 1)[:, Scaling(task).known])
    given = _read(task, future, steps - 1)
    if given.times is None or rows.times is None or origin < 1:
        return given._replace(times=None)
    name = rows.time or "time"
    before = times_index(rows.times(max(0, origin - LATEST), origin), name)
    step = None if rows.timing is None else rows.timing.step
    return given._replace(times=following(times_index(given.times, name), before, step))


def _read(task: FileStream, data: Any, steps: int) -> Inputs:
    """The values of the next rows, and their times as they are given; None: there are none."""
    names = tuple(name for name in task.column_names if name not in task.targets)
    if data is None:
        raise ValueError(
            f"future: {steps + 1} steps need the inputs {', '.join(names)} of the next {steps} rows, which are read "
            "but not predicted"
        )
    reading = None
    if isinstance(data, str | Path):
        source = opened(task, data, names, "future")
        total, values, times = source.steps(), source.read(0, steps), source.times(0, steps)
        reading = source.reading()
    else:
        given = table_values(data, names, "future", missing=task.missing in ("carry", "zero"), na=task.na)
        masked = [names.index(name) for name in task.masks if name in names]
        total, values = len(given), np.concatenate([given, np.isnan(given[:, masked])], axis=1)[:steps]
        times = None if (every := times_of(task, data)) is None else every[:steps]
    if total < steps:
        raise ValueError(f"future must have at least {steps} rows for {steps + 1} steps, got {total}")
    return Inputs(values, times, reading)


def following(times: Any, before: Any, step: float | None) -> Any:
    """The index of the next rows, in the time zone of the data.

    Args:
        times: of the next rows; before: of the last rows of the data, at least one: two indices.
        step: the usual distance of the training data, in seconds if they are dated; None: it is not known.

    Raises:
        ValueError: they are of two kinds; or the first is not later than the data; or the distance of two rows is
            none that the data have, so that the inputs are those of other rows.
    """
    try:
        given = in_zone_of(times, before)
        later = bool(utc(given)[0] > utc(before)[-1])
    except TypeError as error:
        raise ValueError(f"future: its times and those of the data are of two kinds: {error}") from error
    if not later:
        raise ValueError(f"future must begin after the last row of the data, {utc(before)[-1]}, got {utc(given)[0]}")
    usual = [*distances_of(before), *([] if step is None else [step])]
    if usual:
        _check_distances(joined(before[-1:], given), usual, dated=is_dated(given))
    return given


def _between(distances: NDArray[np.float64], least: float, most: float) -> NDArray[np.bool_]:
    """Which of some distances are about those from the least to the most that are usual."""
    return (distances >= least / TOLERANCE) & (distances <= most * TOLERANCE)


def _check_distances(times: Any, usual: Sequence[float], *, dated: bool) -> None:
    """Refuse times, the first of which is the data's last, whose distances are none of the data's, `usual`."""
    least, most = min(usual), max(usual)
    distances = distances_of(times)
    usual_ones = _between(distances, least, most)
    if dated and utc(times) is times:  # of the wall clock, which is put forward by an hour
        usual_ones |= _between(distances - HOUR, least, most)
    wrong = ~usual_ones
    if not wrong.any():
        return
    row = int(wrong.argmax())
    before, here = utc(times)[row : row + 2]
    place = "the last row of the data" if row == 0 else f"row {row - 1}"
    told, *ends = (distance_text(each, dated=dated) for each in (float(distances[row]), least, most))
    raise ValueError(
        f"future: row {row}, {here}, is {told} after {place}, {before}, and the rows of the data are "
        f"{' to '.join(dict.fromkeys(ends))} apart. If it is the next row, leave the times out of this table"
    )
