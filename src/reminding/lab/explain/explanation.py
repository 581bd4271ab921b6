"""What a trained network recalled while it read a sequence, and which memories received the credit.

Shapes: T time, I input features, C outputs, K recalled memories, L layers, N entries of credit.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from reminding.lab.explain.excerpts import Excerpt, ExplainOptions, excerpts
from reminding.lab.explain.forecast import Forecast, forecast_of
from reminding.lab.explain.legend import Legend, legend_of
from reminding.lab.explain.times import StepTimes
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.facts import check_own_data
from reminding.lab.runs.model import SequenceModel, recalls_of
from reminding.nn import SAB, Recall
from reminding.nn.credit.ledger import Credit
from reminding.tasks import TRAINING, Batch
from reminding.tasks.data.reading import Reading

NO_TARGET = -1
"""The target class of a step without a target."""


@dataclass(frozen=True)
class Reminders:
    """What one layer recalled in one sequence, and the gradient that came back through it. Steps count from 1.

    Attributes:
        step: the step at which each recalled memory was stored, (T, K) int64, 0 where nothing was recalled.
        weight: of each recalled memory, (T, K).
        reader: the step that recalled a memory which received gradient, (N,) int64, in order of falling amounts.
        memory: the step at which that memory was stored, (N,) int64.
        amount: norm of the gradient that the memory received through this recall, (N,).
    """

    step: NDArray[np.int64]
    weight: NDArray[np.float64]
    reader: NDArray[np.int64]
    memory: NDArray[np.int64]
    amount: NDArray[np.float64]

    @property
    def payer(self) -> NDArray[np.int64]:
        """The old name of `reader`."""
        warnings.warn("Reminders.payer is now Reminders.reader", DeprecationWarning, stacklevel=2)
        return self.reader

    @property
    def payee(self) -> NDArray[np.int64]:
        """The old name of `memory`."""
        warnings.warn("Reminders.payee is now Reminders.memory", DeprecationWarning, stacklevel=2)
        return self.memory


@dataclass(frozen=True)
class Explanation:
    """One sequence, the network's predictions, and what it recalled.

    Attributes:
        name: of the sequence.
        credit_of: the quantity whose gradient the credit is.
        legend: how to show the sequence.
        input: tokens, (T,), or values, (T, I).
        prediction: class logits or values, (T, C).
        target: the target class of each step, (T,), -1 where there is none; or target values, (T, C), nan where there
            are none. None: the targets are unknown.
        layers: L of them.
        interval: number of steps between two memories.
        reached: the gradient at the input, (T,): the absolute value of input times gradient, summed over the values
            of a step. None: the input is tokens.
        at: the steps whose loss the credit is of; () for the whole loss.
        times: of the steps; None: they have none.
        forecast: of a table: the predicted values and the truth in their own units.
        padding: number of the first steps that are none of the sequence's, which is shorter than others.
        absent: whether each value of a step is missing, (T, n, D), n frames of D values, in a file of the user with
            missing values where training had none, which has no mask for them; None: masks tell, or nothing is.
        reading: what was read of a file of the user; None: the sequence is one of the task's.
    """

    name: str
    credit_of: str
    legend: Legend
    input: NDArray[Any]
    prediction: NDArray[np.float64]
    target: NDArray[Any] | None
    layers: tuple[Reminders, ...]
    interval: int
    reached: NDArray[np.float64] | None = None
    at: tuple[int, ...] = ()
    times: StepTimes | None = None
    forecast: Forecast | None = None
    padding: int = 0
    absent: NDArray[np.bool_] | None = None
    reading: Reading | None = None

    @property
    def values(self) -> NDArray[np.float64]:
        """The real values to draw, (T, J); see `Legend.values`."""
        return self.legend.values(self.input, self.padding, self.absent)

    def place(self, step: int) -> str:
        """The time of a step in words, or its number."""
        time = None if self.times is None else self.times.of(step)
        padding = ", which is padding" if step <= self.padding else ""
        return f"{time or f'{self.legend.unit} {step:,}'}{padding}"


def explain(folder: Path, options: ExplainOptions | None = None) -> list[Explanation]:
    """Run a trained model forward and backward over some sequences, and record its recalls and their credit.

    Args:
        folder: of a run of SAB.

    Raises:
        FileNotFoundError: the folder is not a run or has no weights yet, or the input, or without one a file of the
            run's data, does not exist.
        ValueError: the run recalls nothing, or every state; an option does not fit; or a file of the run's data was
            changed. The message names it.
    """
    options = options or ExplainOptions()
    config, model, layer = explainable(folder)
    if options.layer is not None and not 1 <= options.layer <= layer.num_layers:
        raise ValueError(f"layer must be from 1 to {layer.num_layers}, got {options.layer}")
    task, legend = config.task, legend_of(config.task)
    if options.input is None:
        check_own_data(task, folder, "explain", "--input FILE explains another file")
    return [_explained(model, layer, task, legend, excerpt, options.at) for excerpt in excerpts(task, options)]


def explainable(folder: Path) -> tuple[RunConfig, SequenceModel, SAB]:
    """The configuration, the model and the SAB layer of a trained run that recalls a few memories per step.

    Raises:
        FileNotFoundError: the folder is not a run or has no weights yet.
        ValueError: the run recalls nothing, or every state.
    """
    config, model = checkpoint.load_run(folder)
    layer = model.layer
    if not isinstance(layer, SAB) or not layer.k_top:
        raise ValueError(
            f"{folder} has nothing to explain: its model, {config.model.model}, does not select memories"
        )
    return config, model, layer


def reminders_of(explanation: Explanation, layer: int | None) -> Reminders:
    """Those of a layer, from 1; None: the last."""
    return explanation.layers[(layer or len(explanation.layers)) - 1]


def most_credited(explanation: Explanation, layer: int | None = None) -> str:
    """A sentence that names the most credited memories of a layer (from 1; None: the last)."""
    reminders = reminders_of(explanation, layer)
    total = reminders.amount.sum()
    if not total:
        return f"no memory received credit of {explanation.credit_of}"
    received = np.bincount(reminders.memory, weights=reminders.amount) / total
    best = [step for step in np.argsort(-received)[:3].tolist() if received[step] > 0]
    shares = ", ".join(f"the memory of {explanation.place(step)} {received[step]:.2g}" for step in best)
    return f"shares of the credit of {explanation.credit_of}: {shares}"


def _explained(
    model: SequenceModel, layer: SAB, task: Any, legend: Legend, excerpt: Excerpt, at: Sequence[int]
) -> Explanation:
    steps = len(excerpt.input)
    if at and max(at) > steps:
        raise ValueError(f"at must be at most {steps}, the steps of {excerpt.name}, got {max(at)}")
    read = excerpt.input.detach().clone().requires_grad_(excerpt.input.is_floating_point())
    with torch.enable_grad(), layer.credit() as credit:
        prediction, _, recall = model(read)
        objective, credit_of = _objective(task, prediction, excerpt, at)
        if not objective.requires_grad:
            raise ValueError(f"{'at' if at else 'steps'}: {excerpt.name} has no target at the chosen steps")
        objective.backward()
    model.zero_grad()
    return Explanation(
        excerpt.name,
        credit_of,
        legend,
        excerpt.input[:, 0].numpy(),
        prediction.detach()[:, 0].double().numpy(),
        None if excerpt.target is None else _target(excerpt.target, prediction),
        tuple(_reminders(recall, credit, number) for number in range(layer.num_layers)),
        layer.k_att,
        None if read.grad is None else input_times_gradient(read, read.grad)[:, 0].double().numpy(),
        tuple(at),
        excerpt.times,
        forecast_of(task, excerpt.input, prediction, excerpt.target, excerpt.absent),
        excerpt.padding,
        excerpt.absent,
        excerpt.reading,
    )


def input_times_gradient(input: Tensor, gradient: Tensor) -> Tensor:
    """The sum of |input times gradient| over the values of each step: (T, B) of an input (T, B, I)."""
    return (input * gradient).detach().abs().sum(2)


def _reminders(recall: Recall, credit: Credit, layer: int) -> Reminders:
    step, weight = recalls_of(recall, layer)
    mine = credit.layer == layer
    return Reminders(
        step[:, 0].numpy(),
        weight[:, 0].double().numpy(),
        credit.step[mine].numpy(),
        credit.memory_step[mine].numpy(),
        credit.amount[mine].double().numpy(),
    )


def _objective(task: Any, prediction: Tensor, excerpt: Excerpt, at: Sequence[int]) -> tuple[Tensor, str]:
    """The scalar whose gradient the credit is, and its name."""
    place = f"at step{'s' * (len(at) > 1)} {', '.join(map(str, at))}"
    if excerpt.target is None:
        return _own_prediction(task, prediction, [step - 1 for step in at], place)
    if not at:
        return task.loss(prediction, Batch(excerpt.input, excerpt.target)), "the task's loss"
    # Each step is judged as a sequence of one step, without the weights that training gives to parts of a sequence.
    usual = task.changed(**{field.name: field.default for field in fields(task) if TRAINING in field.metadata})
    every_step = _has_target_per_step(excerpt.target, prediction)
    losses: list[Tensor] = []
    for step in at:
        one = slice(step - 1, step)
        target = excerpt.target[one] if every_step else excerpt.target
        losses.append(usual.loss(prediction[one], Batch(excerpt.input[one], target)))
    return torch.stack(losses).mean(), f"the loss {place}"


def _own_prediction(task: Any, prediction: Tensor, at: list[int], place: str) -> tuple[Tensor, str]:
    """The objective without a target: the prediction itself, at the chosen steps.

    By default it is the prediction at the last step if the task has its target there, otherwise that at every step.
    """
    at_end = task.name == "adding" or not (task.streamed or task.vocabulary is not None)
    chosen = at or ([len(prediction) - 1] if at_end else list(range(len(prediction))))
    place = place if at else "at the last step" if at_end else "at every step"
    predicted = prediction[chosen, 0]  # (n, C)
    if task.metric == "mse":
        return predicted.sum(), f"the value predicted {place} (the target is unknown)"
    log_probability = F.log_softmax(predicted, -1).max(-1).values.sum()
    return log_probability, f"the log-probability of the class predicted {place} (the target is unknown)"


def _has_target_per_step(target: Tensor, prediction: Tensor) -> bool:
    """Whether each step has a target, and not the last step alone."""
    return target.shape[:2] == prediction.shape[:2]


def _target(target: Tensor, prediction: Tensor) -> NDArray[Any]:
    """The target of each step, in the form of `Explanation.target`."""
    steps, _, outputs = prediction.shape
    if _has_target_per_step(target, prediction):
        column = target[:, 0].numpy()
        return column.astype(np.float64) if column.ndim == 2 else np.where(column < 0, NO_TARGET, column)
    if target.is_floating_point():
        values = np.full((steps, outputs), np.nan)
        values[-1] = target.numpy()
        return values
    classes = np.full(steps, NO_TARGET)
    classes[-1] = int(target)
    return classes
