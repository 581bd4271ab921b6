"""The base of data sets whose sequences are read step by step and classified at the last step.

Shapes: N examples, B batch, T steps, I values per step, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
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
    stream,
)
from reminding.tasks.kinds.facts import Informed
from reminding.tasks.kinds.tallies import ClassTally


class Labelled(Protocol):
    """One split of a data set."""

    @property
    def label(self) -> Tensor:
        """(N,) int64."""
        ...

    def batch(self, rows: Tensor) -> Batch:
        """Return the examples at `rows` (B,): input (T, B, I), target (B,)."""
        ...


@dataclass(frozen=True)
class Examples:
    """One split of a set of images, stored as bytes and converted to real values batch by batch.

    Args:
        pixels: (N, T) uint8, in reading order, or (N, T, I) if a step shows several values.
        label: (N,) int64.
        peak: the pixel value that becomes 1.0.
    """

    pixels: Tensor
    label: Tensor
    peak: int

    def batch(self, rows: Tensor) -> Batch:
        """Return the examples at `rows` (B,): input (T, B, 1) or (T, B, I) in [0, 1], target (B,)."""
        pixels = self.pixels[rows].transpose(0, 1).contiguous()  # (T, B), or (T, B, I)
        values = pixels.unsqueeze(-1) if pixels.dim() == 2 else pixels
        return Batch(values.float() / self.peak, self.label[rows])


class Classification(Informed, ABC):
    """A finite data set of sequences with a class each."""

    name: ClassVar[str]
    streamed: ClassVar[bool] = False
    metric = "accuracy"
    maximize: ClassVar[bool] = True

    @abstractmethod
    def examples(self, split: Split) -> Labelled:
        """Return one split, loaded at most once per process."""

    @property
    def vocabulary(self) -> None:
        """None: the input is real-valued."""
        return None

    @property
    @abstractmethod
    def input_size(self) -> int:
        """I, values per step."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """C, the number of classes."""

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless training batches; see `Task.train_batches`.

        Every epoch has its own order. The last N % batch_size examples of an epoch, which do not fill a batch, are
        left out; they differ between epochs.

        Raises:
            ValueError: batch_size is below 1 or above N.
        """
        check_training(batch_size, seed, start)
        examples = self.examples("train")
        total = len(examples.label)
        if batch_size > total:
            raise ValueError(f"batch_size must be at most {total}, the number of training examples, got {batch_size}")
        return self._epochs(examples, batch_size, seed, start)

    def _epochs(self, examples: Labelled, batch_size: int, seed: int, start: int) -> Iterator[Batch]:
        total = len(examples.label)
        batches = total // batch_size
        epoch, first = divmod(start, batches)
        while True:
            order = torch.as_tensor(stream(self.name, "train", seed, epoch).permutation(total))
            for i in range(first, batches):
                yield examples.batch(order[i * batch_size : (i + 1) * batch_size])
            epoch, first = epoch + 1, 0

    def eval_batches(self, split: EvalSplit, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """All examples of a split, or `limit` of them; see `Task.eval_batches`.

        The `limit` examples are spread evenly over the split, since its order may matter: the first half of MNIST's
        test set is known to be easier than the second.
        """
        rows, examples = self.evaluated(split, batch_size, limit), self.examples(split)
        return (examples.batch(part) for part in torch.split(rows, batch_size))

    def evaluated(self, split: EvalSplit, batch_size: int, limit: int | None) -> Tensor:
        """The numbers of the examples that `eval_batches` reads, at most (limit,)."""
        check_evaluation(split, batch_size, limit)
        total = len(self.examples(split).label)
        chosen = total if limit is None else min(limit, total)
        return torch.arange(chosen) * total // max(chosen, 1)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the prediction's values."""
        return tuple(map(str, range(self.output_size)))

    def tally(self) -> ClassTally:
        """The confusion of the classes, beside the share of the most frequent one."""
        counts: list[int] | None = self.facts().get("counts")
        return ClassTally(self.classes, None if counts is None else counts.index(max(counts)))

    def loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy of the last step, nats. `prediction` is logits, (T, B, C)."""
        check_prediction(prediction, batch, self.output_size)
        return F.cross_entropy(prediction[-1], batch.target)

    def metrics(self, prediction: Tensor, batch: Batch) -> MetricSums:
        """Return "accuracy" and "cross_entropy" (nats) of the last step, from logits (T, B, C)."""
        check_prediction(prediction, batch, self.output_size)
        last = full_precision(prediction[-1])  # (B, C)
        right = last.argmax(-1) == batch.target
        surprise = F.cross_entropy(last, batch.target, reduction="sum")
        count = batch.target.numel()
        return {"accuracy": (float(right.sum()), count), "cross_entropy": (float(surprise), count)}


class PixelClassification(Classification):
    """A finite data set of square images in ten classes, read one pixel per step."""

    number_of_classes: ClassVar[int] = 10
    side: ClassVar[int]
    """Pixels on a side of an image."""

    @property
    def input_size(self) -> int:
        """One feature per step: the pixel."""
        return 1

    @property
    def output_size(self) -> int:
        """C, the number of classes."""
        return self.number_of_classes

    @property
    def shape(self) -> tuple[int, int]:
        """Steps of an image, and values of a step."""
        return self.side**2, self.input_size
