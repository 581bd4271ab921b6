"""The base of tasks that ask for a class at some steps, and for nothing at the others.

Shapes: T time, B batch (rows, one stream each), C classes, n steps that ask.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import count
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from reminding.tasks.kinds.base import (
    Batch,
    EvalSplit,
    MetricSums,
    Split,
    check_prediction,
    check_training,
    full_precision,
)
from reminding.tasks.kinds.facts import Informed

UNASKED = -100
"""The target of a step that asks for nothing, which `cross_entropy` ignores by default."""
EVAL_ROWS = 32
"""Streams of a held-out split."""


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


class AskedStream(Asked):
    """Endless streams that ask at some steps. Any chunk is drawn without those before it."""

    name: ClassVar[str]
    streamed: ClassVar[bool] = True

    chunk: int

    @abstractmethod
    def _chunk(self, split: Split, seed: int, rows: int, number: int) -> Batch:
        """Chunk `number` of `rows` streams; it depends on the arguments alone."""

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Chunks of `batch_size` endless streams; see `Task.train_batches`."""
        check_training(batch_size, seed, start)
        return (self._chunk("train", seed, batch_size, i) for i in count(start))

    def _held_out(self, split: EvalSplit, batch_size: int, chunks: int) -> Iterator[Batch]:
        """So many chunks of the streams of a split, `batch_size` streams at a time."""
        groups = [slice(first, first + batch_size) for first in range(0, EVAL_ROWS, batch_size)]
        return (self._eval_chunk(split, rows, i) for rows in groups for i in range(chunks))

    def _eval_chunk(self, split: EvalSplit, rows: slice, number: int) -> Batch:
        # All rows are drawn, whichever are returned: the result must not depend on the batch size.
        batch = self._chunk(split, 0, EVAL_ROWS, number)
        reset = torch.full((len(range(EVAL_ROWS)[rows]),), number == 0)
        return Batch(batch.input[:, rows], batch.target[:, rows], reset)
