"""Errors that people can use, added up batch by batch: by column in its own unit, or by class.

Shapes: T time, B batch, C columns or classes, N rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.tasks.kinds.base import Batch

LONGEST_SEASON = 2000
"""Steps; a longer season is not looked for."""
CLEAR = 0.2
"""The least autocorrelation at a lag that counts as a season."""
RISE = 0.1
"""The least rise of the autocorrelation from its lowest value to a season; noise on a slow course rises less."""
NEARLY = 0.9
"""A correlation of this share of the highest one is nearly as high."""
SEASONS = 5
"""Seasons over which the length of one is measured."""


class Tally(Protocol):
    """Adds up errors over the batches of an evaluation."""

    def add(self, prediction: Tensor, batch: Batch) -> None:
        """Add a batch. `prediction` is the readout of every step, (T, B, C)."""
        ...

    def record(self) -> dict[str, Any]:
        """The errors, as JSON values."""
        ...


def season_of(values: NDArray[np.float64]) -> int | None:
    """The most plausible season of some columns, in steps, from the peaks of their mean autocorrelation.

    It is the shortest lag whose peak is nearly as high as the highest: a multiple of a season is not taken for it.

    Args:
        values: (N, C).

    Returns:
        at least 2 and at most a third of N; None if there is no peak of at least 0.2 to which the autocorrelation
        has risen by at least 0.1.
    """
    rows = len(values)
    longest = min(LONGEST_SEASON, rows // 3)
    if longest < 3:
        return None
    centred = values - values.mean(0)
    deviation = centred.std(0)
    centred = centred[:, deviation > 0] / deviation[deviation > 0]
    if not centred.shape[1]:
        return None
    power = np.abs(np.fft.rfft(centred, 2 * rows, axis=0)) ** 2  # padded, so that the ends do not meet
    products = np.fft.irfft(power, axis=0)[: rows // 3 + 2].mean(1)
    every = products / (rows - np.arange(len(products)))  # the mean product at each lag
    correlation = every[: longest + 2]
    inner = correlation[1:-1]
    peaks = 1 + np.flatnonzero((inner > correlation[:-2]) & (inner >= correlation[2:]) & (inner >= CLEAR))
    lowest = np.minimum.accumulate(correlation)
    peaks = peaks[(peaks > 1) & (correlation[peaks] >= lowest[peaks] + RISE * correlation[0])]
    if not len(peaks):
        return None
    return _top(every, int(peaks[correlation[peaks] >= NEARLY * correlation[peaks].max()][0]), longest)


def _top(correlation: NDArray[np.float64], peak: int, longest: int) -> int:
    """The lag at the top of a wide hill on which noise makes several peaks, of which `peak` is one.

    A season that is a step too long is k steps too long after k seasons. So the correlations at its multiples tell it
    from its neighbours where its own does not.
    """
    hill = np.arange(max(2, 1 + 2 * peak // 3), min(longest + 1, (3 * peak + 1) // 2))
    hill = hill[correlation[hill] >= NEARLY * correlation[hill].max()]
    several = np.arange(1, 1 + min(SEASONS, (len(correlation) - 1) // hill[-1]))
    return int(hill[correlation[several[:, None] * hill].mean(0).argmax()])


@dataclass(frozen=True)
class Columns:
    """The columns of a table that a model predicts.

    Args:
        names: of the predicted columns.
        present: their present values, (T, B, C), from the input, (T, B, I); NaN where one is missing.
        mean, deviation: of each, in its own unit, (C,).
        season: steps of a season; None: no season is known.
        recorded: as `present`, but NaN also where a missing value was carried; None: none was.
    """

    names: tuple[str, ...]
    present: Callable[[Tensor], Tensor]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    season: int | None
    recorded: Callable[[Tensor], Tensor] | None = None


class ColumnTally:
    """The errors of each predicted column in its own unit, beside those of two baselines at the same steps.

    "unchanged" predicts that the next value is the last known one; before any is known, no error counts, not even the
    model's. "seasonal" predicts the value one season before the next one or, if that is missing or a season has not
    been read yet, as "unchanged"; it is left out where no season ever was.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        size = len(columns.names)
        methods = ("model", "unchanged", *(("seasonal",) if columns.season else ()))
        self._squared = {method: np.zeros(size) for method in methods}
        self._absolute = {method: np.zeros(size) for method in methods}
        self._count = np.zeros(size, np.int64)
        self._in_season = 0
        self._past: Tensor | None = None
        self._last = torch.zeros(0)
        self._age = torch.zeros(0)

    def add(self, prediction: Tensor, batch: Batch) -> None:
        """Add a chunk of streams; in each row, the next chunk continues it unless it resets the row.

        A target that is NaN is not known, and does not count.
        """
        present = self._columns.present(batch.input).double()  # (T, B, C)
        wanted = batch.target.double()
        self._begin(present, batch.reset)
        unchanged = last_known(present, self._last)
        wanted = wanted.masked_fill(unchanged.isnan(), torch.nan)
        self._last = torch.cat([self._last[None], unchanged])[-1]
        self._note("model", prediction.double(), wanted)
        self._note("unchanged", unchanged, wanted)
        if season := self._columns.season:
            recorded = self._columns.recorded or self._columns.present
            self._note("seasonal", self._before(recorded(batch.input).double(), unchanged, season), wanted)
        self._count += (~wanted.isnan()).sum((0, 1)).cpu().numpy()

    def _begin(self, present: Tensor, reset: Tensor | None) -> None:
        """Forget the rows that begin a new stream."""
        if self._past is None or self._past.shape[1] != present.shape[1]:
            self._past, self._age = present[:0], present.new_zeros(present.shape[1])
            self._last = present.new_full(present.shape[1:], torch.nan)
        if reset is not None:
            begun = reset.to(present.device)
            self._age = torch.where(begun, torch.zeros_like(self._age), self._age)
            self._last = self._last.masked_fill(begun[:, None], torch.nan)

    def _before(self, recorded: Tensor, unchanged: Tensor, season: int) -> Tensor:
        """The values one season before the targets, (T, B, C); `unchanged` where there is none."""
        assert self._past is not None
        steps = len(recorded)
        past = torch.cat([self._past, recorded])
        now = torch.arange(steps, device=recorded.device) + len(self._past)
        place = now + 1 - season
        read = (
            self._age + torch.arange(1, steps + 1, device=recorded.device)[:, None]
        )  # (T, B) steps of the row so far
        earlier = past[place.clamp(min=0)]
        self._in_season += int((read >= season).sum())
        self._past, self._age = past[-season:], self._age + steps
        return torch.where((read >= season)[..., None] & ~earlier.isnan(), earlier, unchanged)

    def _note(self, method: str, predicted: Tensor, wanted: Tensor) -> None:
        error = torch.where(wanted.isnan(), 0.0, predicted - wanted)
        self._squared[method] += error.square().sum((0, 1)).cpu().numpy()
        self._absolute[method] += error.abs().sum((0, 1)).cpu().numpy()

    def record(self) -> dict[str, Any]:
        """Root mean squared and mean absolute error of each method and column, in the column's own unit.

        An error is None if it is not finite, or if no target of the column is known. At least one batch was added.
        """
        columns = self._columns
        methods = [method for method in self._squared if method != "seasonal" or self._in_season]
        return {
            "kind": "columns",
            "season": columns.season if self._in_season else None,
            "predictions": int(self._count.max()),
            "columns": {
                name: {method: self._errors(method, i) for method in methods} for i, name in enumerate(columns.names)
            },
        }

    def _errors(self, method: str, column: int) -> dict[str, float | None]:
        count, deviation = int(self._count[column]), self._columns.deviation[column]
        if not count:
            return {"rmse": None, "mae": None}
        rmse = float(np.sqrt(self._squared[method][column] / count) * deviation)
        mae = float(self._absolute[method][column] / count * deviation)
        return {name: value if math.isfinite(value) else None for name, value in (("rmse", rmse), ("mae", mae))}


def last_known(values: Tensor, before: Tensor) -> Tensor:
    """Values (T, B, C) with the last known one where one is NaN.

    Args:
        before: (B, C), the last known ones before these.
    """
    if not len(values):
        return values
    place = torch.arange(1, len(values) + 1, device=values.device)[:, None, None]
    latest = torch.where(values.isnan(), 0, place).cummax(0).values
    return torch.cat([before[None].to(values.dtype), values]).gather(0, latest)


class ClassTally:
    """The confusion of the classes at the last step of each sequence.

    Args:
        classes: their names.
        majority: the number of the most frequent class of the training data; None: unknown.
    """

    def __init__(self, classes: Sequence[str], majority: int | None) -> None:
        self._classes, self._majority = tuple(classes), majority
        self._confusion = np.zeros((len(classes), len(classes)), np.int64)

    def add(self, prediction: Tensor, batch: Batch) -> None:
        """Add whole sequences; `prediction` is logits, (T, B, C)."""
        answer = prediction[-1].argmax(-1).cpu().numpy()
        np.add.at(self._confusion, (batch.target.cpu().numpy(), answer), 1)

    def record(self) -> dict[str, Any]:
        """The confusion, a row per true class; the recall of each class; the majority's share of the sequences."""
        confusion = self._confusion
        counts, total = confusion.sum(1), int(confusion.sum())
        recall: Mapping[str, float | None] = {
            name: float(confusion[i, i] / counts[i]) if counts[i] else None for i, name in enumerate(self._classes)
        }
        majority = self._majority
        share = {} if majority is None or not total else {"share": float(counts[majority] / total)}
        return {
            "kind": "classes",
            "classes": list(self._classes),
            "confusion": confusion.tolist(),
            "recall": dict(recall),
            "majority": None if majority is None else {"class": self._classes[majority], **share},
        }
