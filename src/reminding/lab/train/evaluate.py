"""Metrics of a model on a split of its task, with statistics of its state and its recalls.

Shapes: T time, B batch, K recalled memories.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from reminding.lab.runs.model import SequenceModel, StreamState, recalls_of
from reminding.lab.train.group import Group
from reminding.nn import Recall
from reminding.tasks import EvalSplit, MetricSums, mean_metrics
from reminding.tasks.kinds.tallies import Tally

JUDGED_ROWS = 8
"""Sequences per batch whose recalls are counted: enough for a mean, at little cost."""


def evaluate(
    model: SequenceModel,
    task: Any,
    split: EvalSplit,
    *,
    batch_size: int,
    limit: int | None = None,
    device: torch.device | str = "cpu",
    steps_at_once: int | None = None,
    tally: Tally | None = None,
    group: Group | None = None,
) -> dict[str, float]:
    """Compute every metric of a task, as its mean over a split.

    Args:
        model: it is evaluated without dropout, and left in the mode that it had.
        task: one of `reminding.tasks`, or of your own.
        split: "valid" or "test".
        batch_size: sequences per batch; the result does not depend on it.
        limit: number of sequences, or of chunks of each stream; None: the task's own number.
        steps_at_once: read whole sequences in pieces of this many steps, which bounds the memory needed; the result
            does not depend on it. None: in one piece. Streams have their own chunks.
        tally: is given every batch with its prediction.
        group: processes that divide the rows of each batch; the result is that of one process, in each of them.
        device: that the model is on; ignored with a group.

    Returns:
        The metrics by name, in the units of the task; the loss is among them.
    """
    group = Group(torch.device(device)) if group is None else group
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            parts: list[MetricSums] = []
            state: StreamState | None = None
            for batch in (group.part(whole).to(device) for whole in task.eval_batches(split, batch_size, limit)):
                if batch.input.shape[1] == 0:  # fewer rows than processes
                    continue
                if steps_at_once is None:
                    prediction, state = model.read(batch, state)
                else:
                    prediction = model.read_in_chunks(batch, steps_at_once)
                parts.append(task.metrics(prediction, batch))
                if tally is not None:
                    tally.add(prediction, batch)
    finally:
        model.train(training)
    return mean_metrics(part for own in group.gathered(parts) for part in own)


@contextmanager
def state_norms(model: SequenceModel) -> Generator[list[MetricSums]]:
    """Collect `state_norm` of each batch, the norm of h at the last step: the first sign of failing training.

    Each sequence counts once in each batch that holds steps of it.
    """
    norms: list[MetricSums] = []

    def note(_: Any, inputs: tuple[Tensor]) -> None:
        last = inputs[0][-1].square().sum(-1).sqrt()  # (B,)
        norms.append({"state_norm": (float(last.double().sum()), len(last))})

    handle = model.hidden_readout.register_forward_pre_hook(note)
    try:
        yield norms
    finally:
        handle.remove()


@contextmanager
def recall_shares(model: SequenceModel) -> Generator[list[MetricSums]]:
    """Collect `recall_share` of each batch, a mean over its sequences; sequences without recalls add nothing.

    A batch counts by its steps: the few steps of a stream's last chunk, or a smaller last batch, weigh less.
    """
    shares: list[MetricSums] = []

    def note(_module: Any, _inputs: Any, output: tuple[Tensor, Any, Recall]) -> None:
        step, weight = recalls_of(output[2])
        rows = [recall_share(step[:, row], weight[:, row]) for row in range(min(JUDGED_ROWS, step.shape[1]))]
        known = [share for share in rows if share is not None]
        if known:
            counted = step.shape[0] * step.shape[1] / len(rows)  # steps that a judged sequence stands for
            shares.append({"recall_share": (counted * sum(known), counted * len(known))})

    handle = model.register_forward_hook(note)
    try:
        yield shares
    finally:
        handle.remove()


def recall_share(step: Tensor, weight: Tensor) -> float | None:
    """The share of a sequence's recall weight on its most recalled memory.

    Only steps that could choose between several memories count.

    Args:
        step: stream step at which each recalled memory was stored, (T, K), 0 where nothing was recalled.
        weight: weight of each recalled memory, (T, K).

    Returns:
        a number between 0 and 1; None if there was never a choice, or nothing was recalled.
    """
    choice = (step > 0).sum(-1) > 1  # (T,)
    step, weight = step[choice].flatten(), weight[choice].flatten().double()
    total = float(weight.sum())
    if total == 0.0:
        return None
    order = step.argsort()
    step, weight = step[order], weight[order]
    memory = (step.diff() > 0).long().cumsum(0)  # numbered from the oldest; `diff` leaves out the first
    memory = torch.cat([memory.new_zeros(1), memory])
    return float(torch.bincount(memory, weight).max()) / total
