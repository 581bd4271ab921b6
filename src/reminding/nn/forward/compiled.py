"""The recurrence on a compiled op, C++ on the CPU or Triton on CUDA: one call for all time steps of a layer.

Shapes: B batch, T time, I input, M memory slots, K k_top, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from reminding.nn.parts.bound import BoundLayer
from reminding.nn.parts.memory import EVICT, FAR, NOTHING, Memory
from reminding.nn.parts.rule import Rule
from reminding.nn.state.segments import Entry, Trace
from reminding.nn.state.stream import LayerState, Recall, SABState
from reminding.ops import cpu_op, cuda_op

CLAMP = {torch.float32: 43.0, torch.float64: 350.0}
"""Where the op clamps W1 m and W2 h_hat for the additive score (see scores.h)."""
SATURATED = 20.0
"""From here on tanh is 1 in float64."""


MOST_RECALLED = 1024
"""Memories that a step may recall by the C++ op with k_top=None: it makes room for as many at every step."""

OPS: dict[str, Any] = {"cpu": cpu_op, "cuda": cuda_op}
"""The op of each backend that has one."""


def obstacles(
    cell: str | None, score: str | None, rule: Rule, like: Tensor, widest: int, memories: int
) -> dict[str, str | None]:
    """Why the op of each backend cannot run a layer, None where it can.

    Args:
        cell, score: their names; None for a user's own.
        like: a tensor of the layer's device and type.
        widest: the larger of the sizes of its state and of its score's projections, H and D.
        memories: how many a step may find at most.
    """
    every = _obstacle(cell, score, rule)
    recalled = memories if rule.k_top is None else rule.k_top
    return {
        "cuda": _cuda_obstacle(recalled, like, widest) or every,
        "cpu": _cpu_obstacle(recalled if rule.k_top is None else 0, like) or every,
    }


def _obstacle(cell: str | None, score: str | None, rule: Rule) -> str | None:
    """What is in the way of either op."""
    if cell is None or score is None:
        return "it has the built-in cells and scorers only"
    if rule.capacity is not None and _evict_name(rule) is None:
        return f"it makes room by {' or '.join(map(repr, EVICT))} only, not by a function of your own"
    if rule.k_top is None and rule.capacity is not None and not rule.evicts_oldest and rule.horizon != 0:
        return "it does not note what a step found, which later calls need with k_top=None and 'least_recalled'"
    return None


def _cuda_obstacle(recalled: int, like: Tensor, widest: int) -> str | None:
    if (missing := cuda_op.missing()) is not None:
        return missing
    if like.device.type != "cuda" and not cuda_op.interpreted():
        return f"it computes on CUDA devices, not on {like.device.type}; device='cuda' builds a layer there"
    if not like.is_floating_point() or like.dtype.itemsize == 1:
        return f"it computes float64, float32, bfloat16 and float16, not {like.dtype}"
    if widest > cuda_op.WIDEST:
        return f"it takes a hidden_size and score_size of at most {cuda_op.WIDEST}, not {widest}"
    most = cuda_op.most_recalled(widest)
    return f"it recalls at most {most} memories a step at this width, not {recalled}" if recalled > most else None


def _cpu_obstacle(recalled_of_all: int, like: Tensor) -> str | None:
    if (missing := cpu_op.missing()) is not None:
        return missing
    if like.device.type != "cpu" or like.dtype not in (torch.float32, torch.float64):
        return f"it computes float32 and float64 on the CPU, not {like.dtype} on {like.device.type}"
    if recalled_of_all > MOST_RECALLED:
        return f"with k_top=None it recalls at most {MOST_RECALLED} memories a step, not {recalled_of_all}"
    return "it does not run under autocast" if torch.is_autocast_enabled("cpu") else None


def credits_past(backend: str, rule: Rule) -> bool:
    """Whether the op of a backend also sends credit into the past calls of a layer that it computes.

    The C++ op does, and the kernels do where the C++ op is built, which searches the records of these calls for what
    credit reaches. Neither does with k_top=None.

    Args:
        backend: the one chosen.
    """
    return backend in OPS and rule.k_top is not None and cpu_op.missing() is None


def most_alive(state: SABState, steps: int, rule: Rule) -> int:
    """The most memories that a step of a call finds, in any row and layer.

    Args:
        state: before the call; steps: how many it takes.
    """
    return max((_most_alive(layer.memory, state.step, steps, rule) for layer in state.layers), default=0)


def _most_alive(before: Memory, taken: Tensor, steps: int, rule: Rule) -> int:
    """The same of one layer's memory."""
    if len(taken) == 0 or steps == 0 or rule.k_top == 0:
        return 0
    most = int((before.count + (taken + steps - 1) // rule.k_att - taken // rule.k_att).max())
    return most if rule.capacity is None else min(most, rule.capacity)


def unroll(
    backend: str,
    x: Tensor,
    state: LayerState,
    taken: Tensor,
    layer: BoundLayer,
    normalizer: str,
    rule: Rule,
    replay: bool,
    record: bool,
    starts: list[int] | None,
) -> tuple[Tensor, LayerState, Recall | None, Trace | None] | None:
    """Run one layer over a stretch of time; results as `engine.unroll`'s.

    Args:
        backend: a name in `OPS`.
        layer: with a built-in cell and score.
        replay: recompute gates in the backward pass instead of keeping them.

    Returns:
        None where the scores left the range in which the op is exact.
    """
    before = state.memory
    every = _most_alive(before, taken, len(x), rule)
    # All of them are as many of the best; 1 where there are none, since 0 would have it remember nothing.
    at_once = max(every, 1) if rule.k_top is None else rule.k_top
    ran: cpu_op.Recalled = OPS[backend].layer(
        x,
        state.h,
        state.extra[0] if state.extra else None,
        before.value,
        before.count,
        taken,
        layer.weights,
        layer.score_weights,
        op_rule(layer, normalizer, replace(rule, k_top=at_once)),
        received0=before.weight,
        replay=replay,
        milestones=None if starts is None else _milestones(starts),
    )
    if layer.score_name == "additive" and rule.k_top and ran.peak.numel() > 0 and out_of_range(*ran.peak.amax(0)):
        return None
    grown = _grown(before, ran, taken, rule)
    after = LayerState(ran.h, (ran.c,) if state.extra else (), _surviving(grown, ran.alive, rule))
    recall = _noted(ran, grown, raw=rule.semantics == "release") if record else None
    if recall is not None and rule.k_top is None:
        recall = replace(recall, step=recall.step[..., :every], weight=recall.weight[..., :every])
    if starts is None:
        return ran.output, after, recall, None
    held = None if rule.k_top is not None else [_held(grown, before, taken, start, rule) for start in starts]
    return ran.output, after, recall, _trace(state, ran, grown, starts, held)


def op_rule(layer: BoundLayer, normalizer: str, rule: Rule) -> cpu_op.Rule:
    """The settings of a layer that `obstacle` has nothing against, as the op takes them."""
    assert rule.k_top is not None and layer.cell_name and layer.score_name, "obstacle() has refused it"
    return cpu_op.rule_of(
        cell=layer.cell_name,
        score=layer.score_name,
        normalizer=normalizer,
        semantics=rule.semantics,
        k_top=rule.k_top,
        k_att=rule.k_att,
        k_trunc=rule.k_trunc,
        backtrack=rule.backtrack,
        capacity=rule.capacity,
        evict=_evict_name(rule) or "fifo",
        recall_scale=rule.recall_scale,
        forget_scale=rule.forget_scale,
    )


def _held(grown: Memory, before: Memory, taken: Tensor, start: int, rule: Rule) -> Memory:
    """Which memories there were when so many steps of a call were done, where the oldest go; without their values.

    Args:
        grown: every memory given or stored in the call; before: those given.
    """
    count = before.count + (taken + start) // rule.k_att - taken // rule.k_att
    every = replace(grown.without_values(), count=count)
    if rule.capacity is None:
        return every.rows(slice(None))
    gone = (count - rule.capacity).clamp(min=0).unsqueeze(1)
    source = (gone + torch.arange(min(rule.capacity, every.slots))).clamp(max=max(every.slots - 1, 0))
    return every.take(source.to(grown.step.device), count.clamp(max=rule.capacity)).rows(slice(None))


def _evict_name(rule: Rule) -> str | None:
    """The name of the rule's way to make room, which it knows as a function; None for a user's own."""
    return next((name for name, evict in EVICT.items() if evict is rule.evict), None)


def _milestones(starts: list[int]) -> tuple[int, int]:
    """Every how many steps, and from which on, the segments but for the first begin."""
    if len(starts) == 1:
        return FAR, 0
    return (starts[2] - starts[1] if len(starts) > 2 else FAR), starts[1]


def _trace(
    state: LayerState, ran: cpu_op.Recalled, memory: Memory, starts: list[int], held: list[Memory] | None
) -> Trace:
    """What a replay needs, from what the op returned.

    Args:
        held: which memories there were at the beginning of each segment, where every step recalls all of them.
    """
    first = (state.h.detach(), *(tensor.detach() for tensor in state.extra))
    stride, offset = _milestones(starts)
    borders = len(starts) - 1
    before = (
        ran.output.detach()[offset - 1 :: min(stride, len(ran.output) + 1)][:borders].clone() if borders else None
    )
    later = () if before is None else (before, *([ran.milestones[-borders:]] if state.extra else []))  # (N, B, H)
    if held is not None:
        return Trace(partial(_entries, first, later, held), _nothing_chosen)
    read = partial(_read, memory.without_values(), ran.slots, ran.edge.unsqueeze(2))
    return Trace(partial(_entries, first, later, [None] * len(starts)), read)


def _entries(first: tuple[Tensor, ...], later: tuple[Tensor, ...], held: Sequence[Memory | None]) -> list[Entry]:
    """How segments were entered, from the state before the first and those before the others, stacked."""
    states = [first, *zip(*(tensor.unbind(0) for tensor in later), strict=True)]
    return [Entry(h, tuple(extra), memory, random=None) for (h, *extra), memory in zip(states, held, strict=True)]


def _nothing_chosen() -> None:
    """What decided the recalls of a layer of which every step recalls all memories: nothing in particular."""


def _read(memory: Memory, slots: Tensor, edge: Tensor) -> Tensor:
    """The stream steps of what decided each recall, (T, B, K + 1), NOTHING where less did.

    The op names only slots that got a weight. The edge in the place of the others leaves the threshold where it
    is, and tells a row whose scores tie from one that has too few memories for the release's rule.
    """
    return _steps(memory, torch.cat([torch.where(slots < 0, edge, slots), edge], dim=2))


def out_of_range(key: Tensor, query: Tensor) -> bool:
    """Whether a large W1 m may have met a large W2 h_hat of the other sign, which the op's clamped exponentials get
    wrong.

    Args:
        key, query: the largest |W1 m| and |W2 h_hat| there were.

    It keeps e^(2 W1 m) and e^(2 W2 h_hat), each exponent clamped. One clamped factor still leaves tanh at +-1;
    two may not.
    """
    clamp = CLAMP[key.dtype]
    smaller, larger = sorted((float(key), float(query)))
    return smaller > clamp - SATURATED and larger > clamp


def _grown(before: Memory, ran: cpu_op.Recalled, taken: Tensor, rule: Rule) -> Memory:
    """Every memory given or stored in the call; which steps they were stored at follows from the step counts."""
    if rule.k_top == 0:
        return before
    value, steps = ran.memory if rule.backtrack else ran.memory.detach(), len(ran.output)
    count = before.count + (taken + steps) // rule.k_att - taken // rule.k_att
    had, has, stored_before = (
        cuda_op.on_device(rows, value.device).unsqueeze(1) for rows in (before.count, count, taken // rule.k_att)
    )
    slot = torch.arange(value.shape[1], device=value.device)
    new = slot - had  # (B, M), 0 for the first memory of this call
    step = torch.where((new >= 0) & (slot < has), (stored_before + new + 1) * rule.k_att, 0)
    step[:, : before.slots] += torch.where(new[:, : before.slots] < 0, before.step, 0)
    weight = value.new_zeros(value.shape[:2]) if rule.capacity is None else ran.received
    return replace(before, value=value, step=step, weight=weight, count=count)


def _surviving(every: Memory, alive: Tensor, rule: Rule) -> Memory:
    """The memories that were not evicted, no wider than they need to be."""
    if rule.k_top == 0 or rule.capacity is None:
        return every.rows(slice(None))
    return every.take(alive, every.count.clamp(max=rule.capacity)).rows(slice(None))


def _noted(ran: cpu_op.Recalled, memory: Memory, raw: bool) -> Recall:
    """What was recalled, in stream steps: nothing where a weight is 0, and behind what was.

    Args:
        raw: whether weights may be raw scores.
    """
    nothing = ran.weights == 0  # (T, B, K)
    step = _steps(memory, ran.slots).masked_fill(nothing, 0)
    if not raw or not bool((ran.weights < 0).any()):
        return Recall(ran.summary, step, ran.weights)
    # Only the release's raw scores are negative: a 0 may stand before them.
    order = nothing.to(torch.int8).argsort(dim=2, stable=True)
    return Recall(ran.summary, step.gather(2, order), ran.weights.gather(2, order))


def _steps(memory: Memory, slots: Tensor) -> Tensor:
    """The stream steps of recalled slots (T, B, K), NOTHING where none."""
    rows = torch.arange(slots.shape[1], device=slots.device).view(1, -1, 1)
    if memory.slots == 0:
        return torch.full_like(slots, NOTHING, dtype=torch.int64)
    return memory.step[rows, slots.clamp(min=0).long()].masked_fill(slots < 0, NOTHING)
