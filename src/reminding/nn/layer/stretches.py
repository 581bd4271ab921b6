"""Running a stack of layers where sequences end and streams begin at different steps.

Shapes: L layers, B batch, T time, K recalled memories, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from reminding.nn.layer.layout import Stretch
from reminding.nn.parts.rule import Rule
from reminding.nn.state.merging import join_rows
from reminding.nn.state.stream import LayerState, Recall, SABState

Run = Callable[[Tensor, SABState, int], tuple[Tensor, SABState, Recall | None]]
Restart = Callable[[SABState, Tensor], SABState]
"""Begins new streams in the marked rows of a state, as `SABState.reset` does."""


def run_stretches(
    x: Tensor, state: SABState, stretches: list[Stretch], run: Run, restart: Restart = SABState.reset
) -> tuple[list[Tensor], SABState, list[Recall]]:
    """Run every stretch; rows whose sequence has ended wait aside with the state they ended in.

    Args:
        x: input, (T, B, I), rows sorted by length.
        run: takes the input, state and first step of a stretch to its output, the state after it, and what
            was recalled.

    Returns:
        the output of each stretch, (t, B, H) with zeros in the rows that have ended; the state after all; the
        recall of each stretch that had one.
    """
    outputs: list[Tensor] = []
    recalls: list[Recall] = []
    ended: list[SABState] = []
    for stretch in stretches:
        if stretch.rows < state.batch_size:
            ended.insert(0, state.rows(slice(stretch.rows, None)))
            state = state.rows(slice(0, stretch.rows))
        if stretch.reset is not None:
            state = restart(state, stretch.reset)
        if stretch.start == stretch.stop:
            continue
        y, state, recall = run(x[stretch.start : stretch.stop, : stretch.rows], state, stretch.start)
        outputs.append(_padded(y, x.shape[1], axis=1))
        if recall is not None:
            recalls.append(recall)
    return outputs, join_rows([state, *ended]) if ended else state, recalls


def run_all(
    x: Tensor,
    state: SABState,
    stretches: list[Stretch],
    run: Run,
    recalled: int | None,
    restart: Restart = SABState.reset,
) -> tuple[Tensor, SABState, Recall | None]:
    """`run_stretches`, its results joined over time.

    Args:
        recalled: how many memories a step recalls at most, if the recall is asked for; None: it is not.
    """
    rows = x.shape[1]
    outputs, after, recalls = run_stretches(x, state, stretches, run, restart)
    if outputs:
        output = torch.cat(outputs)  # of one, a copy: the caller may change it in place, and a backward pass reads it
        return output, after, None if recalled is None else join_time(recalls, rows)
    output = x.new_zeros(0, rows, state.layers[0].h.shape[1])
    if recalled is None:
        return output, after, None
    nothing = x.new_zeros(len(state.layers), 0, rows, recalled)
    return output, after, Recall(torch.zeros_like(output), nothing.long(), nothing)


def no_steps(x: Tensor, state: SABState, start: int) -> tuple[Tensor, SABState, Recall | None]:
    """The `run` of a call of no steps, whose stretches have none."""
    raise AssertionError("a call of no steps runs none")


def with_graph_of(output: Tensor, tensors: Iterable[Tensor]) -> Tensor:
    """An output of no steps, (0, B, H), through which tensors get a gradient of zeros, as in other layers."""
    for tensor in tensors:
        if tensor.requires_grad:
            output = output + tensor.flatten()[:0].view(0, 1, 1).to(output.dtype)
    return output


def shapes_of(x: Tensor, before: SABState, rule: Rule, record: bool) -> tuple[Tensor, SABState, Recall | None]:
    """What a call on the meta device returns: tensors of the right shapes that hold no numbers.

    Args:
        x: input, (T, B, I); before: the state it begins with; record: whether the recall is asked for.
    """
    steps, rows, size = len(x), x.shape[1], before.layers[0].h.shape[1]
    layers: list[LayerState] = []
    for layer in before.layers:
        count = layer.memory.count + rule.stored_between(before.step, steps)
        count = count if rule.capacity is None else count.clamp(max=rule.capacity)
        memory = replace(layer.memory.padded(int(count.max()) if rows else 0), count=count)
        layers.append(replace(layer, memory=memory))
    after = replace(before, layers=tuple(layers), step=before.step + steps)
    output = x.new_empty(steps, rows, size)
    if not record:
        return output, after, None
    width = max(layer.memory.slots for layer in layers) if rule.k_top is None else rule.k_top
    weight = x.new_empty(len(layers), steps, rows, width)
    return output, after, Recall(torch.empty_like(output), weight.long(), weight)


def stack_layers(recalls: list[Recall]) -> Recall:
    """The recalls of all layers as one: the last one's summary, and (L, T, B, K) twice."""
    width = max(recall.step.shape[2] for recall in recalls)
    step = torch.stack([_padded(recall.step, width, axis=2) for recall in recalls])
    weight = torch.stack([_padded(recall.weight, width, axis=2) for recall in recalls])
    return Recall(recalls[-1].summary, step, weight)


def join_time(recalls: list[Recall], rows: int) -> Recall:
    """The recalls of successive stretches as one: (T, B, H), and (L, T, B, K) twice."""
    width = max(recall.step.shape[3] for recall in recalls)

    def joined(tensors: list[Tensor]) -> Tensor:
        return torch.cat([_padded(_padded(part, rows, axis=2), width, axis=3) for part in tensors], dim=1)

    return Recall(
        torch.cat([_padded(recall.summary, rows, axis=1) for recall in recalls]),
        joined([recall.step for recall in recalls]),
        joined([recall.weight for recall in recalls]),
    )


def _padded(tensor: Tensor, size: int, axis: int) -> Tensor:
    """Zeros behind `tensor` until it is `size` long on one axis."""
    missing = size - tensor.shape[axis]
    if missing == 0:
        return tensor
    shape = [*tensor.shape[:axis], missing, *tensor.shape[axis + 1 :]]
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=axis)
