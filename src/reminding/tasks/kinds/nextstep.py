"""The base of tasks that predict the next step of long streams, from files of any kind or character data sets.

Shapes: N steps in all, B batch (rows, one stream each), T steps of a chunk, C columns or classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, count
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reminding.checks import at_least
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
from reminding.tasks.kinds.facts import Informed

UNKNOWN = -100
"""The target token of a step whose next step is not known; of real values it is NaN."""


class NextStep(Informed, ABC):
    """Data whose parts are unbroken streams, read in chunks; the target of a step is the next step.

    The B rows of a batch read the training part in parallel, one B-th each. State is carried from chunk to chunk, and
    all rows begin anew after a pass. Steps are tokens or real values.
    """

    name: ClassVar[str]
    streamed: ClassVar[bool] = True
    maximize: ClassVar[bool] = False
    lengthens: ClassVar[str] = ""
    """The option that makes held-out parts longer, if there is one."""

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
        rows = self._rows(split, self.eval_rows)
        groups = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        return (
            self._chunk(group, number, again=False)
            for group in groups
            for number in range(min(max(row.chunks for row in group), limit or 2**62))
        )

    def loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Mean over all steps: cross-entropy, nats, of logits (T, B, C); or squared error of values (T, B, C).

        A target that is not known, UNKNOWN or NaN, does not count.
        """
        check_prediction(prediction, batch, self.output_size)
        known = _known(batch.target)
        if not bool(known.any()):
            return prediction.new_zeros(())
        if self.vocabulary is not None:
            return F.cross_entropy(prediction.flatten(0, 1), batch.target.flatten(), ignore_index=UNKNOWN)
        target = batch.target.to(prediction.dtype)
        return (
            F.mse_loss(prediction[known], target[known]) if not bool(known.all()) else F.mse_loss(prediction, target)
        )

    def count_targets(self, batch: Batch) -> int:
        """Return the number of known targets; see `Task.count_targets`."""
        return int(_known(batch.target).sum())

    def metrics(self, prediction: Tensor, batch: Batch) -> MetricSums:
        """For tokens "bits_per_UNIT" and "accuracy"; for values "mse" and "mse_unchanged".

        "mse_unchanged" is the error of predicting no change, which a model has to beat, where there is a value that
        could stay as it is. A target that is not known does not count.
        """
        check_prediction(prediction, batch, self.output_size)
        precise, known = full_precision(prediction), _known(batch.target)
        steps = int(known.sum())
        if self.vocabulary is None:
            target = batch.target[known]
            error = F.mse_loss(precise[known], target.to(precise.dtype), reduction="sum")
            unchanged = (self.unchanged(batch.input)[known] - target).square()
            compared = int((~unchanged.isnan()).sum())
            return {"mse": (float(error), steps), "mse_unchanged": (float(unchanged.nansum()), compared)}
        flat, target = precise.flatten(0, 1), batch.target.flatten()
        surprise = F.cross_entropy(flat, target, reduction="sum", ignore_index=UNKNOWN)
        right = (precise.argmax(-1) == batch.target).sum()
        return {self.metric: (float(surprise) / math.log(2), steps), "accuracy": (float(right), steps)}

    def unchanged(self, input: Tensor) -> Tensor:
        """What predicts no change: the present values (T, B, C) of what is predicted, from the input (T, B, I).

        NaN where no value is known.
        """
        return input

    def target_of(self, values: NDArray[Any]) -> NDArray[Any]:
        """What is predicted of steps, from what is read of them: the same, unless a task says otherwise."""
        return values

    def batch_of(self, values: NDArray[Any]) -> Batch:
        """The first steps of new streams as a batch, with each next step as the target.

        Args:
            values: tokens (T + 1, B), or real values (T + 1, B, I), as the model reads them.
        """
        return _batch(values, self.target_of(values), np.ones(values.shape[1:2], np.bool_))

    def _training(self, batch_size: int, start: int) -> Iterator[Batch]:
        """Chunks of the training part from number `start` on, counted over all passes."""
        rows = self._rows("train", batch_size)
        return (self._chunk(rows, i) for i in count(start))

    def _pieces(self, split: Split) -> list[range]:
        """The unbroken streams of a split, at least one."""
        return [self._part(split)]

    def held_out_row(self, split: EvalSplit, row: int) -> Row:
        """What one of the parallel streams of a held-out part reads, by its number from 0."""
        return self._rows(split, self.eval_rows)[row]

    def sections(self, split: Split, rows: int) -> list[range]:
        """The steps that each row reads of a split that is one unbroken stream.

        Raises:
            ValueError: the split is too short for so many rows.
        """
        return [piece for row in self._rows(split, rows) for piece in row.pieces]

    def _rows(self, split: Split, rows: int) -> list[Row]:
        """A split, cut into pieces of about the size of a row, which are dealt to the rows."""
        pieces = self._pieces(split)
        total = sum(map(len, pieces))
        if total // rows < 2:
            option, way = ("--batch-size", "smaller") if split == "train" else ("--eval-rows", "larger")
            change = f"a smaller {option}" + f", or a {way} {self.lengthens}" * bool(self.lengthens)
            raise ValueError(
                f"data: the {split} part of {self._where} has {total} {self.unit}s, too few for {rows} parallel "
                f"streams of at least 2 {self.unit}s each: give more data, or {change}"
            )
        cut: list[range] = []
        for piece in pieces:
            parts = rows if len(pieces) == 1 else max(1, round(rows * len(piece) / total))
            each = len(piece) // parts
            cut += [piece[i * each : (i + 1) * each] for i in range(parts) if each >= 2]
        dealt = deal(cut, rows)
        if not all(dealt):
            raise ValueError(
                f"data: the {split} part of {self._where} has {len(cut)} pieces of 2 {self.unit}s or more, expected "
                f"at least {rows}, one for each parallel stream"
            )
        return [Row(tuple(pieces), self.chunk) for pieces in dealt]

    def _chunk(self, rows: Sequence[Row], number: int, again: bool = True) -> Batch:
        """Chunk `number` of each row, and the step after it.

        Args:
            again: whether a row that has ended begins anew; otherwise its steps have no known target.
        """
        places = [row.chunk(number) for row in rows]
        length = max(len(place.steps) for place in places)
        read: list[NDArray[Any]] = []
        known = np.zeros((length, len(rows)), bool)
        for i, place in enumerate(places):
            values = self._read(place.steps.start, place.steps.stop)
            known[: len(values), i] = again or not place.again
            filler = np.repeat(values[-1:], length - len(values), axis=0)
            read.append(np.concatenate([values, filler]) if len(filler) else values)
        values = np.stack(read, axis=1)
        targets = self.target_of(values)
        if not known.all():
            targets = np.where(known if targets.ndim == 2 else known[..., None], targets, _unknown(targets))
        return _batch(values, targets, np.array([place.begins for place in places]))


@dataclass(frozen=True)
class Place:
    """A chunk of a row.

    Args:
        steps: of the chunk, and the step after it.
        begins: whether a stream begins with it.
        again: whether the row has been read to its end before.
    """

    steps: range
    begins: bool
    again: bool


@dataclass(frozen=True)
class Row:
    """The pieces of streams that a row of the batch reads, one after the other, each in chunks."""

    pieces: tuple[range, ...]
    chunk_size: int

    @cached_property
    def _ends(self) -> list[int]:
        """The number of chunks to the end of each piece."""
        return list(accumulate(math.ceil((len(piece) - 1) / self.chunk_size) for piece in self.pieces))

    @property
    def chunks(self) -> int:
        """Chunks of a pass."""
        return self._ends[-1]

    def chunk(self, number: int) -> Place:
        """Chunk `number`, counted over all passes."""
        passes, number = divmod(number, self.chunks)
        piece = bisect_right(self._ends, number)
        first = number - (self._ends[piece - 1] if piece else 0)
        begin = first * self.chunk_size
        return Place(self.pieces[piece][begin : begin + self.chunk_size + 1], first == 0, passes > 0)


def deal(pieces: Sequence[range], rows: int) -> list[list[range]]:
    """Pieces dealt to rows, the longest first, each to the row with the fewest steps; a row keeps their order."""
    dealt: list[list[range]] = [[] for _ in range(rows)]
    sizes = [0] * rows
    for piece in sorted(pieces, key=lambda piece: (-len(piece), piece.start)):
        least = sizes.index(min(sizes))
        dealt[least].append(piece)
        sizes[least] += len(piece)
    return [sorted(row, key=lambda piece: piece.start) for row in dealt]


def _known(target: Tensor) -> Tensor:
    return ~target.isnan() if target.is_floating_point() else target != UNKNOWN


def _unknown(targets: NDArray[Any]) -> float | int:
    return np.nan if np.issubdtype(targets.dtype, np.floating) else UNKNOWN


def _batch(values: NDArray[Any], targets: NDArray[Any], begins: NDArray[np.bool_]) -> Batch:
    read, asked = (_tensor(each) for each in (values, targets))
    return Batch(read[:-1], asked[1:], torch.as_tensor(begins))


def _tensor(values: NDArray[Any]) -> Tensor:
    tensor = torch.as_tensor(values)
    return tensor.float() if tensor.is_floating_point() else tensor.long()


def next_step(values: NDArray[Any], begins: bool) -> Batch:
    """A chunk whose target is its input one step later.

    Args:
        values: tokens (T + 1, B), integers, or real values (T + 1, B, C).
        begins: whether all rows begin a new stream.
    """
    return _batch(values, values, np.full(values.shape[1:2], begins, np.bool_))


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
