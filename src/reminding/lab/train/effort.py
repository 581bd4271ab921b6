"""How far back the gradient of an update goes: the time steps that its backward pass visits.

Shapes: B batch, T time, K recalled memories.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reminding.lab.runs.model import SequenceModel
from reminding.nn import SAB, SABState
from reminding.tasks import Batch

SEQUENCES = 8
"""Sequences that the count is a mean over."""
CHUNKS = 20
"""Of a stream: chunks read before the one that is counted, so that its memory has filled."""


def backward_steps(model: SequenceModel, task: Any, device: torch.device | str = "cpu") -> dict[str, float]:
    """Time steps of the recurrence that one sequence's backward pass visits, a mean over a few test sequences.

    A step is visited when the loss asks for it, when the recurrence leads back to it without crossing a cut, or when
    it was recalled with some weight by a step that is visited. A Transformer has no recurrence; each of its steps
    attends to every one before it, and counts. The memory that sets the threshold of the paper's rule gets some
    gradient too, through the scores, and is not counted.

    Returns:
        "backward_steps": by the task's own loss; "backward_steps_last": by a loss at the last step alone, the figure
        that says how far one event's credit is carried; "forward_steps": T, for comparison. Empty for several layers,
        whose steps are not counted.
    """
    layer = model.layer
    if isinstance(layer, SAB) and layer.num_layers > 1:
        return {}
    with torch.no_grad():
        step, lent, batch = recalls(model, task, device)
    asked = with_loss(task, batch)
    steps = len(asked)
    last = np.zeros_like(asked)
    last[-1] = True
    if not isinstance(layer, SAB):
        counts = [float(np.nonzero(column)[0].max(initial=-1) + 1) for column in asked.T]
        return {"backward_steps": float(np.mean(counts)), "backward_steps_last": float(steps), "forward_steps": steps}
    before = len(step) - steps  # of the stream, when it is one
    first = 0 if layer.rule.horizon is None else max(0, before - layer.rule.horizon)
    lent &= layer.rule.backtrack
    whole = np.zeros((len(step), asked.shape[1]), dtype=bool)
    found: dict[str, float] = {}
    for name, wanted in (("backward_steps", asked), ("backward_steps_last", last)):
        whole[before:] = wanted
        found[name] = float(visited(step, lent, whole, layer.k_trunc, first).mean())
    return {**found, "forward_steps": steps}


def visited(
    step: NDArray[np.int64], lent: NDArray[np.bool_], asked: NDArray[np.bool_], k_trunc: int | None, first: int = 0
) -> NDArray[np.int64]:
    """Count the steps that the gradient of some steps' losses reaches.

    Args:
        step: the step that each recalled memory was stored at, counted from 1, (T, B, K).
        lent: whether the gradient goes to it, (T, B, K).
        asked: whether a step has a loss, (T, B).
        k_trunc: the recurrent gradient is cut after each so many steps; None: nowhere.
        first: the gradient goes to no step before this one, counted from 0.

    Returns:
        steps visited, (B,).
    """
    steps, rows = asked.shape
    length = steps if k_trunc is None else k_trunc
    reached = asked.copy()
    count = np.zeros(rows, dtype=np.int64)
    for row in range(rows):
        for t in range(steps - 1, first - 1, -1):
            if not reached[t, row]:
                continue
            count[row] += 1
            reached[step[t, row, lent[t, row]] - 1, row] = True
            if t % length:
                reached[t - 1, row] = True
    return count


def recalls(
    model: SequenceModel, task: Any, device: torch.device | str = "cpu"
) -> tuple[NDArray[np.int64], NDArray[np.bool_], Batch]:
    """The steps recalled, (T, B, K), whether each can be paid, and the batch; of streams with the chunks before."""
    parts: list[tuple[NDArray[np.int64], NDArray[np.bool_]]] = []
    kept: NDArray[np.int64] | None = None
    state: SABState | None = None
    batch = Batch(torch.zeros(0, 0), torch.zeros(0))
    for part in task.eval_batches("test", SEQUENCES, CHUNKS if task.streamed else SEQUENCES):
        if parts and (part.reset is None or bool(part.reset.any())):
            break
        batch = part.to(device)
        kept = state.memory_step[0].cpu().numpy() if isinstance(state, SABState) else None  # (B, M)
        _, state, recall = model(batch.input, state)
        parts.append((recall.step.cpu().numpy(), (recall.weight > 0).cpu().numpy()))
    if not parts:
        raise ValueError(f"task: {task.name} has no test sequences")
    step, lent = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    if kept is not None:  # a memory evicted before the last chunk is a constant in it
        before = len(step) - len(batch.input)
        for row, steps in enumerate(kept):
            lent[:, row] &= (step[:, row] > before) | np.isin(step[:, row], steps)
    return step, lent, batch


def with_loss(task: Any, batch: Batch) -> NDArray[np.bool_]:
    """Which steps the task's loss depends on, (T, B)."""
    shape = (*batch.input.shape[:2], task.output_size)
    prediction = torch.zeros(shape, device=batch.input.device, requires_grad=True)
    loss = task.loss(prediction, batch)
    if not loss.requires_grad:
        return np.zeros(shape[:2], dtype=bool)
    (gradient,) = torch.autograd.grad(loss, prediction)
    return (gradient != 0).any(-1).cpu().numpy()
