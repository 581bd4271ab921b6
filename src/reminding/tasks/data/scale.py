"""The scale of real values: mean 0 and deviation 1 over the training data.

Shapes: n rows, C columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_EXPONENT = -1073
"""Of two, in the smallest number of float64 as `frexp` writes it."""


@dataclass(frozen=True)
class Scale:
    """Mean and deviation of each column, (C,) float64. Values are float64 until they have been scaled.

    The deviation of a constant column is 1, so that a later change is shown in the column's own units.
    """

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    constant: tuple[int, ...] = ()
    """Columns with one value only."""

    def apply(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Values (n, C) on this scale, float64."""
        return (np.asarray(values, np.float64) - self.mean) / self.deviation

    def undo(self, scaled: NDArray[Any]) -> NDArray[np.float64]:
        """Scaled values (n, C) in their own units, float64."""
        return np.asarray(scaled, np.float64) * self.deviation + self.mean

    def of(self, columns: list[int]) -> Scale:
        """The scale of some columns."""
        constant = tuple(i for i, column in enumerate(columns) if column in self.constant)
        return Scale(self.mean[columns], self.deviation[columns], constant)

    def record(self) -> dict[str, list[float]]:
        """As JSON values."""
        return {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}

    @staticmethod
    def load(record: dict[str, list[float]]) -> Scale:
        """The scale that `record` wrote."""
        return Scale(np.array(record["mean"], np.float64), np.array(record["deviation"], np.float64))


class Squares:
    """The sum of the squares of each column, (C,), in which small values do not vanish.

    The square of 1e-200 is 0 in float64. So the squares of a column whose values are all below 1 are added up in a
    unit of their own, a power of two, which changes no digit of the others.
    """

    def __init__(self, columns: int) -> None:
        self._exponent = np.full(columns, LEAST_EXPONENT)
        self._sum = np.zeros(columns)

    def add(self, values: NDArray[np.float64]) -> None:
        """Add the squares of some rows, (n, C); 0 where a value is missing."""
        largest = np.abs(values).max(0, initial=0.0)
        exponent = np.where(largest > 0, np.minimum(np.frexp(largest)[1], 0), LEAST_EXPONENT)
        exponent = np.maximum(exponent, self._exponent)
        self._sum = np.ldexp(self._sum, 2 * (self._exponent - exponent))
        self._sum += (np.ldexp(values, -exponent) ** 2).sum(0)
        self._exponent = exponent

    def root_mean(self, count: NDArray[np.float64], mean: NDArray[np.float64] | float = 0.0) -> NDArray[np.float64]:
        """The root of the mean square of `count` values, about their mean."""
        square = self._sum / count - np.ldexp(mean, -self._exponent) ** 2
        return np.ldexp(np.sqrt(np.maximum(square, 0)), self._exponent)


def scale_of(pieces: Iterable[NDArray[Any]], columns: int) -> Scale:
    """The scale of rows that come in pieces, (n, C) each, with NaN where a value is missing.

    Sums are taken of the distance to a column's first value. Thus 1e9 - 1 and 1e9 + 1 keep their deviation of 1, and
    a constant column has a deviation of exactly 0 before it is set to 1; so is one below 2.3e-308, which has lost its
    digits. A column without a value has mean 0. Where values are too large for float64, mean or deviation is not
    finite.
    """
    origin = np.full(columns, np.nan)
    count, total, squares = np.zeros(columns), np.zeros(columns), Squares(columns)
    for piece in pieces:
        values = np.asarray(piece, np.float64)
        for column in np.flatnonzero(np.isnan(origin)):
            known = values[:, column][~np.isnan(values[:, column])]
            origin[column] = known[0] if len(known) else np.nan
        with np.errstate(over="ignore", invalid="ignore"):
            distance = values - origin
            known = ~np.isnan(values)
            distance[~known] = 0
            count += known.sum(0)
            total += distance.sum(0)
            squares.add(distance)
    count, origin = np.maximum(count, 1), np.nan_to_num(origin)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = total / count
        deviation = squares.root_mean(count, mean)
    is_constant = deviation < np.finfo(np.float64).tiny
    constant = tuple(int(i) for i in np.flatnonzero(is_constant))
    return Scale(origin + mean, np.where(is_constant, 1.0, deviation), constant)


def check_range(told: Sequence[str], *statistics: NDArray[np.float64]) -> None:
    """Refuse values whose statistics are not finite.

    Args:
        told: what each column is called, (C,).
        statistics: (C,) each.

    Raises:
        ValueError: one is not finite; names the column.
    """
    beyond = np.flatnonzero(~np.isfinite(statistics).all(0))
    if len(beyond):
        raise ValueError(
            f"data: {told[beyond[0]]}: the values are too large, their squares exceed float64; write them as missing "
            "if they stand for missing values, else divide the column by a constant"
        )
