"""The usual interval of times, exact where they are decimal numbers, and the times that follow by it.

Times that are decimals, such as 1700000000.0001, are rounded by float64. Their differences have few correct digits
left, so an interval that is taken from them drifts: it is taken from whole multiples of the last decimal instead.
So would one of times that were rounded, such as those of 30 frames a second in milliseconds: it is a mean.

Shapes: n times, in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

UNITS = {"d": 86400, "h": 3600, "min": 60, "s": 1, "ms": 1e-3, "ns": 1e-9}
"""In which distances are said, in seconds."""
TOLERANCE = 1.5
"""A distance that is this many times the usual one is a gap, and one that is this many times smaller is irregular."""
NEARLY_ALL = 0.9
"""Share of the distances about the usual one that may be taken for the same one."""
MOST_DECIMALS = 17
"""More than float64 has of any number above 1."""


def distance_text(distance: float, *, dated: bool, months: int | None = None) -> str:
    """A distance of two times, of seconds if they are points in time, in the largest unit that takes few decimals.

    Args:
        months: the distance in months, if it is one of the calendar.
    """
    if not dated:
        return f"{distance:.12g}"
    if months:
        count, unit = (months // 12, "year") if months % 12 == 0 else (months, "month")
        return f"{count} {unit}{'s' * (count > 1)}"
    units = [unit for unit, size in UNITS.items() if 1 <= size <= distance] or ["ns" if 0 < distance < 1e-6 else "ms"]
    counts = [(distance / UNITS[unit], unit) for unit in units]
    short = (each for each in counts if each[0] < 1000 and round(each[0], 2) == round(each[0], 5))
    count, unit = next(short, counts[0])
    return f"{count:.6g} {unit}"


def usual_interval(times: NDArray[Any]) -> float:
    """The usual distance of times, (n,); 0 if there is none.

    It is the median, unless most distances are near it and few are equal to it, since the times were rounded or are
    unsteady. Then the median drifts, and it is a mean: of the distances that rounding makes of one, such as a third
    in 1.0, 1.3, 1.7, 2.0, if these are nearly all; else of all that are near, such as 300 in 0, 299, 601, 900.
    """
    if len(times) < 2:
        return 0.0
    decimals = decimals_of(times)
    if decimals is None:
        distances, off = np.diff(times.astype(np.float64)), 2 * _resolution(times)
        alike = _alike(distances, off)
        return _shortest(float(alike.mean()), off / len(alike))
    exact = times if times.dtype.kind in "iu" else np.rint(times.astype(np.float64) * 10.0**decimals).astype(np.int64)
    distances = np.diff(exact)
    return float(_alike(distances, unit_of(distances)).mean()) / 10.0**decimals


def _alike(distances: NDArray[Any], off: float) -> NDArray[Any]:
    """Those of the distances (n,) whose mean is the usual one; or their median.

    Args:
        off: how far rounded times may move a distance.
    """
    median = float(np.median(distances))
    near = distances[(distances < TOLERANCE * median) & (distances > median / TOLERANCE)]
    if 2 * len(near) <= len(distances):
        return np.array([median])
    rounded = near[np.abs(near - median) <= off]
    if len(rounded) >= NEARLY_ALL * len(near):
        return rounded
    return np.array([median]) if 2 * int((near == median).sum()) > len(near) else near


def unit_of(distances: NDArray[np.int64]) -> int:
    """The largest power of ten that divides all distances (n,); 1 if all are 0."""
    common, unit = int(np.gcd.reduce(distances, initial=0)), 1
    while common and common % (10 * unit) == 0:
        unit *= 10
    return unit


def times_following(times: NDArray[Any], interval: float, count: int, *, own: bool) -> NDArray[Any]:
    """The times that follow by an interval, (count,), in the decimals that the times and the interval have.

    Args:
        times: (n,), at least one.
        own: whether the interval is the usual one of these times; else it is another that is exact.
    """
    step = int(interval) if times.dtype.kind in "iu" and interval == int(interval) else interval  # exact beyond 2**53
    following: NDArray[Any] = times[-1] + step * np.arange(1, count + 1)
    decimals = decimals_of(times) if following.dtype.kind == "f" else None
    if decimals is None:
        return following
    further = decimals_of(np.array([interval]))
    if own:  # a mean has more than the times, and a median may have one more
        further = decimals + 1 if further is None else min(further, decimals + 1)
    if further is None:
        return following
    return np.array([round(each, max(decimals, further)) for each in following.tolist()], np.float64)


def decimals_of(numbers: NDArray[Any]) -> int | None:
    """The fewest decimals with which all numbers (n,) can be written; None: more than their type distinguishes."""
    if numbers.dtype.kind in "iu" or not len(numbers):
        return 0
    resolution, values = _resolution(numbers), numbers.astype(np.float64)
    for decimals in range(MOST_DECIMALS):
        if resolution * 10.0**decimals > 0.5:
            return None
        if bool((np.abs(np.round(values, decimals) - values) <= resolution).all()):
            return decimals
    return None


def _resolution(numbers: NDArray[Any]) -> float:
    """The distance of the largest number to the next one of its type."""
    return float(np.spacing(np.abs(numbers).max()))


def _shortest(number: float, error: float) -> float:
    """The number with the fewest decimals within an error of a number."""
    rounded = (round(number, decimals) for decimals in range(MOST_DECIMALS))
    return next((each for each in rounded if abs(each - number) <= error), number)
