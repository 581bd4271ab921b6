"""Data that a user gives, as numbers: pandas, polars and Arrow tables, and arrays. No library of tables is imported.

Shapes: T rows, C columns, N series, n values of a series.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray


def names_of(data: Any) -> list[Any] | None:
    """The column names of a table, which are numbers in some; None if `data` is no table."""
    names = getattr(data, "column_names", None)  # of an Arrow table, whose `columns` are the columns themselves
    names = getattr(data, "columns", None) if names is None else names
    return None if names is None or callable(names) else list(names)


def table_values(data: Any, columns: Sequence[str], what: str = "data") -> NDArray[np.float64]:
    """Some columns of a table by name, or of an array in this order: (T, C).

    Args:
        what: the name of the argument, for messages.

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
        told = [str(name) for name in names]
        if missing := [name for name in columns if name not in told]:
            raise ValueError(f"{what}: there is no column {', '.join(map(repr, missing))}; it has {', '.join(told)}")
        if twice := [name for name in columns if told.count(name) > 1]:
            raise ValueError(f"{what}: the column {twice[0]!r} is there {told.count(twice[0])} times")
        values = np.stack([_column(data[names[told.index(name)]], name, what) for name in columns], axis=1)
    _refuse_gaps(values, columns, what)
    return values


def series_of(data: Any) -> list[NDArray[np.float64]]:
    """Series, each (n,): the rows of a table or of an array (N, n), one array (n,), or a list of arrays.

    Raises:
        ValueError: the data are something else; or a value is missing or infinite.
    """
    if names_of(data) is not None:
        data = np.asarray(data.to_numpy() if hasattr(data, "to_numpy") else data.to_pandas())  # the latter of Arrow
    if isinstance(data, list | tuple) and any(np.ndim(each) for each in cast("Sequence[Any]", data)):
        rows = [_array(each, "data") for each in cast("Sequence[Any]", data)]
    else:
        values = _array(data, "data")
        rows = [values] if values.ndim == 1 else list(values)
    for number, row in enumerate(rows):
        if row.ndim != 1 or not len(row):
            raise ValueError(f"data must be one series (n,), or several (N, n), got {row.shape} at series {number}")
        if not np.isfinite(row).all():
            place = int(np.flatnonzero(~np.isfinite(row))[0])
            raise ValueError(f"data: value {place} of series {number} is {row[place]}, expected a finite number")
    return rows


def _array(data: Any, what: str) -> NDArray[np.float64]:
    try:
        return np.asarray(data, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be a path, a table or an array of numbers: {error}") from error


def _column(values: Any, name: str, what: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: the column {name!r} is not numeric: {error}") from error


def _refuse_gaps(values: NDArray[np.float64], columns: Sequence[str], what: str) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = (int(number) for number in bad[0])
        raise ValueError(
            f"{what}: row {row} of the column {columns[column]!r} is {values[row, column]}, expected a finite number"
        )
