"""What a trained network was reminded of while it read a sequence, and which past event got the credit.

Shapes: T time, I input features, C outputs, K recalled memories, L layers, N entries of credit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from reminding.lab.explain.legend import Legend, legend_of
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.model import SequenceModel
from reminding.nn import SAB, Recall
from reminding.nn.credit.ledger import Credit
from reminding.tasks import TRAINING, Batch, EvalSplit
from reminding.tasks.kinds.checks import at_least, at_least_or_none, each_at_least
from reminding.tasks.own import read_own

STREAM_STEPS = 1000
"""Of a stream, where nobody says how many."""
UNASKED = -1
"""The class wanted at a step that asks for nothing."""


@dataclass(frozen=True)
class ExplainOptions:
    """What to explain.

    Args:
        input: a file of your own to explain, of the kind that the run's task reads; None: test sequences.
        split: where the sequences are from: test or valid.
        sequence: numbers of the sequences, from 0; of streams, of the rows read side by side. None given: the first
            three, of a stream the first.
        at: credit of the loss at these steps alone, from 1: why this output? None given: of the whole loss.
        start: of a stream, how many steps of `input` to leave out before.
        steps: of a stream, how many steps to read; None: 1000.
        layer: which layer to draw in the figures, and to show first, from 1; None: the last.
    """

    input: Path | None = None
    split: EvalSplit = "test"
    sequence: tuple[int, ...] = ()
    at: tuple[int, ...] = ()
    start: int = 0
    steps: int | None = None
    layer: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        each_at_least("sequence", self.sequence, 0)
        each_at_least("at", self.at, 1)
        at_least("start", self.start, 0)
        at_least_or_none("steps", self.steps, 1)
        if self.start and self.input is None:
            raise ValueError(f"start must be 0 without input, got {self.start}")


@dataclass(frozen=True)
class Reminders:
    """What one layer recalled in one sequence, and what came back along it. Steps count from 1.

    Attributes:
        step: at which each recalled memory was stored, (T, K) int64, 0 where nothing.
        weight: of each, (T, K).
        payer: step that recalled, (N,) int64: the largest amount first.
        payee: step at which the memory that it paid was stored, (N,) int64.
        amount: length of the gradient that the memory received through this recall, (N,).
    """

    step: NDArray[np.int64]
    weight: NDArray[np.float64]
    payer: NDArray[np.int64]
    payee: NDArray[np.int64]
    amount: NDArray[np.float64]


@dataclass(frozen=True)
class Explanation:
    """One sequence, what the network made of it, and what it was reminded of.

    Attributes:
        name: of the sequence.
        credit_of: what the credit is the gradient of.
        legend: how to show the sequence.
        input: tokens, (T,), or values, (T, I).
        prediction: class logits or values, (T, C).
        target: the class wanted at each step, (T,), -1 where none is; or values, (T, C), nan where none are. None: it
            is not known.
        layers: L of them.
        interval: a memory holds the state after this many further steps.
        reached: where the gradient met the input, (T,): the size of value times gradient, summed over a step's
            values. None: the input is tokens.
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


class _Given(NamedTuple):
    name: str
    input: Tensor
    target: Tensor | None


def explain(folder: Path, options: ExplainOptions | None = None) -> list[Explanation]:
    """Run a trained model over some sequences, and its loss backwards, recording what was recalled and paid.

    Args:
        folder: of a run of SAB.

    Raises:
        FileNotFoundError: the folder is no run or has no weights yet, or there is no such input.
        ValueError: the run recalls nothing, or everything; or an option does not fit; the message names it.
    """
    options = options or ExplainOptions()
    config, model, layer = explainable(folder)
    if options.layer is not None and not 1 <= options.layer <= layer.num_layers:
        raise ValueError(f"layer must be from 1 to {layer.num_layers}, got {options.layer}")
    task, legend = config.task, legend_of(config.task)
    return [_explained(model, layer, task, legend, given, options.at) for given in _given(task, options)]


def explainable(folder: Path) -> tuple[RunConfig, SequenceModel, SAB]:
    """A trained run that recalls few memories at a time: what it was given, its model, and the layer of that.

    Raises:
        FileNotFoundError: the folder is no run or has no weights yet.
        ValueError: the run recalls nothing, or everything.
    """
    config, model = checkpoint.load_run(folder)
    layer = model.layer
    if not isinstance(layer, SAB) or not layer.k_top:
        raise ValueError(f"{folder} has nothing to explain: its model, {config.model.model}, recalls no few memories")
    return config, model, layer


def most_credited(explanation: Explanation, layer: int | None = None) -> str:
    """Which memories of a layer (from 1; None: the last) got most of the credit, as a sentence."""
    found = explanation.layers[(layer or len(explanation.layers)) - 1]
    total = found.amount.sum()
    if not total:
        return f"no memory got any credit of {explanation.credit_of}"
    received = np.bincount(found.payee, weights=found.amount) / total
    best = [step for step in np.argsort(-received)[:3].tolist() if received[step] > 0]
    shares = ", ".join(f"the memory of step {step} {received[step]:.2g}" for step in best)
    return f"shares of the credit of {explanation.credit_of}: {shares}"


def _given(task: Any, options: ExplainOptions) -> list[_Given]:
    """The sequences to explain."""
    if options.input is not None:
        steps = (options.steps or STREAM_STEPS) if task.streamed and task.name != "cue" else options.steps
        own = read_own(task, options.input, options.start, steps)
        return [_Given(options.input.name, own.input, own.target)]
    if task.streamed:
        return _rows_of_streams(task, options)
    if options.steps is not None:
        raise ValueError(f"steps: a sequence of {task.name} is read whole; streams have steps to choose")
    return [_whole_sequence(task, options.split, number) for number in options.sequence or (0, 1, 2)]


def _whole_sequence(task: Any, split: EvalSplit, number: int) -> _Given:
    batches: Iterator[Batch] = task.eval_batches(split, 1)
    batch = next(islice(batches, number, None), None)
    if batch is None:
        raise ValueError(f"sequence: the {split} split of {task.name} has no number {number}")
    return _Given(f"{split} sequence {number}", batch.input, batch.target)


def _rows_of_streams(task: Any, options: ExplainOptions) -> list[_Given]:
    """The first steps of some rows of a held-out stream, chunk after chunk."""
    steps, chosen = options.steps or STREAM_STEPS, options.sequence or (0,)
    chunks: Iterator[Batch] = task.eval_batches(options.split, max(chosen) + 1)
    batches: list[Batch] = []
    for batch in islice(chunks, -(-steps // task.chunk)):
        if batches and batch.reset is not None and bool(batch.reset.all()):
            break  # the next rows begin
        batches.append(batch)
    input = torch.cat([batch.input for batch in batches])[:steps]
    target = torch.cat([batch.target for batch in batches])[:steps]
    rows = input.shape[1]
    if max(chosen) >= rows:
        raise ValueError(f"sequence: {task.name} reads {rows} streams side by side, got {max(chosen)}")
    return [
        _Given(f"{options.split} stream {row}", input[:, row : row + 1], target[:, row : row + 1]) for row in chosen
    ]


def _explained(
    model: SequenceModel, layer: SAB, task: Any, legend: Legend, given: _Given, at: Sequence[int]
) -> Explanation:
    steps = len(given.input)
    if at and max(at) > steps:
        raise ValueError(f"at: {given.name} has {steps} steps, got {max(at)}")
    read = given.input.detach().clone().requires_grad_(given.input.is_floating_point())
    with torch.enable_grad(), layer.credit() as credit:
        prediction, _, recall = model(read)
        objective, credit_of = _objective(task, prediction, given, at)
        if not objective.requires_grad:
            raise ValueError(f"{'at' if at else 'steps'}: {given.name} asks for nothing at the steps chosen")
        objective.backward()
    model.zero_grad()
    return Explanation(
        given.name,
        credit_of,
        legend,
        given.input[:, 0].numpy(),
        prediction.detach()[:, 0].double().numpy(),
        None if given.target is None else _wanted(given.target, prediction),
        tuple(_reminders(recall, credit, number, layer.num_layers) for number in range(layer.num_layers)),
        layer.k_att,
        None if read.grad is None else met(read, read.grad)[:, 0].double().numpy(),
    )


def met(input: Tensor, gradient: Tensor) -> Tensor:
    """What a gradient has to do with each step of an input (T, B, I): the sum of |value times gradient|, (T, B)."""
    return (input * gradient).detach().abs().sum(2)


def _reminders(recall: Recall, credit: Credit, layer: int, layers: int) -> Reminders:
    step, weight = (recall.step, recall.weight) if layers == 1 else (recall.step[layer], recall.weight[layer])
    mine = credit.layer == layer
    return Reminders(
        step[:, 0].numpy(),
        weight[:, 0].double().numpy(),
        credit.step[mine].numpy(),
        credit.memory_step[mine].numpy(),
        credit.amount[mine].double().numpy(),
    )


def _objective(task: Any, prediction: Tensor, given: _Given, at: Sequence[int]) -> tuple[Tensor, str]:
    """What the credit is of, a scalar, and what to call it."""
    place = f"at step{'s' * (len(at) > 1)} {', '.join(map(str, at))}"
    if given.target is None:
        return _own_view(task, prediction, [step - 1 for step in at], place)
    if not at:
        return task.loss(prediction, Batch(given.input, given.target)), "the task's loss"
    # A step by itself is a sequence of one step; how training weighs the parts of a sequence has no say in that.
    usual = replace(task, **{field.name: field.default for field in fields(task) if TRAINING in field.metadata})
    each = _each_step(given.target, prediction)
    losses: list[Tensor] = []
    for step in at:
        one = slice(step - 1, step)
        target = given.target[one] if each else given.target
        losses.append(usual.loss(prediction[one], Batch(given.input[one], target)))
    return torch.stack(losses).mean(), f"the loss {place}"


def _own_view(task: Any, prediction: Tensor, at: list[int], place: str) -> tuple[Tensor, str]:
    """Where nobody knows what was wanted: what the network itself says.

    Its last word where it is trained to say one, otherwise all that it says.
    """
    at_end = task.name == "adding" or not (task.streamed or task.vocabulary is not None)
    chosen = at or ([len(prediction) - 1] if at_end else list(range(len(prediction))))
    place = place if at else "at the last step" if at_end else "at every step"
    said = prediction[chosen, 0]  # (n, C)
    if task.metric == "mse":
        return said.sum(), f"the value predicted {place} (what was wanted is not known)"
    log_probability = F.log_softmax(said, -1).max(-1).values.sum()
    return log_probability, f"the log-probability of the class predicted {place} (what was wanted is not known)"


def _each_step(target: Tensor, prediction: Tensor) -> bool:
    """Whether something may be wanted at each step, not at the last alone."""
    return target.shape[:2] == prediction.shape[:2]


def _wanted(target: Tensor, prediction: Tensor) -> NDArray[Any]:
    """What was wanted at each step, as `Explanation.target` has it."""
    steps, _, outputs = prediction.shape
    if _each_step(target, prediction):
        wanted = target[:, 0].numpy()
        return wanted.astype(np.float64) if wanted.ndim == 2 else np.where(wanted < 0, UNASKED, wanted)
    if target.is_floating_point():
        values = np.full((steps, outputs), np.nan)
        values[-1] = target.numpy()
        return values
    classes = np.full(steps, UNASKED)
    classes[-1] = int(target)
    return classes
