"""Times that go on by months: on one day of the month, which may be cut to its end, at one time of the day.

Shapes: n times, in order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LAST = 31
"""The day of the month that, cut to the month's end, is its last."""


class Monthly(NamedTuple):
    """How times go on by months.

    Attributes:
        months: from one to the next, usually; at least 1.
        day: of the month, cut to its end in shorter ones.
    """

    months: int
    day: int


def monthly(times: NDArray[np.datetime64]) -> Monthly | None:
    """How times (n,) go on by months; None if they do not, or are fewer than two."""
    if len(times) < 2:
        return None
    months = times.astype("datetime64[M]")
    days = (times.astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64) + 1
    lengths = _lengths(months)
    day = LAST if bool((days == lengths).all()) else int(days.max())
    since = times - times.astype("datetime64[D]")
    steps = np.diff(months.astype(np.int64))
    if bool((steps > 0).all()) and bool((days == np.minimum(day, lengths)).all()) and bool((since == since[0]).all()):
        return Monthly(max(int(np.median(steps)), 1), day)
    return None


def months_after(last: np.datetime64, found: Monthly, count: int) -> NDArray[Any]:
    """The times that follow a time by months, (count,), of its type and at its time of the day."""
    months = last.astype("datetime64[M]") + found.months * np.arange(1, count + 1)
    days = np.minimum(found.day, _lengths(months)) - 1
    since = last - last.astype("datetime64[D]")
    return (months.astype("datetime64[D]") + days).astype(last.dtype) + since


def _lengths(months: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """How many days each month has, (n,)."""
    return ((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64)
