"""The forecasts of a table's next rows, or of sound's next samples, beside the truth.

Shapes: T time, I values of a step, K columns that are predicted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reminding.lab.explain.decimals import decimals
from reminding.lab.explain.legend import AMPLITUDE, from_mu_law
from reminding.lab.predict.forecast import Scaling
from reminding.tasks.filestream import FileStream


@dataclass(frozen=True)
class Forecast:
    """What a network predicted of the next row at each step, in the columns' own units; of sound, of the next sample.

    Attributes:
        names: of the columns, (K,); units: "" where unknown, (K,).
        places: of the columns among the values of a step, (K,).
        predicted: the next row, (T, K).
        truth: the next row as it was, (T, K), nan where it is not known.
        present: the last known values at the step, which are what no change predicts, (T, K).
        measured: the values at the step, (T, K), nan where one is missing.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    places: tuple[int, ...]
    predicted: NDArray[np.float64]
    truth: NDArray[np.float64]
    present: NDArray[np.float64]
    measured: NDArray[np.float64]

    def decimals(self) -> list[int]:
        """The decimals with which values of each column are told: a prediction can be told from the truth."""
        return [decimals(self.measured[:, i], own) for i, (own, _) in enumerate(self.errors())]

    def errors(self) -> list[tuple[float, float]]:
        """The mean absolute error of each column, and that of no change, of the same steps; nan if there are none."""
        known = ~np.isnan(self.truth) & ~np.isnan(self.present)
        counts = known.sum(0)
        sums = [np.where(known, np.abs(each - self.truth), 0).sum(0) for each in (self.predicted, self.present)]
        means = [np.divide(each, counts, out=np.full(len(counts), np.nan), where=counts > 0) for each in sums]
        return [(float(own), float(unchanged)) for own, unchanged in zip(*means, strict=True)]


def forecast_of(
    task: Any, input: Tensor, prediction: Tensor, target: Tensor | None, absent: NDArray[np.bool_] | None = None
) -> Forecast | None:
    """The forecasts of a batch of one row; None if the task is neither a table nor a stream of sound.

    Args:
        input: of a table (T, 1, I), of sound levels (T, 1).
        prediction: of a table (T, 1, K), of sound the logits of the levels, (T, 1, 256).
        target: as the prediction, or levels (T, 1); None: it is not known.
        absent: whether each value of a table is missing, (T, 1, columns), where no mask says so; None: masks tell.
    """
    if not isinstance(task, FileStream):
        return None
    if task.vocabulary is not None:
        return _of_sound(input, prediction, target) if task.unit == "sample" else None
    scaling = Scaling(task)
    predicted = scaling.own(prediction)[:, 0]
    truth = np.full(predicted.shape, np.nan) if target is None else scaling.own(target)[:, 0]
    units = tuple(task.unit_of(name) for name in task.targets)
    present = scaling.own(task.unchanged(input))[:, 0]
    measured = task.target_scale.undo(task.target_of(input[:, 0].cpu().numpy()))
    if absent is not None:
        measured = np.where(absent[:, 0][:, scaling.targets], np.nan, measured)
    return Forecast(task.targets, units, tuple(scaling.targets), predicted, truth, present, measured)


def _of_sound(input: Tensor, prediction: Tensor, target: Tensor | None) -> Forecast:
    """The expected amplitude of the next sample, by the probabilities of all levels."""
    shares: NDArray[np.float64] = prediction[:, 0].detach().double().softmax(-1).cpu().numpy()  # (T, 256)
    predicted = shares @ from_mu_law(np.arange(prediction.shape[-1]))
    truth = np.full(predicted.shape, np.nan) if target is None else from_mu_law(target[:, 0].cpu().numpy())
    present = from_mu_law(input[:, 0].cpu().numpy())[:, None]
    return Forecast((AMPLITUDE,), ("",), (0,), predicted[:, None], truth[:, None], present, present)
