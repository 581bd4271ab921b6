"""How far back the gradient of an update reaches: the time steps that its backward pass visits.

Shapes: B batch, T time, K recalled memories.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reminding.lab.runs.model import SequenceModel, StreamState
from reminding.nn import SAB, SABState
from reminding.tasks import Batch

SEQUENCES = 8
"""Number of sequences in the mean."""
CHUNKS = 20
"""Chunks of a stream that are read; the last one is counted, so that the memory is full by then."""


def backward_steps(model: SequenceModel, task: Any, device: torch.device | str = "cpu") -> dict[str, float]:
    """The number of time steps that the backward pass of one sequence visits, a mean over a few test sequences.

    The backward pass visits a step that has a loss, a step that precedes a visited one without a cut between them,
    and a step whose state a visited step recalled with a weight above 0. A Transformer has no recurrence; each of its
    steps attends to all earlier ones, and all count. A minimal GRU and trace units are never cut; on a stream their
    backward pass stays in the chunk, although the gradient of trace units is that of the whole past. The memory that
    sets the threshold of the paper's rule receives gradient too, through the scores; it is not counted.

    Returns:
        "backward_steps": from the task's loss; "backward_steps_last": from a loss at the last step alone, which shows
        how far the credit of one event reaches; "forward_steps": T, for comparison. Empty for several layers, whose
        steps are not counted.
    """
    layer = model.layer
    if isinstance(layer, SAB) and layer.num_layers > 1:
        return {}
    with torch.no_grad():
        step, credited, batch = recalls(model, task, device)
    has_loss = steps_with_loss(task, batch)
    steps = len(has_loss)
    last = np.zeros_like(has_loss)
    last[-1] = True
    if not isinstance(layer, SAB):
        reach = [float(np.nonzero(column)[0].max(initial=-1) + 1) for column in has_loss.T]
        return {"backward_steps": float(np.mean(reach)), "backward_steps_last": float(steps), "forward_steps": steps}
    before = len(step) - steps  # of a stream: the steps of the chunks before the last
    first = 0 if layer.rule.horizon is None else max(0, before - layer.rule.horizon)
    credited &= layer.rule.backtrack
    losses = np.zeros((len(step), has_loss.shape[1]), dtype=bool)
    counts: dict[str, float] = {}
    for name, chosen in (("backward_steps", has_loss), ("backward_steps_last", last)):
        losses[before:] = chosen
        counts[name] = float(visited(step, credited, losses, layer.k_trunc, first).mean())
    return {**counts, "forward_steps": steps}


def visited(
    step: NDArray[np.int64],
    credited: NDArray[np.bool_],
    has_loss: NDArray[np.bool_],
    k_trunc: int | None,
    first: int = 0,
) -> NDArray[np.int64]:
    """Count the steps that a gradient reaches.

    Args:
        step: the step at which each recalled memory was stored, counted from 1, (T, B, K).
        credited: whether the memory receives gradient, (T, B, K).
        has_loss: whether a step has a loss, (T, B).
        k_trunc: the recurrent gradient is cut every k_trunc steps; None: nowhere.
        first: the earliest step that the gradient may reach, counted from 0.

    Returns:
        number of steps visited, (B,).
    """
    steps, rows = has_loss.shape
    length = steps if k_trunc is None else k_trunc
    reached = has_loss.copy()
    count = np.zeros(rows, dtype=np.int64)
    for row in range(rows):
        for t in range(steps - 1, first - 1, -1):
            if not reached[t, row]:
                continue
            count[row] += 1
            reached[step[t, row, credited[t, row]] - 1, row] = True
            if t % length:
                reached[t - 1, row] = True
    return count


def recalls(
    model: SequenceModel, task: Any, device: torch.device | str = "cpu"
) -> tuple[NDArray[np.int64], NDArray[np.bool_], Batch]:
    """The steps recalled, (T, B, K), whether each memory receives gradient, (T, B, K), and the last batch.

    On a stream the arrays also hold the chunks before the last batch.

    Raises:
        ValueError: the task's test split is empty.
    """
    parts: list[tuple[NDArray[np.int64], NDArray[np.bool_]]] = []
    held: NDArray[np.int64] | None = None
    state: StreamState | None = None
    batch = Batch(torch.zeros(0, 0), torch.zeros(0))
    # A stream's own limit: it may refuse one that is too small for an answer, which is not asked for here.
    batches = task.eval_batches("test", SEQUENCES, None if task.streamed else SEQUENCES)
    for part in islice(batches, CHUNKS if task.streamed else None):
        if parts and (part.reset is None or bool(part.reset.any())):
            break
        batch = part.to(device)
        held = state.memory_step[0].cpu().numpy() if isinstance(state, SABState) else None  # (B, M)
        _, state, recall = model(batch.input, state)
        parts.append((recall.step.cpu().numpy(), (recall.weight > 0).cpu().numpy()))
    if not parts:
        raise ValueError(f"task: the test split of {task.name} is empty")
    step, credited = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    if held is not None:  # a memory evicted before the last chunk is a constant in it
        before = len(step) - len(batch.input)
        for row, steps in enumerate(held):
            credited[:, row] &= (step[:, row] > before) | np.isin(step[:, row], steps)
    return step, credited, batch


def steps_with_loss(task: Any, batch: Batch) -> NDArray[np.bool_]:
    """Whether the task's loss depends on a step, (T, B)."""
    shape = (*batch.input.shape[:2], task.output_size)
    prediction = torch.zeros(shape, device=batch.input.device, requires_grad=True)
    loss = task.loss(prediction, batch)
    if not loss.requires_grad:
        return np.zeros(shape[:2], dtype=bool)
    (gradient,) = torch.autograd.grad(loss, prediction)
    return (gradient != 0).any(-1).cpu().numpy()
