"""How many decimals of a value tell it from others like it.

Shapes: n values, J values of a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

HUNDREDTH = 0.01
"""Of a column's deviation: values that differ by less look alike."""
THIRD = 1 / 3
"""Of the mean error: a prediction and the truth that differ by less look alike."""
MOST = 40
"""The most decimals."""
DIGITS = 16
"""The most decimals of a number with an exponent: a float64 has no more."""
PLAIN = 9
"""With more decimals than these, small values have an exponent."""
SMALL, LARGE = 1e-4, 1e15
"""Sizes below and above which a value has an exponent rather than zeros; the page has the same."""
QUARTILES = 1.35
"""Deviations between the quartiles of a normal distribution."""
FAR = 0.01
"""Of the standard deviation: where the quartiles lie closer, some values are far from all others."""
SIGNIFICANT = 3
"""Digits of a value that has no others to be told from."""


def decimals(values: NDArray[np.float64], error: float = 0.0) -> int:
    """The decimals with which values are told, (n,), NaN where one is not known.

    Below 0 whole tens, hundreds and so on tell them.

    Args:
        error: mean absolute error of predictions of such values; 0 or NaN: there are none.
    """
    known = values[np.isfinite(values)]
    deviation = _deviation(known) if len(known) else 0.0
    finest = [each for each in (HUNDREDTH * deviation, THIRD * error) if each > 0]
    if finest:
        return int(np.clip(np.ceil(-np.log10(min(finest))), -MOST, MOST))
    largest = float(np.abs(known).max(initial=0.0))
    return int(np.clip(SIGNIFICANT - 1 - np.floor(np.log10(largest)), -MOST, MOST)) if largest else 0


def _deviation(known: NDArray[np.float64]) -> float:
    """The standard deviation or, where a few values are so large that it tells nothing of the others, theirs."""
    lower, upper = np.quantile(known, (0.25, 0.75))
    scale = float(np.abs(known).max()) or 1.0
    deviation, usual = scale * float((known / scale).std()), float(upper - lower) / QUARTILES
    return usual if 0 < usual < FAR * deviation else deviation


def in_digits(value: float, decimals: int) -> str:
    """A value with so many decimals: as a plain number or, if that would be mostly zeros, with an exponent.

    `told` in data.js does the same for the page.
    """
    size = abs(value)
    if math.isfinite(size) and (size >= LARGE or (decimals > PLAIN and 0 < size < SMALL)):
        digits = min(max(decimals + math.floor(math.log10(size)), 0), DIGITS)
        mantissa, exponent = f"{value:.{digits}e}".split("e")
        return f"{mantissa}e{int(exponent):+d}"
    if decimals < 0 and math.isfinite(size):
        value = round(value, decimals)  # a float32 of 600000000 is 599999993 once its scale is undone
    return f"{value:z.{max(decimals, 0) if size else min(max(decimals, 0), PLAIN)}f}"


def told_by(values: NDArray[np.float64]) -> Callable[[int, float], str]:
    """What tells a value of a column of a table, (n, C), with the decimals of the column: called with both."""
    each = [decimals(column) for column in values.T]
    return lambda column, value: in_digits(value, each[column])


def decimals_by_channel(values: NDArray[np.float64], channels: int) -> list[int]:
    """The decimals of each channel, of values (T, J): one or several frames of the channels a step."""
    if not channels or values.shape[1] % channels:
        return [decimals(values.reshape(-1))]
    frames = values.reshape(-1, channels)
    return [decimals(frames[:, channel]) for channel in range(channels)]
