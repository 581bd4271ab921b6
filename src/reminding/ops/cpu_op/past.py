"""Credit back through steps of past calls: which of them it reaches, laid out in time, and their gradients.

Shapes: B batch rows, P segments of single rows, K ranks, N memories of a row, F features; else as in `Past`,
`PastLayout` and `PastSteps`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reminding.ops.contract import OpRule, PastGradients, PastReads, PastSteps, gate_width, joint_bias
from reminding.ops.cpu_op.able import in_range
from reminding.ops.cpu_op.backward import differentiate
from reminding.ops.cpu_op.packing import Again, Arriving, Given, Record, Weights, pack, project, raw
from reminding.ops.past_layout import PastLayout, PastMemories, PastRows, PastSegments

MOST_KEPT = 2**26
"""Elements of the gates that a replay keeps at most; of more, the backward pass makes them again, group by group."""


def differentiate_past(
    d: PastGradients, parameters: Sequence[Tensor | None], steps: PastSteps, rule: OpRule, need_x: bool
) -> list[Tensor | None]:
    """Gradients of x (None if unneeded) and of the parameters; None for those that are.

    Args:
        parameters: weight_ih, weight_hh, bias_ih, bias_hh, w1, w2, w3, of the state's type.
    """
    nothing = steps.output.new_zeros(steps.output.shape[1], steps.output.shape[2])
    none = torch.zeros(len(nothing), dtype=torch.int64)
    c0 = nothing if rule.has_c else nothing[:, :0]
    given = Given(steps.x, nothing, c0, steps.memory[:, :0], none, none)
    record = Record(
        steps.output, steps.summary, steps.memory, steps.slots, steps.edges, steps.weights, steps.inverses
    )
    arriving = Arriving(d.output, None, None, d.memory, d.c)
    again = None
    if steps.kept is not None:
        live, touched, pair, gates, cells, queries, keys = steps.kept
        again = Again((live, touched), pair, (gates, cells, queries, keys))
    grads = differentiate(arriving, given, Weights(*parameters), record, steps.past, list(rule), need_x, again)
    found = zip(grads[4:], parameters, strict=True)
    return [grads.x if need_x else None, *(None if p is None else gradient for gradient, p in found)]


def replay_past(reads: PastReads, parameters: Sequence[Tensor | None], rule: OpRule) -> PastSteps | str:
    """Steps of past calls, run again, or why the scores would not be exact.

    Args:
        parameters: as `differentiate_past` has them.
    """
    weights = Weights(*parameters)
    weight_ih, weight_hh = weights.weight_ih, weights.weight_hh
    assert weight_ih is not None and weight_hh is not None, "only the biases may be left out"
    T, R = reads.read.shape[:2]
    memory, H = reads.memory, weight_hh.shape[1]
    live, touched = _visited(reads)
    pair, place = raw().number(live)
    slot, held = raw().number(touched)
    size, like = len(place), memory.new_empty
    gates, cells = like(size, gate_width(H, rule)), like(size, H if rule.has_c else 0)
    raw().ask_for_huge_pages([gates, cells])
    bias = joint_bias(weights.bias_ih, weights.bias_hh, weight_hh, rule)
    project(reads.x.reshape(T * R, -1).index_select(0, place), weight_ih, bias, gates)
    keys, peak = _keys(memory.flatten(0, 1), held, weights.w1, rule)
    queries = like(size, keys.shape[1])
    output, summary = like(T, R, H), like(T, R, H)
    slots, weighed = torch.empty(T, R, rule.k_top, dtype=torch.int32), like(T, R, rule.k_top)
    edges, inverses = torch.empty(T, R, dtype=torch.int32), like(T, R)
    _, *packed = pack(None, weight_hh, weights.w1, weights.w2, rule, True)
    peaks, w3 = like(reads.entries.shape[1], 2), None if weights.w3 is None else weights.w3.contiguous()
    kept, record = [gates, cells, queries, keys], [output, summary, memory, slots, edges, weighed, inverses]
    entries = list(reads.entries.unbind(0))
    raw().past_forward(
        entries, reads.read, w3, packed, kept, record, pair, slot, reads.past, peaks, reads.own, list(rule)
    )
    if rule.k_top and rule.scoring.clamped and not in_range(*torch.maximum(peaks.amax(0), peak)):
        return "its scores leave the range in which the op is exact"
    made = (live, touched, pair, *kept) if gates.numel() <= MOST_KEPT else None
    return PastSteps(reads.x, output, summary, memory, slots, edges, weighed, inverses, reads.past, made)


def _visited(reads: PastReads) -> tuple[Tensor, Tensor]:
    """Which places are steps of the segments, (T, B), and which memories they read, or have credit, (B, M)."""
    live = reads.credited.new_empty(reads.read.shape[:2])
    touched = reads.credited.new_empty(reads.memory.shape[:2])
    raw().visit_past(list(reads.entries.unbind(0)), reads.read, reads.credited.contiguous(), live, touched)
    return live, touched


def _keys(memory: Tensor, place: Tensor, w1: Tensor | None, rule: OpRule) -> tuple[Tensor, Tensor]:
    """The keys of the memories at places (S,) as they are compared, (S, D), and the largest |W1 m| beside 0, (2,)."""
    if w1 is None:
        return memory.new_empty(len(place), 0), memory.new_zeros(2)
    keys = memory.index_select(0, place) @ w1.t()
    peak = memory.new_zeros(2)
    if rule.scoring.clamped:
        peak[0] = keys.abs().amax() if keys.numel() else 0
        raw().exponentiate(keys)
    return keys, peak


def reach_past(segments: PastSegments, memories: PastMemories, arrived: Tensor, rule: OpRule) -> Tensor:
    """How many steps of each segment credit can have come to, (P,) int64.

    Args:
        arrived: how many steps of each segment, from its first, credit reaches from outside, (P,): all of them where
            the state after it has any, those that the layer above has sent some to.
    """
    until = arrived.to(torch.int32, copy=True)
    *where, read = segments
    memory = [memories.step, memories.passes, memories.credited.clone()]
    raw().reach_past(until, where, read.unsqueeze(1), memory, list(rule))
    return until.long()


def lay_out_past(
    segments: PastSegments, memories: PastMemories, count: Tensor, cut_at: Tensor | None, rule: OpRule
) -> PastLayout:
    """The first steps of segments, laid out in time.

    Args:
        count: how many of each, (P,) int64, not all 0.
        cut_at: a stream step of each batch row before which its state is cut besides, (B,) int64, or None.
    """
    *where, read = segments
    *laid, own = raw().lay_out_past(
        where, read.unsqueeze(1), memories.step, memories.passes, count, cut_at, list(rule)
    )
    segment, row, entries, source, read_slots, stored, cut, entry = laid
    return PastLayout(segment, row, entries, source, read_slots, stored, cut, entry, bool(own))


def gather_past(parts: Sequence[Tensor], rows: PastRows, layout: PastLayout) -> Tensor:
    """Rows of tensors (., F) each, as the steps of segments are laid out: (T, R, F), zeros where there are none."""
    whole = [part.contiguous() for part in parts]
    out = whole[0].new_empty(*layout.shape, whole[0].shape[1])
    raw().gather_past(whole, *rows, layout.entries, out)
    return out
