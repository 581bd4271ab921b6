"""Metrics of a model on a split of its task."""

from __future__ import annotations

from typing import Any

import torch

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
) -> dict[str, float]:
    """Every metric of the task, as its mean over a split.

    Args:
        split: "valid" or "test".
        batch_size: sequences at a time; does not change the result.
        limit: sequences to evaluate, or chunks of each stream; None: the task's own number.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            parts: list[MetricSums] = []
            state: SABState | None = None
            for batch in (part.to(device) for part in task.eval_batches(split, batch_size, limit)):
                prediction, state = model.read(batch, state)
                parts.append(task.metrics(prediction, batch))
    finally:
        model.train(training)
    return mean_metrics(parts)
