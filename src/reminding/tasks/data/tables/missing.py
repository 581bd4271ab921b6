"""What becomes of missing values: carried, left for 0 on the scale, or their rows dropped; and the masks.

Shapes: n rows, C columns, M masks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.tables.columns import Missing


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
