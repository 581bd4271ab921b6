"""Times that go on by the calendar, at one time of the day.

They go on by months, on one day of the month, which may be cut to its end; or daily, but for some days of the week.

Shapes: n times, in order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LAST = 31
"""The day of the month that, cut to the month's end, is its last."""
LEAST_DAILY = 20
"""Daily times that show which days of the week they leave out: four weeks of working days."""
OFTEN = 0.25
"""A day of the week on which fewer times fall, as a share of those on the most frequent one, is an exception."""
NEARLY_ALL = 0.9
"""Share of the working days that there must be; the others are holidays."""


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


def working_days(times: NDArray[np.datetime64]) -> NDArray[np.bool_] | None:
    """The days of the week, from Monday, on which daily times (n,) fall, (7,); None: all, or they are not daily."""
    days = times.astype("datetime64[D]")
    if (
        len(times) < LEAST_DAILY
        or len(np.unique(times - days)) > 1
        or float(np.median(np.diff(days).astype(int))) != 1
    ):
        return None
    counts = np.bincount(_weekdays(days), minlength=7)
    working = counts >= OFTEN * counts.max()
    every: NDArray[np.int64] = np.arange(int(days[0].astype(np.int64)), int(days[-1].astype(np.int64)) + 1)
    expected = int(working[_weekdays(every.astype("datetime64[D]"))].sum())
    return working if not working.all() and len(times) >= NEARLY_ALL * expected else None


def _weekdays(days: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """The days of the week, 0 for Monday; 1970 began on a Thursday."""
    return (days.astype(np.int64) + 3) % 7


def working_days_after(last: np.datetime64, working: NDArray[np.bool_], count: int) -> NDArray[Any]:
    """The times on working days that follow a time, (count,), of its type and at its time of the day."""
    day = last.astype("datetime64[D]")
    following = np.busday_offset(day, np.arange(1, count + 1), roll="backward", weekmask=working)
    return following.astype(last.dtype) + (last - day)


def _lengths(months: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """How many days each month has, (n,)."""
    return ((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64)
