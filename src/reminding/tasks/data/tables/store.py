"""Rows of numbers in pieces: what becomes of missing values, and a temporary file from which any row is read at once.

Shapes: n rows, C columns, M masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.temporary import naming_temporary

Missing = Literal["error", "carry", "zero", "drop"]
MISSING: tuple[Missing, ...] = ("error", "carry", "zero", "drop")
WIDTH = np.dtype(np.float64).itemsize


@dataclass(frozen=True)
class Store:
    """Numbers in a file, row by row, float64.

    Args:
        columns: the numbers of its columns in the table.
        missing: number of NaN in each column, (C,).
        lowest, highest: of each column, (C,); NaN if it has no value.
    """

    path: Path
    rows: int
    columns: tuple[int, ...]
    missing: NDArray[np.int64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        """Rows start to stop - 1, (n, C)."""
        width = len(self.columns)
        count = max(min(stop, self.rows) - start, 0) * width
        return np.fromfile(self.path, np.float64, count, offset=start * width * WIDTH).reshape(-1, width)

    def pieces(self, columns: Sequence[int]) -> Iterable[NDArray[np.float64]]:
        """All rows of some columns of the table, in pieces."""
        places = [self.columns.index(column) for column in columns]
        piece = max(1, (1 << 20) // max(len(self.columns), 1))
        for start in range(0, self.rows, piece):
            yield self.read(start, start + piece)[:, places]

    def first_gap(self) -> int:
        """The first row without a value in the first column; there must be one."""
        start = 0
        for piece in self.pieces(self.columns[:1]):
            if len(found := np.flatnonzero(np.isnan(piece))):
                return start + int(found[0])
            start += len(piece)
        raise ValueError("every row has a value")

    def counting(self) -> frozenset[int]:
        """Columns of the table that count the rows from 0 or 1, by their smallest, largest, first and last value."""
        if self.rows < 2:
            return frozenset()
        first, last = self.read(0, 1)[0], self.read(self.rows - 1, self.rows)[0]
        counts = np.isin(first, (0, 1)) & (last - first == self.rows - 1)
        counts &= (self.lowest == first) & (self.highest == last) & (self.missing == 0)
        return frozenset(self.columns[i] for i in np.flatnonzero(counts))


def write(pieces: Iterable[NDArray[Any]], path: Path, columns: Sequence[int]) -> Store:
    """Write rows that come in pieces, (n, C) each, to a temporary file.

    Raises:
        CannotWriteError: the disk is full; the message says how to choose another one.
    """
    width = len(columns)
    rows, missing = 0, np.zeros(width, np.int64)
    lowest, highest = np.full(width, np.nan), np.full(width, np.nan)
    with naming_temporary(), path.open("wb") as file:
        for piece in pieces if width else ():
            values = np.ascontiguousarray(piece, np.float64)
            file.write(values.data)
            rows += len(values)
            missing += np.isnan(values).sum(0)
            if len(values):
                lowest = np.fmin(lowest, np.fmin.reduce(values, axis=0))
                highest = np.fmax(highest, np.fmax.reduce(values, axis=0))
    return Store(path, rows, tuple(columns), missing, lowest, highest)


def fill(
    pieces: Iterable[NDArray[np.float64]], missing: Missing, masked: Sequence[int]
) -> Iterator[NDArray[np.float64]]:
    """Rows (n, C) with NaN where a value is missing, as rows (n, C + M).

    Args:
        missing: carry: the last value of the column; NaN stays before the first one. zero: NaN stays, for a reader
            to set to 0 once the column is scaled. drop: a row with a missing value is left out.
        masked: columns with a mask, which is 1 where the value is missing.
    """
    last: NDArray[np.float64] | None = None
    for piece in pieces:
        absent = np.isnan(piece)
        if missing == "drop":
            yield piece[~absent.any(1)]
            continue
        values = piece
        if missing == "carry":
            values = carried(piece, last)
            last = values[-1] if len(values) else last
        yield np.concatenate([values, absent[:, list(masked)].astype(np.float64)], axis=1)


def filled(values: NDArray[np.float64], missing: Missing, masked: Sequence[int]) -> NDArray[np.float64]:
    """All rows of a table, (n, C) with NaN where a value is missing, as rows (n, C + M); see `fill`."""
    return next(fill([values], missing, masked))


def carried(values: NDArray[np.float64], last: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Values (n, C) where NaN is replaced by the value before it in its column.

    Args:
        last: the row before the first, (C,); None: there is none.
    """
    before = np.full((1, values.shape[1]), np.nan) if last is None else last[None]
    extended = np.concatenate([before, values])
    known = np.where(np.isnan(extended), 0, np.arange(len(extended))[:, None])
    latest = np.maximum.accumulate(known, axis=0)
    return np.take_along_axis(extended, latest, axis=0)[1:]
