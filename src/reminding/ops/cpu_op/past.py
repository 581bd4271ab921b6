"""Credit back through steps of past calls: which of them it reaches, laid out in time, and their gradients.

Shapes: B batch rows, P segments of single rows, K ranks, N memories of a row, F features; else as in `Past`,
`PastLayout` and `PastSteps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from reminding.ops.contract import OpRule, PastGradients, PastReads, PastSteps, gate_width, joint_bias
from reminding.ops.cpu_op.able import in_range
from reminding.ops.cpu_op.backward import differentiate, replay_and_differentiate
from reminding.ops.cpu_op.packing import Arriving, Given, Kept, Record, Weights, needed, products_of, raw
from reminding.ops.cpu_op.reuse import reusable
from reminding.ops.past_layout import PastLayout, PastMemories, PastRows, PastRuns, PastSegments

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
    given = Given(steps.x, nothing, c0, steps.memory[:, :0], none, none, factor=steps.factor)
    record = Record(
        steps.output, steps.summary, steps.memory, steps.slots, steps.edges, steps.weights, steps.inverses
    )
    arriving = Arriving(d.output, None, None, d.memory, d.c)
    weights, numbers = Weights(*parameters), list(rule)
    if steps.kept is None:
        grads = replay_and_differentiate(arriving, given, weights, record, steps.past, numbers, need_x)
    else:
        grads = differentiate(arriving, given, weights, record, Kept(*steps.kept), numbers, need_x, steps.past)
    found = zip(grads[4:], parameters, strict=True)
    return [grads.x if need_x else None, *(None if p is None else gradient for gradient, p in found)]


def replay_past(reads: PastReads, parameters: Sequence[Tensor | None], rule: OpRule) -> PastSteps | str:
    """Steps of past calls, run again, or why the scores would not be exact.

    Args:
        parameters: as `differentiate_past` has them.
    """
    weights = Weights(*parameters)
    bias = joint_bias(weights.bias_ih, weights.bias_hh, needed(weights.weight_hh), rule)
    score = None if weights.w3 is None else weights.w3.contiguous()
    (T, R), H, memory = reads.read.shape[:2], needed(weights.weight_hh).shape[1], reads.memory
    keyed = 0 if weights.w1 is None else weights.w1.shape[0]
    steps, widths = int(reads.entries[2].sum()), (gate_width(H, rule), H if rule.has_c else 0, keyed)
    room = [*(reusable(memory, steps, width) for width in widths), *(reusable(memory, T, R, H) for _ in range(2))]
    output, summary, slots, edges, weighed, inverses, *kept, peak = raw().replay_past(
        reads.x,
        memory,
        reads.credited.contiguous(),
        reads.read,
        reads.entries,
        products_of(weights),
        bias,
        score,
        reads.past,
        reads.own,
        room,
        None if reads.factor is None else reads.factor.contiguous(),
        list(rule),
    )
    if rule.k_top and rule.scoring.clamped and not in_range(*peak):
        return "its scores leave the range in which the op is exact"
    made = tuple(kept) if kept[0].numel() <= MOST_KEPT else None
    record = (output, summary, memory, slots, edges, weighed, inverses)
    return PastSteps(reads.x, *record, reads.past, made, reads.factor)


def list_past(runs: PastRuns) -> tuple[Tensor, ...]:
    """The segments of single rows that are reached: P of them, by row, each row's in the order of the runs.

    Returns:
        (P,) int64 each: the row; the steps done before; the number of steps; the run; which of the run's rows; the
        step of the run at which it begins; where its first step lies among those of all runs, one behind the other as
        (S, R), and how far its steps lie apart; where its first state lies among those of all runs, as (N, R).
    """
    return cast("Tensor", raw().list_past(*map(list, runs))).unbind(0)


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
    out = reusable(whole[0], *layout.shape, whole[0].shape[1])
    raw().gather_past(whole, *rows, layout.entries, out)
    return out
