"""The adding problem: add the two marked numbers of a long sequence.

Shapes: B batch, T time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reminding.checks import at_least
from reminding.tasks.kinds.base import Batch, MetricSums, check_prediction, full_precision
from reminding.tasks.kinds.generated import Generated


@dataclass(frozen=True)
class Adding(Generated):
    """The adding problem.   [Hochreiter & Schmidhuber 1997, in the form of Arjovsky et al. 2016]

    Input (T, B, 2) float32: a value uniform in [0, 1), and a marker that is 1 at one step among the
    first T // 2, at one step among the others, and 0 elsewhere. Target (B,): the sum of the two marked values,
    to be predicted at the last step.

    A constant prediction of the mean, 1, has a mean squared error of 1/6 = 0.1667; a model has to beat it.

    Args:
        T: length of the sequence, steps, at least 2.

    Raises:
        ValueError: T is out of range.
    """

    name: ClassVar[str] = "adding"
    metric = "mse"
    maximize: ClassVar[bool] = False

    T: int = 200

    def __post_init__(self) -> None:
        """Check the options."""
        at_least("T", self.T, 2)

    @property
    def vocabulary(self) -> None:
        """None: the input is real-valued."""
        return None

    @property
    def input_size(self) -> int:
        """Two features a step: the value and the marker."""
        return 2

    @property
    def output_size(self) -> int:
        """One number, the sum."""
        return 1

    def draw(self, sequences: int, rng: np.random.Generator) -> Batch:
        """Draw a batch: input (T, B, 2), target (B,)."""
        values = torch.as_tensor(rng.random((self.T, sequences), dtype=np.float32))  # (T, B)
        half = self.T // 2
        first = torch.as_tensor(rng.integers(0, half, size=sequences))  # (B,)
        second = torch.as_tensor(rng.integers(half, self.T, size=sequences))  # (B,)
        row = torch.arange(sequences)
        markers = torch.zeros_like(values)
        markers[first, row] = 1.0
        markers[second, row] = 1.0
        return Batch(torch.stack((values, markers), dim=-1), values[first, row] + values[second, row])

    def loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Mean squared error of the last step. `prediction` is (T, B, 1)."""
        check_prediction(prediction, batch, self.output_size)
        return F.mse_loss(prediction[-1, :, 0], batch.target.to(prediction.dtype))

    def metrics(self, prediction: Tensor, batch: Batch) -> MetricSums:
        """Return "mse", the squared error of the last step. `prediction` is (T, B, 1)."""
        check_prediction(prediction, batch, self.output_size)
        error = full_precision(prediction)[-1, :, 0] - batch.target
        return {"mse": (float(error.square().sum()), batch.target.numel())}
