"""One layer on a compiled op: one call for all time steps.

Shapes: B batch, T time, I input, M memory slots, K k_top, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import torch
from torch import Tensor

from reminding.nn.forward.layer_call import LayerCall, LayerPass
from reminding.nn.forward.reader import recall_of
from reminding.nn.forward.twice import compute
from reminding.nn.parts.bound import BoundLayer
from reminding.nn.parts.memory import FAR, NOTHING, Memory
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.tensors import common
from reminding.nn.state.past.history import Lazy
from reminding.nn.state.past.segments import EnteringStates, ReplayRecord
from reminding.nn.state.stream import LayerState, Recall
from reminding.ops.backends import BACKENDS
from reminding.ops.contract import LayerInput, OpRule, Recalled, on_device
from reminding.ops.twice import provide

provide(compute)


def most_alive(before: Memory, steps_done: Tensor, steps: int, rule: Rule) -> int:
    """The most memories that a step of a call finds, in any row.

    Args:
        before: the layer's memory before the call; steps: how many the call takes.
    """
    if len(steps_done) == 0 or steps == 0 or not rule.remembers:
        return 0
    most = int((before.count + rule.stored_between(steps_done, steps - 1)).max())
    return most if rule.capacity is None else min(most, rule.capacity)


def unroll(call: LayerCall, backend: str, replay: bool) -> LayerPass | None:
    """Run one layer with a built-in cell and score over a stretch of time, as `reference.unroll` does.

    Args:
        backend: a name in `BACKENDS`.
        replay: recompute gates in the backward pass instead of keeping them.

    Returns:
        None where the scores left the range in which the op is exact.
    """
    state, rule, layer = call.state, call.rule, call.layer
    before, op = state.memory, BACKENDS[backend].op
    every = most_alive(before, call.steps_done, len(call.x), rule) if rule.k_top is None else 0
    # k_top=None is top-k with k = the number of memories; at least 1, since with 0 the op would remember nothing.
    at_once = max(every, 1) if rule.k_top is None else rule.k_top
    given = LayerInput(
        x=call.x,
        h0=state.h,
        c0=state.cell_state[0] if state.cell_state else None,
        memory0=before.value,
        count0=before.count,
        step0=call.steps_done,
        recurrent=layer.weights,
        scorer=layer.recall_tensors,
        received0=before.weight,
        lengths=call.lengths,
        factor=call.factor,
    )
    milestones = None if call.starts is None else _milestones(call.starts)
    ran = op.layer(given, op_rule(layer, rule, at_once), replay=replay, milestones=milestones)
    if layer.scorer is not None and ran.peak.numel() > 0 and not op.in_range(*ran.peak.amax(0)):
        return None
    slots = ran.memory.shape[1]
    count = before.count + rule.stored_between(call.steps_done, call.steps)
    steps = Lazy(partial(_grown_steps, before.step, before.count, call.steps_done, call.steps, slots, rule))
    grown = partial(_grown, before, ran, count, steps, rule)
    surviving = _when_read(partial(_surviving, grown, ran.alive, rule))
    # A copy of h: a state may be changed in place, and what was stored is read from the output later.
    after = LayerState(ran.h.clone(), (ran.c,) if state.cell_state else (), surviving)
    recall = _noted(ran, steps.value, raw=rule.weighs_raw) if call.record else None
    if recall is not None and rule.k_top is None:
        recall = replace(recall, step=recall.step[..., :every], weight=recall.weight[..., :every])
    stored = ran.output - ran.summary if rule.stores_proposal else ran.output
    return LayerPass(ran.output, after, recall, _replay_record(call, ran, grown, steps), stored)


def op_rule(layer: BoundLayer, rule: Rule, k_top: int) -> OpRule:
    """The settings of a layer that an op can run, as the op takes them."""
    assert layer.cell_name and layer.score_name, "a user's own are refused by `obstacle`"
    return _op_rule(rule, layer.cell_name, layer.score_name, k_top)


@lru_cache(maxsize=256)
def _op_rule(rule: Rule, cell: str, score: str, k_top: int) -> OpRule:
    return rule.for_op(cell, score, k_top)


def _held(grown: Memory, before: Memory, steps_done: Tensor, start: int, rule: Rule) -> Memory:
    """Which memories there were when so many steps of a call were done, where the oldest go; without their values.

    Args:
        grown: every memory given or stored in the call; before: those given.
    """
    count = before.count + rule.stored_between(steps_done, start)
    every = replace(grown.without_values(), count=count)
    if rule.capacity is None:
        return every.rows(slice(None))
    gone = (count - rule.capacity).clamp(min=0).unsqueeze(1)
    source = (gone + torch.arange(min(rule.capacity, every.slots))).clamp(max=max(every.slots - 1, 0))
    return every.take(source.to(grown.step.device), count.clamp(max=rule.capacity)).rows(slice(None))


def _milestones(starts: list[int]) -> tuple[int, int]:
    """Every how many steps, and from which on, the segments but for the first begin."""
    if len(starts) == 1:
        return FAR, 0
    return (starts[2] - starts[1] if len(starts) > 2 else FAR), starts[1]


def _replay_record(
    call: LayerCall, ran: Recalled, grown: Callable[[], Memory], steps: Lazy[Tensor]
) -> ReplayRecord | None:
    """What a replay needs, from what the op returned; None where there will be none.

    Args:
        grown: gives every memory given or stored in the call; steps: the stream steps of these alone.
    """
    state, rule, starts = call.state, call.rule, call.starts
    if starts is None:
        return None
    stride, offset = _milestones(starts)
    borders = len(starts) - 1
    h = [state.h.detach().unsqueeze(0)]
    if borders:
        h.append(ran.output.detach()[offset - 1 :: min(stride, len(ran.output) + 1)][:borders])
    c = [tensor.detach().unsqueeze(0) for tensor in state.cell_state]
    if borders and c:
        c.append(ran.milestones[-borders:])
    entering = partial(_entering, torch.cat(h), c, call.factor)  # a copy: the output may be changed in place
    if not rule.remembers:
        nothing = ran.slots.new_zeros(*ran.slots.shape[:2], 0, dtype=torch.int64)
        return ReplayRecord(entering, lambda: nothing)
    if rule.k_top is None:
        every = grown()
        held = tuple(_held(every, state.memory, call.steps_done, start, rule) for start in starts)
        return ReplayRecord(partial(entering, memory=held), _nothing_chosen)
    return ReplayRecord(entering, partial(_read, steps, ran.slots, ran.behind if rule.weights.behind else None))


def _entering(
    h: Tensor, c: Sequence[Tensor], factor: Tensor | None, memory: tuple[Memory, ...] | None = None
) -> EnteringStates:
    """How segments were entered: with h (N, B, H), and with c before the first and before the others, stacked."""
    return EnteringStates(h, (torch.cat([*c]),) if c else (), memory, factor=factor)


def _nothing_chosen() -> None:
    """What decided the recalls of a layer of which every step recalls all memories: nothing in particular."""


def _read(steps: Lazy[Tensor], slots: Tensor, behind: Tensor | None) -> Tensor:
    """The stream steps of what decided each recall, (T, B, ranks), NOTHING where less did, as `Reader.read_steps`.

    Args:
        steps: of all slots; slots, behind: as of `Recalled`, the latter None where the rule has none.
    """
    if behind is None:
        return _steps(steps.value, slots)
    without_weight = slots < NOTHING
    read = torch.where(without_weight, NOTHING - 1 - slots, slots)
    return _steps(steps.value, torch.cat([read, behind.unsqueeze(2)], dim=2))


def _when_read(make: Callable[[], Memory]) -> Memory:
    """A memory that is made when it is first looked at, in the graph if there is one now."""
    differentiates = torch.is_grad_enabled()

    def made() -> Memory:
        with torch.set_grad_enabled(differentiates):
            return make()

    return Memory.made_when_read(made, None)


def _grown(before: Memory, ran: Recalled, count: Tensor, steps: Lazy[Tensor], rule: Rule) -> Memory:
    """Every memory given or stored in the call, so many of each row, (B,).

    Which steps they were stored at follows from the step counts.
    """
    if not rule.remembers:
        return before
    value = ran.memory if rule.backtrack else ran.memory.detach()
    weight = value.new_zeros(value.shape[:2]) if rule.capacity is None else ran.received
    return replace(before, value=value, step=steps.value.clone(), weight=weight, count=count)


def _grown_steps(
    before: Tensor, count: Tensor, steps_done: Tensor, steps: int | Tensor, slots: int, rule: Rule
) -> Tensor:
    """The stream step each memory given or stored in a call was stored at, (B, M), 0 for padding.

    Args:
        before, count: the same of the memories given, and how many of them a row has.
        steps: how many the call takes, of all rows or of each, (B,); slots: M.
    """
    device, first, begun = before.device, common(count), common(steps_done)
    if (
        first is not None and begun is not None and isinstance(steps, int)
    ):  # as in most batches: then no masks are needed
        k_att = rule.k_att
        stored = (begun + steps) // k_att - begun // k_att if rule.remembers else 0
        least = (begun // k_att + 1) * k_att
        new = torch.arange(least, least + stored * k_att, k_att, device=device)
        parts = [before[:, :first], new.expand(len(count), -1)]
        missing = slots - first - stored
        return torch.cat(parts if missing == 0 else [*parts, before.new_zeros(len(count), missing)], 1)
    had, stored, stored_before = (
        on_device(rows, device).unsqueeze(1)
        for rows in (count, rule.stored_between(steps_done, steps), steps_done // rule.k_att)
    )
    new = torch.arange(slots, device=device) - had  # (B, M), 0 for the first memory of this call
    step = torch.where((new >= 0) & (new < stored), (stored_before + new + 1) * rule.k_att, 0)
    step[:, : before.shape[1]] += torch.where(new[:, : before.shape[1]] < 0, before, 0)
    return step


def _surviving(grown: Callable[[], Memory], alive: Tensor, rule: Rule) -> Memory:
    """The memories that were not evicted, no wider than they need to be.

    Args:
        grown: gives every memory given or stored in the call.
    """
    every = grown()
    if not rule.remembers or rule.capacity is None:
        return every.rows(slice(None))
    last = common(every.count) if rule.evicts_oldest else None
    if last is None:
        return every.take(alive, every.count.clamp(max=rule.capacity)).rows(slice(None))
    first = max(last - rule.capacity, 0)
    value, step, weight = (tensor[:, first:last] for tensor in (every.value, every.step, every.weight))
    return replace(every, value=value, step=step, weight=weight, count=every.count.clamp(max=rule.capacity))


def _noted(ran: Recalled, steps: Tensor, raw: bool) -> Recall:
    """What was recalled, in stream steps: nothing where a weight is 0, and behind what was.

    Args:
        steps: of every memory, (B, M); raw: whether weights may be raw scores.
    """
    return recall_of(ran.summary, _steps(steps, ran.slots), ran.weights, raw)


def _steps(step: Tensor, slots: Tensor) -> Tensor:
    """The stream steps of slots (T, B, K), NOTHING where they are below 0, from those of all slots, (B, M)."""
    B, M = step.shape
    if M == 0:
        return torch.full_like(slots, NOTHING, dtype=torch.int64)
    named = torch.cat([step.new_full((B, 1), NOTHING), step], 1).view(-1)  # a row's first is what slot -1 means
    first = torch.arange(B, device=slots.device).unsqueeze(1) * (M + 1) + 1
    return named.index_select(0, (slots.clamp(min=NOTHING) + first).view(-1)).view(slots.shape)
