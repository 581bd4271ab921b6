"""The base of tasks whose sequences are drawn on demand, so that no training sequence is seen twice.

Shapes: B batch, T time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import count
from typing import ClassVar

import numpy as np
import torch

from reminding.tasks.kinds.base import Batch, EvalSplit, check_evaluation, check_training, stream
from reminding.tasks.kinds.facts import Informed

EVAL_SEQUENCES = 1000
"""Sequences in an evaluation without a limit."""


class Generated(Informed, ABC):
    """A task that can draw any number of sequences.

    Training batch i depends on (task, seed, i) alone, evaluation sequence j on (task, split, j) alone.
    """

    name: ClassVar[str]
    streamed: ClassVar[bool] = False

    @abstractmethod
    def draw(self, sequences: int, rng: np.random.Generator) -> Batch:
        """Draw a batch of `sequences` sequences from `rng`."""

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless training batches; see `Task.train_batches`."""
        check_training(batch_size, seed, start)
        return (self.draw(batch_size, stream(self.name, "train", seed, i)) for i in count(start))

    def eval_batches(self, split: EvalSplit, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """`limit` sequences of a split (1,000 if None); see `Task.eval_batches`."""
        check_evaluation(split, batch_size, limit)
        total = EVAL_SEQUENCES if limit is None else limit
        first_rows = range(0, total, batch_size)
        return (self._eval_batch(split, range(i, min(i + batch_size, total))) for i in first_rows)

    def _eval_batch(self, split: EvalSplit, rows: range) -> Batch:
        # Each sequence has its own generator: the result of an evaluation must not depend on its batch size.
        drawn = [self.draw(1, stream(self.name, split, 0, row)) for row in rows]
        return Batch(torch.cat([b.input for b in drawn], dim=1), torch.cat([b.target for b in drawn], dim=-1))
