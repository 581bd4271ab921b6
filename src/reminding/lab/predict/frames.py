"""Results as pandas tables, on the terminal and in files. The one file that imports pandas.

Shapes: N rows, C columns.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reminding.disk.writing import make_folder, replacing, write_text
from reminding.tasks.data.tables.clock import Timing
from reminding.tasks.data.tables.database import write_parquet
from reminding.tasks.data.times.calendar import LAST, Monthly, monthly, months_after, working_days, working_days_after
from reminding.tasks.data.times.interval import TOLERANCE, times_following, unit_of, usual_interval

LATEST = 1000
"""The last rows, whose times say which distances are usual, and whose last known values no change repeats."""
REGULAR = 100
"""Rows at the end whose times are looked at for a calendar's step."""
ROW = "row"
"""The name of an index of row numbers, which count from 0."""


def pandas() -> Any:
    """The library.

    Raises:
        ImportError: it is missing; the message says what to install.
    """
    try:
        return importlib.import_module("pandas")
    except ImportError as error:
        raise ImportError('predictions are pandas tables: pip install "reminding[data]"') from error


def frame_of(columns: Sequence[str], values: NDArray[Any], index: Any) -> Any:
    """A table of values (N, C)."""
    return pandas().DataFrame(values, columns=list(columns), index=index)


def labels_frame(classes: Sequence[str], probabilities: NDArray[np.float64], index: Any) -> Any:
    """A table with the most probable label of each row, and the probability of every class, (N, C)."""
    frame = frame_of(classes, probabilities, index)
    label = [classes[number] for number in probabilities.argmax(1)]
    frame.insert(0, "label", label, allow_duplicates=True)  # a class may be called so
    return frame


def row_numbers(first: int, count: int, name: str = ROW) -> Any:
    """An index of row numbers."""
    return pandas().RangeIndex(first, first + count, name=name)


def names_index(names: Sequence[str], name: str) -> Any:
    """An index of names."""
    return pandas().Index(list(names), name=name)


def index_of(data: Any, rows: int, name: str = ROW) -> Any:
    """The index of a pandas table of so many rows; row numbers for anything else.

    A table of other rows is one series or one image, whose index does not name it.

    Args:
        name: of the row numbers.
    """
    index = getattr(data, "index", None)
    return row_numbers(0, rows, name) if index is None or callable(index) or len(index) != rows else index


def index_at(data: Any, numbers: range | NDArray[np.int64]) -> Any:
    """The index of some rows: that of a pandas table if it is one of times, else the row numbers.

    Args:
        numbers: of the rows in the data, from 0.
    """
    index: Any = getattr(data, "index", None)
    if isinstance(index, pandas().PeriodIndex):
        index = index.to_timestamp()
    if is_dated(index):
        return index[numbers.start : numbers.stop] if isinstance(numbers, range) else index[numbers]
    if isinstance(numbers, range):
        return row_numbers(numbers.start, len(numbers))
    return pandas().Index(numbers, name=ROW)


def index_after(data: Any, numbers: range | NDArray[np.int64], steps: int) -> Any:
    """The index of the rows that follow some rows.

    If `data` is a pandas table with an index of times, they go on by its regular step. Otherwise the index is the row
    number.

    Args:
        numbers: of the rows in the data, from 0.
    """
    index = index_at(data, numbers)
    if len(numbers) < 2 or not is_dated(index):
        return row_numbers(int(numbers[-1]) + 1 if len(numbers) else 0, steps)
    return _dates_after(index, steps, None)


def utc(index: Any) -> Any:
    """An index of times whose points in time, if they have a time zone, are those of UTC without one."""
    return index.tz_convert(None) if getattr(index, "tz", None) is not None else index


def is_dated(index: Any) -> bool:
    """Whether an index has points in time."""
    return isinstance(index, pandas().DatetimeIndex)


def in_zone_of(index: Any, other: Any) -> Any:
    """An index in the time zone of another. Points in time without a zone are those of UTC."""
    if not (is_dated(index) and is_dated(other)):
        return index
    zoned = index if index.tz is not None else index.tz_localize("UTC")
    return zoned.tz_convert(other.tz)


def joined(first: Any, second: Any) -> Any:
    """Two indices after each other. An empty one has no kind of its own: it leaves the other's as it is."""
    if not len(first) or not len(second):
        return first if len(first) else second
    return first.append(second)


def distances_of(times: Any) -> NDArray[np.float64]:
    """The distances of the times of an index, (n - 1,), in seconds if they are points in time."""
    distances = pandas().Series(utc(times)).diff()[1:]
    return (distances.dt.total_seconds() if is_dated(times) else distances).to_numpy(np.float64)


def times_index(times: Any, name: str) -> Any:
    """The times of rows as an index.

    Args:
        times: in an array, or in a column of a table: points in time, as such or as text, or numbers.
        name: of the time column.

    Raises:
        ValueError: they are neither.
    """
    values: NDArray[Any] = np.asarray(times)
    if values.dtype.kind not in "iuf":
        try:
            return pandas().DatetimeIndex(values, name=name)
        except (TypeError, ValueError) as error:
            raise ValueError(f"time: the column {name!r} cannot be read as times: {error}") from error
    whole = values.dtype.kind in "iu" or bool((values == np.round(values)).all())
    return pandas().Index(values.astype(np.int64) if whole else values, name=name)


def times_after(times: Any, name: str, steps: int, known: Timing | None = None) -> Any:
    """The times that follow those of the last rows, by their usual interval.

    Args:
        times, name: as for `times_index`.
        known: of the training data, whose step is taken if these times have no regular one.

    Raises:
        ValueError: they are neither points in time nor numbers.
    """
    index = times_index(times, name)
    if is_dated(index):
        return _dates_after(index, steps, known if known is not None and known.dated else None)
    values: NDArray[Any] = np.asarray(times)
    step, own = usual_interval(values) if len(values) > 1 else 1.0, True
    if known is not None and known.step is not None and not known.dated and not is_regular(np.diff(values)):
        step, own = known.step, False
    return times_index(times_following(values, step, steps, own=own), name)


def is_regular(distances: NDArray[Any]) -> bool:
    """Whether more than half of at least two distances are about the median."""
    if len(distances) < 2:
        return False
    shares = np.asarray(distances, np.float64) / float(np.median(distances))
    return bool(((shares < TOLERANCE) & (shares > 1 / TOLERANCE)).mean() > 0.5)


def _dates_after(times: Any, steps: int, known: Timing | None) -> Any:
    """Points in time that go on by their step if it is one, else by that of the calendar, else by the usual distance.

    Where most distances differ from the median, or there are too few to tell, the step is that of the training data.
    """
    library = pandas()
    latest = times[-REGULAR:]
    distances = latest.to_series().diff()[1:]
    regular = times.freq
    if regular is None and distances.nunique() > 1 and len(latest) > 2:
        with warnings.catch_warnings():  # pandas tells that the kind of the result will change; either is taken
            warnings.simplefilter("ignore")
            regular = library.infer_freq(latest)
        if regular is not None and not _goes_by(latest, regular):
            regular = None
    if regular is not None:
        return library.date_range(times[-1], periods=steps + 1, freq=regular, name=times.name)[1:]
    distances = times.to_series().diff()[1:]
    if known is not None and known.step is not None and not is_regular(distances.to_numpy().astype(np.int64)):
        if known.months is not None:
            return _by_months(times, Monthly(known.months, _day_of(times, known.day)), steps)
        step = library.Timedelta(seconds=known.step)
    elif (following := _calendar_after(times, steps)) is not None:
        return following
    elif len(times) > 1:
        return _steadily_after(times, steps)
    else:
        step = library.Timedelta(seconds=1)
    return library.DatetimeIndex([times[-1] + (number + 1) * step for number in range(steps)], name=times.name)


def _goes_by(times: Any, regular: str) -> bool:
    """Whether points in time follow from the first; pandas takes any eight hours a day for those from 9 to 17."""
    return bool((pandas().date_range(times[0], periods=len(times), freq=regular) == times).all())


def _steadily_after(times: Any, steps: int) -> Any:
    """Points in time that go on by the usual distance of at least two, rounded as they are."""
    values: NDArray[np.int64] = np.asarray(times.asi8)  # in UTC
    interval, unit = usual_interval(values), unit_of(np.diff(values))
    further = np.rint(interval * np.arange(1, steps + 1) / unit).astype(np.int64) * unit
    found = pandas().DatetimeIndex((values[-1] + further).astype(f"datetime64[{times.unit}]"), name=times.name)
    return found if times.tz is None else found.tz_localize("UTC").tz_convert(times.tz)


def _day_of(times: Any, known: int | None) -> int:
    """The day of the month that the last time is on, which may be cut to the month's end.

    Args:
        known: that of the training data; None: unknown.
    """
    last = times[-1]
    if known is not None and last.day == min(known, last.days_in_month):
        return known
    return LAST if bool(times.is_month_end.all()) else int(last.day)


def _calendar_after(times: Any, steps: int) -> Any:
    """Points in time that go on by months, by working days, or by days in a time zone; None if they do not."""
    if len(times) < 2:
        return None
    local = times.tz_localize(None)
    if (found := monthly(local.to_numpy())) is not None:
        return _by_months(times, found, steps)
    if (working := working_days(local[-REGULAR:].to_numpy())) is not None:
        return _in_zone(pandas().DatetimeIndex(working_days_after(local.to_numpy()[-1], working, steps)), times)
    if times.tz is None or (local - local.normalize()).nunique() > 1:
        return None
    step = np.median(np.diff(local.normalize().to_numpy().astype("datetime64[D]").astype(np.int64)))
    days = pandas().to_timedelta(np.round(step) * np.arange(1, steps + 1), unit="D")
    return _in_zone(local[-1] + days, times)


def _by_months(times: Any, found: Monthly, steps: int) -> Any:
    """Points in time that go on by months of the wall clock."""
    last = times.tz_localize(None).to_numpy()[-1]
    return _in_zone(pandas().DatetimeIndex(months_after(last, found, steps)), times)


def _in_zone(local: Any, times: Any) -> Any:
    """Times of the wall clock as points in time, in the zone of others and with their name."""
    zoned = local.tz_localize(times.tz, ambiguous=np.ones(len(local), bool), nonexistent="shift_forward")
    return zoned.rename(times.name)


def check_suffix(path: Path) -> str:
    """The suffix of a table's file.

    Raises:
        ValueError: it is neither .csv nor .parquet.
    """
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise ValueError(f"out must end in .csv or .parquet, got {path}")
    return path.suffix.lower()


def check_spared(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Refuse to write over a file that is read.

    Args:
        outputs, inputs: name of an argument -> its file; None: there is none.

    Raises:
        ValueError: a file is both, perhaps by another name.
    """
    for out, written in outputs.items():
        for name, read in inputs.items():
            if written and read and written.exists() and read.exists() and written.samefile(read):
                raise ValueError(f"{out} must be another file than {name}, got {written}")


def write_frame(frame: Any, path: Path) -> None:
    """Write a table, with its index, to a CSV or Parquet file.

    The index, or the column of labels, is called `row.1` in the place of `row` where another column is called so.
    """
    kind = check_suffix(path)
    frame = _told_apart(frame)
    make_folder(path.parent)
    if kind == ".csv":
        write_text(path, frame.to_csv())
    else:
        with replacing(path) as unfinished:
            write_parquet(frame.reset_index(), unfinished)


def _told_apart(frame: Any) -> Any:
    """The same table with names that differ: the index gives way to columns, and a column to those after it."""
    columns: list[Any] = []
    for name in reversed(list(frame.columns)):
        columns.insert(0, _free(name, {str(each) for each in columns}))
    small = {str(each).lower() for each in columns}  # capitals do not tell columns of Parquet apart
    index = [name if name is None else _free(name, small, str.lower) for name in frame.index.names]
    return frame.set_axis(columns, axis=1).rename_axis(index=index)


def _free(name: Any, taken: set[str], key: Callable[[str], str] = str) -> Any:
    """The name or, if its key is taken, the first with a number behind it whose key is free."""
    return next(each for each in chain([name], (f"{name}.{i}" for i in count(1))) if key(str(each)) not in taken)


def cells_of(frame: Any, told: Callable[[int, float], str]) -> tuple[list[str], list[list[str]]]:
    """The columns and rows of a table as text, the index first.

    Args:
        told: makes text of a number, by the place of its column.
    """
    columns = [str(frame.index.name or ROW), *map(str, frame.columns)]
    rows = [
        [str(index), *(told(i, value) if isinstance(value, float) else str(value) for i, value in enumerate(row))]
        for index, *row in frame.itertuples(name=None)
    ]
    return columns, rows
