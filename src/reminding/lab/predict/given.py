"""Data that a user gives, as numbers: pandas, polars and Arrow tables, and arrays. No library of tables is imported.

Shapes: T rows, C columns, N series, n values of a series, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.tables.cells import plain_float, sentinels
from reminding.tasks.data.tables.clock import Timing, text_times
from reminding.tasks.data.times.written import whole_times

TIMES = (date, time, timedelta, np.datetime64, np.timedelta64)
"""What a time is among other objects."""
TRUTH = {"true": 1.0, "false": 0.0}
"""Texts that are read as numbers, as in files."""
INDEXED = ("datetime64", "datetime", "date", "period", "timedelta64", "timedelta")
"""What pandas says an index of times holds."""


def names_of(data: Any) -> list[Any] | None:
    """The column names of a table, which are numbers in some; None if `data` is no table.

    Raises:
        ValueError: the table is only a plan, a LazyFrame of polars.
    """
    if hasattr(data, "collect") and hasattr(data, "collect_schema"):
        raise ValueError(f"data is a {type(data).__name__}, expected a table in memory; collect it first")
    names = getattr(data, "column_names", None)  # of an Arrow table, whose `columns` are the columns themselves
    names = getattr(data, "columns", None) if names is None else names
    return None if names is None or callable(names) else list(names)


def table_values(
    data: Any, columns: Sequence[str], what: str = "data", *, missing: bool = False, na: Sequence[str] = ()
) -> NDArray[np.float64]:
    """Some columns of a table by name, or of an array in this order: (T, C).

    Args:
        what: the name of the argument, for messages.
        missing: whether values may be missing; they are NaN then.
        na: words and numbers that stand for a missing value.

    Raises:
        ValueError: a column is missing, there twice or not numeric; a value is missing or infinite; or an array has
            another number of columns. The message names column and row.
    """
    names = names_of(data)
    if names is None:
        values = _array(data, what)
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or values.shape[1] != len(columns):
            raise ValueError(
                f"{what} must be (T, {len(columns)}), with the columns {', '.join(columns)}, got {np.shape(data)}"
            )
    else:
        places = _found(names, columns, what)
        values = np.stack(
            [_column(_cells(data, names[i]), name, what) for i, name in zip(places, columns, strict=True)], axis=1
        )
    values = without_sentinels(values, na)
    _refuse_gaps(values, columns, what, missing)
    return values


def without_sentinels(values: NDArray[np.float64], na: Sequence[str]) -> NDArray[np.float64]:
    """Values with NaN in the place of the numbers among `na`, which stand for a missing value, as in files."""
    numbers = np.array(sentinels(na))
    with np.errstate(over="ignore"):
        single = numbers.astype(np.float32).astype(np.float64)  # in which -999.9 is another number
    named = np.isin(values, [*numbers, *single[np.isfinite(single)]])
    return np.where(named, np.nan, values)


def table_times(data: Any, name: str, known: Timing | None = None) -> NDArray[Any]:
    """The times of a table's rows, (T,): points in time, or numbers; durations in seconds.

    Args:
        known: of the training data; see `read_clock`.

    Raises:
        ValueError: the column is there twice, a cell is no time, or a row is not later than the one before.
    """
    names = names_of(data) or ()
    times: NDArray[Any] = np.asarray(_cells(data, names[_found(names, [name], "time")[0]]))
    absent = np.array([_is_absent(each) for each in times], bool)
    absent |= np.isinf(times) if times.dtype.kind == "f" else False
    if times.dtype.kind in "OUST" and all(isinstance(each, str) for each in times[~absent]):
        return text_times(np.where(absent, "", times), name, known)
    if absent.any():
        raise ValueError(f"time: row {absent.argmax()} of the column {name!r} holds no time")
    try:
        if times.dtype.kind == "m" or (len(times) and isinstance(times[0], timedelta)):
            times = times.astype("timedelta64[us]").astype(np.int64) / 1e6
        elif times.dtype.kind in "iuf" and (known is None or known.dated):
            dated = whole_times(times)
            times = times if dated is None else dated
        wrong = ~np.asarray(times[1:] > times[:-1], bool)
    except (TypeError, ValueError) as error:
        raise ValueError(f"time: the column {name!r} holds no times: {error}") from error
    if wrong.any():
        row = wrong.argmax() + 1
        raise ValueError(
            f"time: row {row} of the column {name!r}, {times[row]}, is not later than the row before; sort the rows"
        )
    return times


def check_index(data: Any) -> None:
    """Refuse a pandas table, or a column of one, whose rows are in another order than the times of its index.

    Args:
        data: anything; an index of numbers or names says nothing of the order.

    Raises:
        ValueError: the index is one of times, and one is missing or is not later than the one before.
    """
    index: Any = getattr(data, "index", None)
    if getattr(index, "inferred_type", None) not in INDEXED:
        return
    absent: NDArray[np.bool_] = np.asarray(index.isna(), bool)
    if absent.any():
        raise ValueError(f"time: row {absent.argmax()} of the index holds no time")
    try:
        wrong = ~np.asarray(index[1:] > index[:-1], bool)
    except TypeError as error:  # some have a zone, and others have none
        raise ValueError(f"time: the index holds times that cannot be compared: {error}") from error
    if wrong.any():
        row = wrong.argmax() + 1
        raise ValueError(
            f"time: row {row} of the index, {index[row]}, is not later than the row before; sort the rows"
        )


def _found(names: Sequence[Any], columns: Sequence[str], what: str) -> list[int]:
    """The places of columns by name. Blanks around a name do not matter."""
    told = [str(name).strip() for name in names]
    wanted = [name.strip() for name in columns]
    if absent := [name for name in wanted if name not in told]:
        raise ValueError(f"{what}: there is no column {', '.join(map(repr, absent))}; it has {', '.join(told)}")
    if twice := [name for name in wanted if told.count(name) > 1]:
        raise ValueError(f"{what}: the column {twice[0]!r} is there {told.count(twice[0])} times")
    return [told.index(name) for name in wanted]


def _cells(data: Any, name: Any) -> Any:
    """A column of a table. Of a dictionary-encoded one of Arrow the values: as an array it has others for nulls."""
    cells = data[name]
    kind: Any = getattr(cells, "type", None)
    return cells.cast(kind.value_type) if hasattr(kind, "index_type") else cells


def _is_absent(value: Any) -> bool:
    """Whether an object stands for a missing value: None, NaN, NaT, or the NA of pandas, equal to nothing."""
    try:
        return value is None or bool(value != value)
    except TypeError:
        return True
    except ValueError:  # an array
        return False


def series_of(data: Any, dimensions: int = 1, *, missing: bool = False) -> list[NDArray[np.float64]]:
    """Series, each (n, D): the rows of a table or of an array (N, n), one array, or a list of arrays.

    Args:
        dimensions: D; above 1 an array is one series (n, D), or several (N, n, D).
        missing: whether values may be missing; they are NaN then.

    Raises:
        ValueError: the data are something else, or no series; or a value is missing or infinite.
    """
    if names_of(data) is not None:
        data = np.asarray(data.to_numpy() if hasattr(data, "to_numpy") else data.to_pandas())  # the latter of Arrow
    single = 1 if dimensions == 1 else 2
    if isinstance(data, list | tuple) and all(np.ndim(each) >= single for each in cast("Sequence[Any]", data)):
        rows = [_array(each, "data") for each in cast("Sequence[Any]", data)]
    else:
        values = _array(data, "data")
        rows = [values] if values.ndim == single else list(values)
    if not rows:
        raise ValueError("data must have at least one series, got none")
    shape = "(n,), or several (N, n)" if dimensions == 1 else f"(n, {dimensions}), or several (N, n, {dimensions})"
    for number, row in enumerate(rows):
        if row.ndim != single or not len(row) or (dimensions > 1 and row.shape[1] != dimensions):
            raise ValueError(f"data must be one series {shape}, got {row.shape} at series {number}")
        bad = np.isinf(row) if missing else ~np.isfinite(row)
        if bad.any():
            place = int(np.flatnonzero(bad.reshape(len(row), -1).any(1))[0])
            raise ValueError(f"data: value {place} of series {number} is {row[place]}, expected a finite number")
    return [row.reshape(len(row), -1) for row in rows]


def _array(data: Any, what: str) -> NDArray[np.float64]:
    try:
        return _real(data)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be a path, a table or an array of numbers: {error}") from error


def row_of(value: Any, columns: Sequence[str], what: str) -> NDArray[np.float64]:
    """The values of one row, by the names of its columns or in their order: (1, C).

    Raises:
        ValueError: a value is not there or is not a number; the message names its column.
    """
    if not isinstance(value, Mapping):
        return numbers_of(value, what).reshape(1, -1)
    if lacking := [name for name in columns if name not in value]:
        raise ValueError(f"{what} must have the columns {', '.join(columns)}, and lacks {lacking[0]!r}")
    cells = {name: _column(value[name], name, what) for name in columns}
    for name, cell in cells.items():
        if cell.size != 1:
            raise ValueError(f"{what}: the column {name!r} must be one number, got {cell.size}")
    return np.stack([cell.reshape(-1) for cell in cells.values()], axis=1)


def numbers_of(value: Any, what: str) -> NDArray[np.float64]:
    """The numbers of a step, in the shape in which they were given.

    Raises:
        ValueError: there is something else among them.
    """
    try:
        return _real(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be numbers: {error}") from error


def _column(values: Any, name: str, what: str) -> NDArray[np.float64]:
    try:
        return _real(values)
    except (TypeError, ValueError) as error:
        texts = (str(each) for each in np.asarray(values).flat if isinstance(each, str))
        wrong = next((each for each in texts if not _is_number(each)), None)
        why = str(error) if wrong is None else f"it holds {wrong!r}, expected numbers, or true and false"
        raise ValueError(f"{what}: the column {name!r} is not numeric: {why}") from error


def _is_number(text: str) -> bool:
    try:
        _number_of(text)
    except ValueError:
        return False
    return True


def _number_of(text: str) -> float:
    """The number in a text, of true and false as in files.

    Raises:
        ValueError: it is none.
    """
    truth = TRUTH.get(text.strip().lower())
    return plain_float(text) if truth is None else truth


def _real(values: Any) -> NDArray[np.float64]:
    """Numbers. Times would become those of their units since 1970, and objects among them are looked at."""
    if np.iscomplexobj(values):
        raise ValueError("its numbers are complex, expected real ones")
    found: NDArray[Any] = np.asarray(values)
    kind = found.dtype.kind
    if kind in "Mm" or (kind == "O" and any(isinstance(each, TIMES) and not _is_absent(each) for each in found.flat)):
        raise ValueError("it holds times, expected numbers")
    if kind in "OUT" and any(isinstance(each, str) or _is_absent(each) for each in found.flat):
        known = (np.nan if _is_absent(each) else each for each in found.flat)
        told = [_number_of(each) if isinstance(each, str) else each for each in known]
        found = np.array(told, object).reshape(found.shape)
    return np.asarray(found, np.float64)


def _refuse_gaps(values: NDArray[np.float64], columns: Sequence[str], what: str, missing: bool) -> None:
    bad = np.argwhere(np.isinf(values) if missing else ~np.isfinite(values))
    if len(bad):
        row, column = (int(number) for number in bad[0])
        raise ValueError(
            f"{what}: row {row} of the column {columns[column]!r} is {values[row, column]}, expected a finite number"
        )
