"""The interface of a task: batches, a loss and metrics, and the seeds of its random numbers. Tasks know no model.

Shapes: B batch, T time, I input features, C outputs (classes or real values).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, get_args

import numpy as np
import torch
from torch import Tensor

from reminding.checks import at_least, at_least_or_none, one_of

Split = Literal["train", "valid", "test"]
EvalSplit = Literal["valid", "test"]
MetricSums = dict[str, tuple[float, float]]
"""Metric name -> (sum, number of summands)."""

TRAINING = "training"
"""Key in the metadata of an option that changes the training loss, but neither the data nor the metrics."""
DERIVED = "derived"
"""Key in the metadata of an option that follows from the others, and is recorded as a check."""

_SPLIT_KEY: dict[Split, int] = {"train": 0, "valid": 1, "test": 2}


@dataclass(frozen=True)
class Batch:
    """Some sequences with their targets.

    Args:
        input: token ids, (T, B) int64, or real values, (T, B, I) float32.
        target: in the form that the task's loss needs. B is its last axis, except for real values, (T, B, C).
        reset: which rows of a chunk begin a new stream, (B,) bool on the host; the others continue where the last
            batch ended. None: the sequences are whole, and no state is carried.
    """

    input: Tensor
    target: Tensor
    reset: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on `device`; the mask stays on the host."""
        return Batch(self.input.to(device), self.target.to(device), self.reset)

    def rows(self, chosen: slice) -> Batch:
        """Some of the sequences."""
        target = self.target[:, chosen] if self.target.dim() == 3 else self.target[..., chosen]
        return Batch(self.input[:, chosen], target, None if self.reset is None else self.reset[chosen])


class Task(Protocol):
    """What a trainer needs of a task. A task is a frozen dataclass whose fields are command line options."""

    name: ClassVar[str]
    maximize: ClassVar[bool]
    """Whether a larger `metric` is better."""
    streamed: ClassVar[bool]
    """Whether the batches are chunks of streams, with `Batch.reset`, or whole sequences."""

    @property
    def metric(self) -> str:
        """The main one of the `metrics`, by which models are compared."""
        ...

    @property
    def vocabulary(self) -> int | None:
        """Number of token ids; None if the input is real-valued."""
        ...

    @property
    def input_size(self) -> int:
        """Features per step; for tokens, the size of the vocabulary."""
        ...

    @property
    def output_size(self) -> int:
        """C, the width of the prediction."""
        ...

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless training batches, the same for the same `seed`.

        A batch of 0 steps means that there is no data yet; it does not count.

        Args:
            batch_size: sequences per batch, B, at least 1.
            seed: at least 0.
            start: number of batches to skip, at no cost; a resumed run continues where it stopped.

        Raises:
            ValueError: at the call, not at the first batch.
        """
        ...

    def eval_batches(self, split: EvalSplit, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """The sequences of a split, the same every time and for every `batch_size`.

        Args:
            split: "valid" or "test".
            batch_size: sequences per batch; the last batch may be smaller.
            limit: number of sequences (not batches), or of chunks of each stream; None: the task's own number.

        Raises:
            ValueError: at the call, not at the first batch.
        """
        ...

    def loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """The mean training loss, a scalar. `prediction` is the readout of every step, (T, B, C).

        A chunk of a stream without a target has a loss of 0, without a gradient.
        """
        ...

    def count_targets(self, batch: Batch) -> int:
        """The number of targets that the loss is the mean over, in some unit; 0 without a target.

        So that the losses of parts of a batch, weighted by their targets, give the loss of the whole.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """Everything learned from the training data that a model or a metric needs, as JSON values."""
        ...

    def with_facts(self, facts: Mapping[str, Any]) -> Self:
        """The same task with these facts. It needs its files for batches alone."""
        ...

    def files(self) -> dict[str, Path]:
        """The files of the training data by name, whose content a resumed run checks."""
        ...

    def unread(self) -> dict[str, str]:
        """The options that mean nothing beside the others, whatever their value -> why."""
        ...

    def metrics(self, prediction: Tensor, batch: Batch) -> MetricSums:
        """Sums and counts, from which `mean_metrics` computes exact means over batches of unequal size."""
        ...


def mean_metrics(parts: Iterable[Mapping[str, tuple[float, float]]]) -> dict[str, float]:
    """Compute the mean of each metric over several batches.

    Args:
        parts: the sums and counts that `Task.metrics` returned for each batch.

    Returns:
        metric -> mean; nan if its count is 0.
    """
    sums: MetricSums = {}
    for part in parts:
        for name, (value, count) in part.items():
            total, counted = sums.get(name, (0.0, 0.0))
            sums[name] = (total + value, counted + count)
    return {name: value / count if count else math.nan for name, (value, count) in sums.items()}


def stream(task: str, split: Split, seed: int, index: int) -> np.random.Generator:
    """Return a generator of the random numbers of one batch, sequence or epoch.

    Generators differ if any argument differs: splits never share random numbers, and the numbers of an index can be
    drawn without those of the indices before.

    Args:
        task: name of the task.
        split: each split has its own random numbers.
        seed: of the user, at least 0 and below 2**128.
        index: number within the split, at least 0.
    """
    key = (zlib.crc32(task.encode()), _SPLIT_KEY[split], index)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def check_training(batch_size: int, seed: int, start: int) -> None:
    """Raise a ValueError that names a bad argument of `Task.train_batches`."""
    at_least("batch_size", batch_size, 1)
    at_least("seed", seed, 0)
    at_least("start", start, 0)


def check_evaluation(split: str, batch_size: int, limit: int | None) -> None:
    """Raise a ValueError that names a bad argument of `Task.eval_batches`."""
    one_of("split", split, get_args(EvalSplit))
    at_least("batch_size", batch_size, 1)
    at_least_or_none("limit", limit, 1)


def check_prediction(prediction: Tensor, batch: Batch, output_size: int) -> None:
    """Raise a ValueError unless `prediction` is (T, B, C) for this batch.

    Otherwise broadcasting could turn a missing axis into a plausible loss.
    """
    expected = (*batch.input.shape[:2], output_size)
    if tuple(prediction.shape) != expected:
        raise ValueError(f"prediction must be (T, B, C) = {expected}, got shape {tuple(prediction.shape)}")


def full_precision(prediction: Tensor) -> Tensor:
    """Return float16 and bfloat16 as float32, since metrics are sums over many steps; wider types are unchanged."""
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32))
