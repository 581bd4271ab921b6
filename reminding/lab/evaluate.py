"""Metrics of a model on a split of its task."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from reminding.lab.model import SequenceModel
from reminding.nn import SABState
from reminding.tasks import EvalSplit, MetricSums, mean_metrics


def evaluate(
    model: SequenceModel,
    task: Any,
    split: EvalSplit,
    *,
    batch_size: int,
    limit: int | None = None,
    device: torch.device | str = "cpu",
    steps_at_once: int | None = None,
) -> dict[str, float]:
    """Every metric of the task, as its mean over a split.

    Args:
        split: "valid" or "test".
        batch_size: sequences at a time; does not change the result.
        limit: sequences to evaluate, or chunks of each stream; None: the task's own number.
        steps_at_once: read whole sequences in pieces of so many steps, which bounds what is held at a time; does not
            change the result. None: in one piece. Streams have their own chunks.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            parts: list[MetricSums] = []
            state: SABState | None = None
            for batch in (part.to(device) for part in task.eval_batches(split, batch_size, limit)):
                if steps_at_once is None:
                    prediction, state = model.read(batch, state)
                else:
                    prediction = model.read_in_chunks(batch, steps_at_once)
                parts.append(task.metrics(prediction, batch))
    finally:
        model.train(training)
    return mean_metrics(parts)


@contextmanager
def state_norms(model: SequenceModel) -> Generator[list[float]]:
    """Collect, batch by batch, the mean norm of h at the last step: what drifts away first when training fails."""
    norms: list[float] = []

    def note(_: Any, inputs: tuple[Tensor]) -> None:
        h: Tensor = inputs[0]
        norms.append(float(h[-1].square().sum(-1).sqrt().mean()))

    handle = model.hidden_readout.register_forward_pre_hook(note)
    try:
        yield norms
    finally:
        handle.remove()
