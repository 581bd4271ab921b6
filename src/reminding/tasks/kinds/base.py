"""What a task is: batches, a loss and metrics, and the seeds behind them. Knows no model.

Shapes: B batch, T time, I input features, C outputs (classes or real values).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from reminding.tasks.kinds.checks import at_least, at_least_or_none, one_of

Split = Literal["train", "valid", "test"]
EvalSplit = Literal["valid", "test"]
MetricSums = dict[str, tuple[float, float]]
"""Metric name -> (sum over what was counted, how many were counted)."""

TRAINING = "training"
"""Key in the metadata of an option that changes the loss trained on, but neither the data nor what is measured."""
DERIVED = "derived"
"""Key in the metadata of an option that follows from the others, and is kept to be checked."""

_SPLIT_KEY: dict[Split, int] = {"train": 0, "valid": 1, "test": 2}


@dataclass(frozen=True)
class Batch:
    """Some sequences and what is wanted of them.

    Args:
        input: token ids, (T, B) int64, or real values, (T, B, I) float32.
        target: whatever the task's own loss needs; B is its last axis, unless the target is values as the
            input is, (T, B, C).
        reset: of a chunk of streams: which rows begin a new one, (B,) bool on the host; the others go on
            where the batch before ended. None: the sequences are whole, and nothing is carried.
    """

    input: Tensor
    target: Tensor
    reset: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on `device`; the mask stays on the host."""
        return Batch(self.input.to(device), self.target.to(device), self.reset)


class Task(Protocol):
    """What a trainer needs. A task is a frozen dataclass; its fields are its command line options."""

    name: ClassVar[str]
    maximize: ClassVar[bool]
    """Whether a larger `metric` is better."""
    streamed: ClassVar[bool]
    """Whether its batches are chunks of streams, as `Batch.reset` says, not whole sequences."""

    @property
    def metric(self) -> str:
        """The main one of `metrics`, by which models are compared."""
        ...

    @property
    def vocabulary(self) -> int | None:
        """Number of token ids when the input is tokens, None when it is real-valued."""
        ...

    @property
    def input_size(self) -> int:
        """Features a step; for tokens, the size of the vocabulary."""
        ...

    @property
    def output_size(self) -> int:
        """C, the width of the prediction."""
        ...

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Training batches without end; the same ones for the same `seed`.

        A batch of 0 steps says that there is nothing to train on yet; it does not count.

        Args:
            batch_size: sequences a batch, B, at least 1.
            seed: at least 0.
            start: batches already drawn; a resumed run goes on where it stopped, at no cost.

        Raises:
            ValueError: at the call, not at the first batch.
        """
        ...

    def eval_batches(self, split: EvalSplit, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """The sequences of a split, the same every time and whatever `batch_size` is.

        Args:
            split: "valid" or "test".
            batch_size: sequences a batch; the last batch may be smaller.
            limit: evaluate this many sequences (not batches), of streams this many chunks of each; None for
                the task's own number.

        Raises:
            ValueError: at the call, not at the first batch.
        """
        ...

    def loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Mean loss to train on, a scalar. `prediction` is every step's readout, (T, B, C).

        A chunk of a stream that asks for nothing has a loss of 0 without a gradient.
        """
        ...

    def metrics(self, prediction: Tensor, batch: Batch) -> MetricSums:
        """Sums and counts, so that batches of unequal size add up to the exact mean (`mean_metrics`)."""
        ...


def mean_metrics(parts: Iterable[Mapping[str, tuple[float, float]]]) -> dict[str, float]:
    """Add up the metrics of several batches and divide, once, at the end.

    Args:
        parts: what `Task.metrics` returned, batch by batch.

    Returns:
        The mean of each metric; nan for one that counted nothing.
    """
    sums: MetricSums = {}
    for part in parts:
        for name, (value, count) in part.items():
            total, counted = sums.get(name, (0.0, 0.0))
            sums[name] = (total + value, counted + count)
    return {name: value / count if count else math.nan for name, (value, count) in sums.items()}


def stream(task: str, split: Split, seed: int, index: int) -> np.random.Generator:
    """Return the random numbers of one batch, sequence or epoch.

    Streams differ when any of the arguments does, so train and test never share one, and number
    `index` is reached without drawing the ones before it.

    Args:
        task: the task's name.
        split: train, valid and test are different streams of the same seed.
        seed: the user's, at least 0 and below 2**128.
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

    Broadcasting would otherwise turn a forgotten axis into a plausible loss.
    """
    expected = (*batch.input.shape[:2], output_size)
    if tuple(prediction.shape) != expected:
        raise ValueError(f"prediction must be (T, B, C) = {expected}, got shape {tuple(prediction.shape)}")


def full_precision(prediction: Tensor) -> Tensor:
    """Return float16 and bfloat16 as float32, anything wider as it is: metrics are sums over many steps."""
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32))
