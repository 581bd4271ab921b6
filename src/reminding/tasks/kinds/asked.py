"""The base of tasks that ask for a class at some steps, and for nothing at the others.

Shapes: T time, B batch, C classes, n steps that ask.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from reminding.tasks.kinds.base import Batch, MetricSums, check_prediction, full_precision
from reminding.tasks.kinds.facts import Informed

UNASKED = -100
"""The target of a step that asks for nothing, which `cross_entropy` ignores by default."""


class Asked(Informed, ABC):
    """Loss and metrics over the steps that ask. The target is (T, B) int64: a class, or UNASKED."""

    metric = "accuracy"
    maximize: ClassVar[bool] = True

    @property
    @abstractmethod
    def output_size(self) -> int:
        """C, the number of classes."""

    def loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy over the steps that ask, nats; 0, without a gradient, if there is none.

        `prediction` is logits, (T, B, C).
        """
        check_prediction(prediction, batch, self.output_size)
        if not bool((batch.target != UNASKED).any()):
            return prediction.new_zeros(())
        return F.cross_entropy(prediction.flatten(0, 1), batch.target.flatten(), ignore_index=UNASKED)

    def count_targets(self, batch: Batch) -> int:
        """Return the number of steps that ask; see `Task.count_targets`."""
        return int((batch.target != UNASKED).sum())

    def metrics(self, prediction: Tensor, batch: Batch) -> MetricSums:
        """Return "accuracy" and "cross_entropy" (nats) over the steps that ask, from logits (T, B, C)."""
        check_prediction(prediction, batch, self.output_size)
        asked = batch.target != UNASKED
        logits, wanted = full_precision(prediction[asked]), batch.target[asked]  # (n, C), (n,)
        right = (logits.argmax(-1) == wanted).sum()
        surprise = F.cross_entropy(logits, wanted, reduction="sum")
        return {"accuracy": (float(right), len(wanted)), "cross_entropy": (float(surprise), len(wanted))}
