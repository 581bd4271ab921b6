"""The networks of the estimators, and their training.

Shapes: N series, T steps, I values per step, B batch, C outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.lab.runs.config import ModelOptions
from reminding.lab.runs.model import SequenceModel
from reminding.lab.train.clip import FAILURES, GradientClipper
from reminding.nn.parts.tensors import counting_on_host

Loss = Callable[[Tensor, Tensor], Tensor]
CLIP = 1.0
_DRAWING = Lock()
STREAM_ROWS = 8
"""The most parallel streams into which a training stream is cut."""


@dataclass(frozen=True)
class Outline:
    """The widths of a network's input and output, and of a stream the steps of a chunk: what it needs of a task."""

    input_size: int
    output_size: int
    chunk: int | None = None
    vocabulary: ClassVar[None] = None

    @property
    def streamed(self) -> bool:
        """Whether it is a stream, which is read in chunks."""
        return self.chunk is not None


@dataclass(frozen=True)
class Fitting:
    """How a network is fitted.

    Args:
        epochs: passes over the training data.
        batch_size: series per update, or steps of a stream.
        learning_rate: Adam's.
        seed: of the weights and of the order of the series.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int


def plain(value: Any) -> Any:
    """A number of numpy as one of Python; anything else as it is."""
    return cast("Any", value).item() if isinstance(value, np.generic) else value


@contextmanager
def own_modes() -> Generator[None]:
    """Compute on the CPU, with gradients unless they are turned off within, whatever the modes of the caller are."""
    with counting_on_host(), torch.inference_mode(False), torch.enable_grad():
        yield


def network(outline: Outline, options: ModelOptions, seed: int) -> tuple[SequenceModel, torch.Generator]:
    """A network in float64, as scikit-learn's arrays are, drawn from a seed; and what random numbers follow.

    PyTorch's generator and default type are those of the process: one thread uses them at a time, and leaves them as
    they were.
    """
    kind, following = torch.get_default_dtype(), torch.Generator()
    with _DRAWING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_default_dtype(torch.float32)
        try:
            model = SequenceModel(outline, options).double().train()
        finally:
            torch.set_default_dtype(kind)
        following.set_state(torch.get_rng_state())
    return model, following


@own_modes()
def fit_series(
    outline: Outline,
    options: ModelOptions,
    inputs: NDArray[np.float64],
    targets: NDArray[Any],
    loss: Loss,
    fitting: Fitting,
) -> SequenceModel:
    """Fit a network to predict one target per series at its last step.

    Args:
        inputs: (N, T, I), scaled.
        targets: (N, ...), in the form that the loss needs.
        loss: of the prediction (B, C) and the targets (B, ...).
    """
    series, wanted = torch.as_tensor(inputs).transpose(0, 1), torch.as_tensor(targets)  # (T, N, I), (N, ...)
    model, generator = network(outline, options, fitting.seed)
    update = Update(model, fitting.learning_rate)
    for _ in range(fitting.epochs):
        order = torch.randperm(len(wanted), generator=generator)
        for rows in torch.split(order, min(fitting.batch_size, len(wanted))):
            prediction, _, _ = model(series[:, rows].contiguous())
            update(loss(prediction[-1], wanted[rows]))
    update.check()
    return model.eval()


@own_modes()
def fit_stream(
    outline: Outline,
    options: ModelOptions,
    inputs: NDArray[np.float64],
    targets: NDArray[np.float64],
    fitting: Fitting,
) -> SequenceModel:
    """Fit a network to predict a target at every step of a stream, with the state carried from chunk to chunk.

    The stream is divided into up to eight rows of equal length; its first steps, at most seven, are left out for it.

    Args:
        inputs: (T, I); targets: (T, C), both scaled.
    """
    rows = max(1, min(STREAM_ROWS, len(inputs) // (2 * fitting.batch_size)))
    each = len(inputs) // rows
    x, y = (
        torch.as_tensor(values[len(values) - rows * each :]).view(rows, each, -1).transpose(0, 1).contiguous()
        for values in (inputs, targets)
    )  # (T, B, I), (T, B, C)
    model, _ = network(outline, options, fitting.seed)
    update = Update(model, fitting.learning_rate)
    for _ in range(fitting.epochs):
        state: Any = None
        for chunk, wanted in zip(*(torch.split(each, fitting.batch_size) for each in (x, y)), strict=True):
            prediction, state, _ = model(chunk, state)
            update(torch.nn.functional.mse_loss(prediction, wanted))
    update.check()
    return model.eval()


class Update:
    """Adam with clipping; a gradient that is not finite is skipped.

    Args:
        adaptive: whether the bound follows the gradients. It grows by 2% an update at most: too slowly for a stream
            that changes after it was predicted well, whose gradients were small.
    """

    def __init__(self, model: torch.nn.Module, learning_rate: float, *, adaptive: bool = True) -> None:
        self.learning_rate = learning_rate
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=learning_rate)
        self.clipper = GradientClipper(CLIP, adaptive)
        self.failures = 0  # the latest gradients in a row that were not finite

    def __call__(self, loss: Tensor) -> None:
        """Make one update by a loss.

        Raises:
            ValueError: as in `check`, after ten gradients in a row that are not finite.
        """
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if math.isfinite(self.clipper(self.parameters)):
            self.optimizer.step()
            self.failures = 0
            return
        self.failures += 1
        if self.failures >= FAILURES:
            self.check()

    def change_rate(self, learning_rate: float) -> None:
        """Go on with another learning rate."""
        self.learning_rate = learning_rate
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def check(self) -> None:
        """Raise an error if the latest gradient was not finite.

        Raises:
            ValueError: it was not; names the learning rate.
        """
        if self.failures:
            told = f"the last {self.failures} gradients were" if self.failures > 1 else "the last gradient was"
            raise ValueError(f"learning_rate: {told} not finite; try one below {self.learning_rate:g}")


@own_modes()
def last_outputs(model: SequenceModel, inputs: NDArray[np.float64], batch_size: int) -> NDArray[np.float64]:
    """The prediction at the end of each series, (N, C), of inputs (N, T, I)."""
    with torch.no_grad():
        parts = [
            model(torch.as_tensor(part).transpose(0, 1).contiguous())[0][-1].numpy()
            for part in np.split(inputs, range(int(batch_size), len(inputs), int(batch_size)))
        ]
    return np.concatenate(parts)


@own_modes()
def stream_outputs(
    model: SequenceModel, inputs: NDArray[np.float64], batch_size: int
) -> tuple[NDArray[np.float64], Any]:
    """The prediction at every step of one stream, (T, C), of inputs (T, I); and the state after it."""
    state: Any = None
    parts: list[NDArray[np.float64]] = []
    with torch.no_grad():
        for chunk in torch.split(torch.as_tensor(inputs).unsqueeze(1), int(batch_size)):
            prediction, state, _ = model(chunk, state)
            parts.append(prediction[:, 0].numpy())
    return np.concatenate(parts), state
