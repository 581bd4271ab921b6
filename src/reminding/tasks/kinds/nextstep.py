"""The base of tasks that predict the next step of long streams, from files of any kind or character data sets.

Shapes: N steps in all, B batch (rows, one stream each), T steps of a chunk, C columns or classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reminding.tasks.kinds.base import (
    Batch,
    EvalSplit,
    MetricSums,
    Split,
    check_evaluation,
    check_prediction,
    check_training,
    full_precision,
)
from reminding.tasks.kinds.checks import at_least


class NextStep(ABC):
    """Data whose parts are unbroken streams, read in chunks; the target of a step is the next step.

    The B rows of a batch read the training part in parallel, one B-th each. State is carried from chunk to chunk, and
    all rows begin anew after a pass. Steps are tokens or real values.
    """

    name: ClassVar[str]
    streamed: ClassVar[bool] = True
    maximize: ClassVar[bool] = False

    chunk: int
    eval_rows: int

    @property
    @abstractmethod
    def vocabulary(self) -> int | None:
        """The number of tokens; None for real values."""

    @property
    @abstractmethod
    def input_size(self) -> int:
        """C: the number of tokens or of columns."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """The name of a step: "byte", "character", "row"."""

    @property
    @abstractmethod
    def _where(self) -> str:
        """The name of the data, for messages."""

    @abstractmethod
    def _part(self, split: Split) -> range:
        """The steps of a split."""

    @abstractmethod
    def _read(self, start: int, stop: int) -> NDArray[Any]:
        """Steps start to stop - 1, all in one part: tokens (n,), integers, or real values (n, C)."""

    @property
    def metric(self) -> str:
        """bits_per_UNIT for tokens, mse for real values."""
        return "mse" if self.vocabulary is None else f"bits_per_{self.unit}"

    @property
    def output_size(self) -> int:
        """C: logits of the next token, or the next value of each column."""
        return self.input_size

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Chunks of the training part, pass after pass; see `Task.train_batches`. The seed has no effect."""
        check_training(batch_size, seed, start)
        return self._training(batch_size, start)

    def eval_batches(self, split: EvalSplit, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """A held-out part as `eval_rows` streams, `limit` chunks of each; see `Task.eval_batches`."""
        check_evaluation(split, batch_size, limit)
        sections = self.sections(split, self.eval_rows)
        chunks = math.ceil((len(sections[0]) - 1) / self.chunk)
        groups = [sections[i : i + batch_size] for i in range(0, len(sections), batch_size)]
        return (
            self._chunk(group, number)
            for group in groups
            for number in range(chunks if limit is None else min(limit, chunks))
        )

    def loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Mean over all steps: cross-entropy, nats, of logits (T, B, C); or squared error of values (T, B, C)."""
        check_prediction(prediction, batch, self.output_size)
        if self.vocabulary is None:
            return F.mse_loss(prediction, batch.target.to(prediction.dtype))
        return F.cross_entropy(prediction.flatten(0, 1), batch.target.flatten())

    def metrics(self, prediction: Tensor, batch: Batch) -> MetricSums:
        """For tokens "bits_per_UNIT" and "accuracy"; for values "mse" and "mse_unchanged".

        "mse_unchanged" is the error of predicting no change, which a model has to beat.
        """
        check_prediction(prediction, batch, self.output_size)
        precise, steps = full_precision(prediction), batch.target.numel()
        if self.vocabulary is None:
            error = F.mse_loss(precise, batch.target.to(precise.dtype), reduction="sum")
            unchanged = F.mse_loss(batch.input, batch.target, reduction="sum")
            return {"mse": (float(error), steps), "mse_unchanged": (float(unchanged), steps)}
        surprise = F.cross_entropy(precise.flatten(0, 1), batch.target.flatten(), reduction="sum")
        right = (precise.argmax(-1) == batch.target).sum()
        return {self.metric: (float(surprise) / math.log(2), steps), "accuracy": (float(right), steps)}

    def _training(self, batch_size: int, start: int) -> Iterator[Batch]:
        """Chunks of the training part from number `start` on, counted over all passes."""
        sections = self.sections("train", batch_size)
        chunks = math.ceil((len(sections[0]) - 1) / self.chunk)
        return (self._chunk(sections, i % chunks) for i in count(start))

    def sections(self, split: Split, rows: int) -> list[range]:
        """A split, cut into one section per row: the steps that the row reads.

        Raises:
            ValueError: the split is too short for so many rows.
        """
        part = self._part(split)
        each = len(part) // rows
        if each < 2:
            raise ValueError(
                f"data: the {split} part of {self._where} has {len(part)} {self.unit}s, too few for {rows} rows; a "
                "row needs at least 2"
            )
        return [part[row * each : (row + 1) * each] for row in range(rows)]

    def _chunk(self, sections: list[range], number: int) -> Batch:
        """Chunk `number` of each section, and the step after it."""
        first = number * self.chunk
        spans = [section[first : first + self.chunk + 1] for section in sections]
        values = np.stack([self._read(span[0], span[-1] + 1) for span in spans], axis=1)
        return next_step(values, begins=number == 0)


def next_step(values: NDArray[Any], begins: bool) -> Batch:
    """A chunk whose target is its input one step later.

    Args:
        values: tokens (T + 1, B), integers, or real values (T + 1, B, C).
        begins: whether all rows begin a new stream.
    """
    tensor = torch.as_tensor(values)
    tensor = tensor.float() if tensor.is_floating_point() else tensor.long()
    return Batch(tensor[:-1], tensor[1:], torch.full((tensor.shape[1],), begins))


def next_step_batches(rows: Sequence[Iterable[Any]], chunk: int) -> Iterator[Batch]:
    """Training batches of next-step prediction from iterators, which may be endless, one per row.

    Args:
        rows: each yields one stream in consecutive pieces of any length: tokens (n,), integers, or real values
            (n, C); arrays or tensors. A piece is kept only until it is used.
        chunk: steps per batch.

    Returns:
        chunks until one of the streams ends; the steps of an incomplete chunk are left out. The first chunk resets
        all rows.

    Raises:
        ValueError: there is no row, or chunk is below 1.
    """
    at_least("chunk", chunk, 1)
    if not rows:
        raise ValueError("rows must be at least one iterator, got none")
    streams = [_spans(iter(row), chunk + 1) for row in rows]
    # zip stops at the end of the shortest stream; with strict=True unequal lengths would be an error.
    return (next_step(np.stack(spans, axis=1), begins=i == 0) for i, spans in enumerate(zip(*streams, strict=False)))


def _spans(pieces: Iterator[Any], length: int) -> Iterator[NDArray[Any]]:
    """A stream in spans of `length` steps; each begins with the last step of the span before."""
    waiting: list[NDArray[Any]] = []
    for piece in pieces:
        waiting.append(np.asarray(piece))
        if sum(map(len, waiting)) < length:
            continue
        whole, begin = np.concatenate(waiting), 0
        while begin + length <= len(whole):
            yield whole[begin : begin + length]
            begin += length - 1
        waiting = [whole[begin:].copy()]
