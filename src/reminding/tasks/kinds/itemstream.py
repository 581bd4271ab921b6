"""The base of endless streams of items, such as images or recordings, with a question at the end of each.

Shapes: T steps of a chunk, B batch (rows, one stream each), L steps of an item, I values per step, n items.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.tasks.kinds.asked import UNASKED, AskedStream
from reminding.tasks.kinds.base import Batch, EvalSplit, Split, check_evaluation, stream

EVAL_ANSWERS = 30
"""Answers of each evaluated row, if no limit is set."""


class Items(NamedTuple):
    """Consecutive items of some rows.

    Attributes:
        number: of each item within its split, (n, B).
        answer: the class that is asked for at the end of each, (n, B).
    """

    number: NDArray[np.int64]
    answer: NDArray[np.int64]


class ItemStream(AskedStream):
    """Rows that show one item of `item_steps` steps after another, and ask for a class at the last step of each.

    The class depends on the item `back` items before. Each row begins after up to `item_steps` - 1 empty steps of its
    own, so that questions fall on all steps of a chunk. The first `back` items of a row ask for nothing.
    """

    back: int

    @property
    @abstractmethod
    def item_steps(self) -> int:
        """L, steps of an item."""

    @abstractmethod
    def items(self, split: Split, seed: int, rows: int, first: int, last: int) -> Items:
        """Items `first` to `last` of each row, from 0; they depend on the arguments alone."""

    @abstractmethod
    def show(self, split: Split, number: NDArray[np.int64], place: NDArray[np.int64]) -> Tensor:
        """Step `place`, from 0, of item `number`: (T, B) each -> (T, B, I)."""

    @property
    def vocabulary(self) -> None:
        """None: the input is real-valued."""
        return None

    @property
    @abstractmethod
    def input_size(self) -> int:
        """I, values per step."""

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Chunks of `batch_size` endless streams; see `Task.train_batches`."""
        batches = super().train_batches(batch_size, seed, start)
        self.items("train", seed, 1, 0, 0)  # missing data raises here, not at the first batch
        return batches

    def eval_batches(self, split: EvalSplit, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """The split's 32 streams, 30 answers of each or `limit` chunks; see `Task.eval_batches`.

        Raises:
            ValueError: as there; or `limit` chunks are too few for every row to reach its first question.
        """
        check_evaluation(split, batch_size, limit)
        self.items(split, 0, 1, 0, 0)
        least = self._chunks_until(1)
        chunks = self._chunks_until(EVAL_ANSWERS) if limit is None else limit
        if chunks < least:
            raise ValueError(
                f"limit must be at least {least} chunks of {self.chunk} steps, got {chunks}: an item has "
                f"{self.item_steps} steps, and the first {self.back} ask for nothing"
            )
        return self._held_out(split, batch_size, chunks)

    def _chunks_until(self, answers: int) -> int:
        """Chunks within which every row has been asked this often; it may begin an item late."""
        return math.ceil((self.back + answers + 1) * self.item_steps / self.chunk)

    def _chunk(self, split: Split, seed: int, rows: int, number: int) -> Batch:
        late = stream(self.name, split, seed, 0).integers(0, self.item_steps, size=rows)
        time = number * self.chunk + np.arange(self.chunk)[:, None] - late  # (T, B), negative before the first item
        item, place = np.divmod(time, self.item_steps)
        begun = item >= 0
        item = np.maximum(item, 0)
        first = int(item.min())
        drawn = self.items(split, seed, rows, first, int(item.max()))
        at = (item - first, np.arange(rows))
        asked = begun & (place == self.item_steps - 1) & (item >= self.back)
        target = np.where(asked, drawn.answer[at], UNASKED)
        values = self.show(split, drawn.number[at], place)
        shown = values.masked_fill(torch.as_tensor(~begun).unsqueeze(2), 0.0)
        return Batch(shown, torch.as_tensor(target), torch.full((rows,), number == 0))
