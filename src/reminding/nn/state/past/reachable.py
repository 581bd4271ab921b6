"""What credit from later calls can still reach of a stream's past: its segments, and memories evicted since.

Shapes: B batch rows, M memory slots, G evicted memories, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from reminding.checks import MOST
from reminding.nn.parts.memory import FAR, NOTHING, Memory, StepCodes
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.tensors import Rows, TensorGroup, common
from reminding.nn.state.past.runs import SegmentRun


@dataclass(frozen=True)
class Evicted(TensorGroup):
    """Memories of one layer that were evicted, but that a kept segment has read: (B, G, H), and their steps (B, G).

    They are constants: credit ends at them. Padding has the step FAR.
    """

    value: Rows
    step: Rows

    @staticmethod
    def copied(memory: Memory) -> Evicted:
        """What a layer remembers, a copy: a state may be changed in place while credit can reach its memories."""
        return Evicted(memory.value.detach().clone(), memory.ascending_steps.clone())


def pruned(
    runs: Sequence[SegmentRun], memories: Sequence[Memory], step: Tensor, rule: Rule
) -> tuple[list[SegmentRun], Tensor]:
    """The runs with those segments marked that credit from later steps can still reach, and where each row's begin.

    These are stream steps, (B,) on the host; FAR where a row has no segment.

    That is those in which a memory was stored that is still there, and those from which the state was carried
    into one of them, or into the present, without a cut; none further back than the horizon.

    Args:
        memories: each layer's; step: the stream step each row has reached, (B,) int64 on the host.
    """
    if not runs:
        return [], torch.full_like(step, FAR)
    spans = _spans(runs, len(step))
    start, end = spans  # (N, B), -1 where a row has no part in a segment
    near = end >= 0
    if rule.horizon is not None:
        near &= end > step - rule.horizon
        spans = torch.maximum(spans, step - rule.horizon)
    reached = torch.zeros_like(near)
    if rule.backtrack and rule.k_top != 0:
        for memory in memories:
            reached |= _stored_within(memory, spans)
    reached &= near
    _follow_state(reached, start, end, step, near & ~rule.cuts_after(end))
    if any(run.draws for run in runs):  # these are kept whole
        drawn = torch.cat([run.drawn for run in runs])
        reached |= drawn.unsqueeze(1) & reached.any(1, keepdim=True) & (end >= 0)
    return _kept(runs, reached), torch.where(reached, start, FAR).amin(0)


def _spans(runs: Sequence[SegmentRun], rows: int) -> Tensor:
    """The stream steps before and at the end of each segment, (2, N, B) on the host; -1 where a row has no part."""
    every = torch.arange(rows)
    spans: list[Tensor] = []
    for run in runs:
        span = run.span
        if not torch.equal(run.row, every):
            span = span.new_full((2, len(run), rows), -1).index_copy_(2, run.row, span)
        spans.append(span)
    return torch.cat(spans, 1)


def _kept(runs: Sequence[SegmentRun], reached: Tensor) -> list[SegmentRun]:
    """The runs that are reached, (N, B), as far as they are."""
    counts = iter(cast("list[int]", reached.sum(1).tolist()))
    kept: list[SegmentRun] = []
    first = 0
    for run in runs:
        last = first + len(run)
        count = sum(next(counts) for _ in range(first, last))
        if count:
            kept.append(run if count == run.count else run.reaching(reached[first:last, run.row], count))
        first = last
    return kept


def _stored_within(memory: Memory, spans: Tensor) -> Tensor:
    """Whether a remembered state was stored within a segment, (N, B), whose steps begin and end as in `_spans`."""
    step = memory.ascending_steps.cpu()  # (B, M), ascending
    stored = torch.searchsorted(step, spans.flatten(0, 1).T.contiguous(), right=True)  # (B, 2 N)
    before, after = stored.T.view_as(spans)
    return after > before


def _follow_state(reached: Tensor, start: Tensor, end: Tensor, step: Tensor, carried: Tensor) -> None:
    """Mark in `reached` (N, B) what the state was carried on from, without a cut, into a segment that is reached.

    Args:
        carried: where the state after a segment goes on without a cut, (N, B).
    """
    if not bool((carried & ~reached).any()):
        return
    position, alive = step.clone(), torch.ones_like(step, dtype=torch.bool)
    for number in range(len(reached) - 1, -1, -1):
        reached[number] |= carried[number] & alive & (end[number] == position)
        present = end[number] >= 0
        position = torch.where(present, start[number], position)
        alive = torch.where(present, reached[number], alive)


def evicted_and_read(
    every: Evicted, after: Memory, kept: tuple[Sequence[SegmentRun], Tensor], layer: int, rule: Rule
) -> Evicted:
    """The memories of a layer that are no longer there, but that the kept segments have read.

    Args:
        every: all that was remembered before, or had been evicted; after: what is remembered now.
        kept: the runs, and where each row's begin; see `pruned`.
    """
    value, step, (runs, begins) = every.value, every.step, kept
    rows, now, at = step.shape[0], after.ascending_steps.cpu(), step.cpu()
    if rule.evicts_oldest:
        assert rule.capacity is not None
        # What is there now is the newest of all; a segment has read nothing older than a full memory at its begin.
        oldest = now[:, :1] if now.shape[1] else torch.full((rows, 1), FAR)
        wanted = (at < oldest) & (at > (begins - min((rule.capacity + 1) * rule.k_att, MOST)).unsqueeze(1))
    else:
        row, at = torch.arange(rows).unsqueeze(1), at.masked_fill(at == FAR, -1)  # (B, N)
        coder = StepCodes(at)
        codes = coder.of(row, at)
        wanted = ~torch.isin(codes, coder.of(row, now)) & (at >= 0)
        wanted &= torch.isin(codes, _read_codes(runs, layer, coder))
    if rows and bool((wanted == wanted[:1]).all()):  # the same columns of all rows, as in most batches
        column = wanted[0].nonzero().squeeze(1).to(step.device)
        chosen = Evicted(value.index_select(1, column), step.index_select(1, column))
        if bool((chosen.step.diff(dim=1) > 0).all()):
            return chosen
    step = step.masked_fill(~wanted.to(step.device), FAR)
    width = int(wanted.sum(1).max()) if rows else 0
    order = step.argsort(dim=1, stable=True)[:, :width]
    return Evicted(value.gather(1, order.unsqueeze(2).expand(-1, -1, value.shape[2])), step.gather(1, order))


def _read_codes(runs: Sequence[SegmentRun], layer: int, coder: StepCodes) -> Tensor:
    """What the segments have read in a layer, as codes."""
    codes = [torch.empty(0, dtype=torch.int64)]
    for run in runs:
        part, row = run.layers[layer], run.row
        if part.read is not None:
            gone = ~run.reached.repeat_interleave(run.sizes, 0)  # (S, R)
            read = part.read.cpu().masked_fill(gone.unsqueeze(2), NOTHING)
            codes.append(coder.of(row.view(1, -1, 1), read).flatten())
        for number, memory in enumerate(part.entering.memory or ()):
            there = run.reached[number]
            codes.append(coder.of(row[there].view(-1, 1), memory.step.cpu()[there]).flatten())
    return torch.cat(codes)


def stored_in(states: Tensor, steps_done: Tensor, rule: Rule, lengths: Tensor | None = None) -> Evicted:
    """What a pass stored in memory and when.

    Args:
        states: what goes to memory at the steps that store, (T, B, H); steps_done: the steps taken before, (B,).
        lengths: how many of the steps each row has, (B,); None: all.
    """
    steps = len(states)
    begun = common(steps_done)
    if begun is not None and lengths is None:  # as in most batches
        first, last = begun // rule.k_att + 1, (begun + steps) // rule.k_att
        step = torch.arange(first, last + 1, device=states.device) * rule.k_att  # (N,)
        value = states.index_select(0, step - begun - 1).transpose(0, 1)
        return Evicted(value.contiguous(), step.expand(len(steps_done), -1))
    first = steps_done // rule.k_att + 1
    count = rule.stored_between(steps_done, steps if lengths is None else lengths)
    number = torch.arange(int(count.max()) if len(count) else 0)
    step = ((first.unsqueeze(1) + number) * rule.k_att).masked_fill(number >= count.unsqueeze(1), FAR)  # (B, N)
    place = (step - steps_done.unsqueeze(1) - 1).clamp(max=steps - 1).to(states.device)
    row = torch.arange(len(steps_done), device=states.device).unsqueeze(1)
    return Evicted(states[place, row], step.to(states.device))
