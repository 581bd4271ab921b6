"""What the training rows of a table say of its columns: mean, deviation, and how far a value is from the one before.

Shapes: n rows, C columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.scale import Scale, Squares, check_range, scale_of

FAR = 10.0
"""Deviations from the training mean at which the mean of other rows is said to be far away."""


@dataclass(frozen=True)
class Measured:
    """Statistics of the columns of a table.

    Args:
        scale: mean and deviation of each column.
        change: root mean square of the difference of two neighbouring rows, (C,), in the columns' own units; 0 of a
            column that is constant or has no such rows. None: a run of an earlier version did not keep it.
    """

    scale: Scale
    change: NDArray[np.float64] | None

    @staticmethod
    def of_rows(pieces: Iterable[NDArray[np.float64]], names: Sequence[str], where: str) -> Measured:
        """The statistics of rows that come in pieces, (n, C) each, with NaN where a value is missing.

        Args:
            names: of the columns; where: the file, for messages.

        Raises:
            ValueError: values are too large for float64; names the column.
        """
        changes = _Changes(len(names))
        scale = scale_of(changes.watched(pieces), len(names))
        check_range([f"{where}, column {name!r}" for name in names], scale.mean, scale.deviation, changes.usual())
        return Measured(scale, changes.usual())

    @staticmethod
    def of_facts(facts: Mapping[str, Any]) -> Measured:
        """What `to_facts` wrote."""
        mean, deviation = (np.array(facts[name], np.float64) for name in ("mean", "deviation"))
        change = np.array(facts["change"], np.float64) if "change" in facts else None
        return Measured(Scale(mean, deviation, tuple(facts["constant"])), change)

    def to_facts(self) -> dict[str, Any]:
        """As JSON values."""
        change = {} if self.change is None else {"change": self.change.tolist()}
        return {**self.scale.record(), "constant": list(self.scale.constant), **change}

    def with_masks(self, count: int) -> Scale:
        """The scale of the columns, then of so many masks, which stay as they are."""
        mean, deviation = self.scale.mean, self.scale.deviation
        return Scale(np.append(mean, np.zeros(count)), np.append(deviation, np.ones(count)), self.scale.constant)


def far_away(scale: Scale, pieces: Iterable[NDArray[np.float64]]) -> dict[int, str]:
    """The columns whose mean in some rows is far from that of training, and how far, in words.

    Args:
        scale: of the training rows.
        pieces: the rows, (n, C) each, with NaN where a value is missing.
    """
    total, count = np.zeros(len(scale.mean)), np.zeros(len(scale.mean))
    for piece in pieces:
        with np.errstate(over="ignore", invalid="ignore"):
            total += np.nansum(scale.apply(piece), axis=0)
        count += (~np.isnan(piece)).sum(0)
    away = np.abs(total) / np.maximum(count, 1)
    return {int(i): f"{np.round(away[i]):,.9g} deviations" for i in np.flatnonzero(away > FAR)}


def constant_notes(names: Sequence[str], scale: Scale, rows: Iterable[NDArray[np.float64]]) -> list[str]:
    """A sentence on each column without two different values in training.

    Args:
        names: of the columns.
        scale: of the training rows.
        rows: these rows in pieces, (n, C) each, with NaN where a value is missing, if they are there.
    """
    empty = {i for i in scale.constant if scale.mean[i] == 0}
    seen = False
    for piece in rows if empty else ():
        empty -= {i for i in empty if not np.isnan(piece[:, i]).all()}
        seen = True
    without = "has no value in the training rows, so that nothing is learned of it; leave it out of --columns"
    same = "is constant in the training rows; a change of it counts in its own units"
    return [f"{names[i]} {without if seen and i in empty else same}" for i in scale.constant]


class _Changes:
    """Sums the squares of the differences of neighbouring rows."""

    def __init__(self, columns: int) -> None:
        self._squares, self._count = Squares(columns), np.zeros(columns)

    def watched(self, pieces: Iterable[NDArray[np.float64]]) -> Iterator[NDArray[np.float64]]:
        """The same pieces. Their borders are left out: there a file may end."""
        for piece in pieces:
            with np.errstate(over="ignore", invalid="ignore"):  # what is too large is refused in the end
                changes = np.diff(piece, axis=0)
                known = ~np.isnan(changes)
                self._squares.add(np.where(known, changes, 0.0))
            self._count += known.sum(0)
            yield piece

    def usual(self) -> NDArray[np.float64]:
        return self._squares.root_mean(np.maximum(self._count, 1))
