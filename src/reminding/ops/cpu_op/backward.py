"""The backward pass of the CPU op: only the (step, row) pairs that credit reaches are visited.

Shapes: B batch, T time, I input, H hidden, G gate width, D score width, M memory slots, K k_top, N live (step, row)
pairs, S memories that any live step scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from reminding.ops.contract import CELLS, OpRule, Past, gate_width, joint_bias, split_bias
from reminding.ops.cpu_op.checks import check_backward, check_devices
from reminding.ops.cpu_op.packing import (
    KEEP_REPLAY,
    Arriving,
    Given,
    Gradients,
    Kept,
    Record,
    Saved,
    Weights,
    given_of,
    needed,
    pack,
    products_of,
    project,
    raw,
    row_groups,
    whole,
)
from reminding.ops.cpu_op.reuse import reusable

SCHEMA = (
    "("
    "Tensor? d_output, Tensor? d_summary, Tensor? d_c_T, Tensor? d_memory, Tensor x, Tensor h0, Tensor c0, "
    "Tensor memory0, Tensor count0, Tensor step0, Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, "
    "Tensor? bias_hh, Tensor? w1, Tensor? w2, Tensor? w3, Tensor output, Tensor summary, Tensor memory, "
    "Tensor slots, Tensor weights, Tensor edge, Tensor inverse, Tensor gates, Tensor cells, Tensor queries, "
    "Tensor keys, Tensor entering_c, Tensor? factor, SymInt[] rule, SymInt keep, bool need_x"
    f") -> ({', '.join(['Tensor'] * 11)})"
)
"""Written out, since PyTorch before 2.7 cannot infer it from the annotations."""


@torch.library.custom_op("reminding::sab_backward", mutates_args=(), device_types="cpu", schema=SCHEMA)
def sab_backward(
    d_output: Tensor | None,
    d_summary: Tensor | None,
    d_c_T: Tensor | None,
    d_memory: Tensor | None,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    memory0: Tensor,
    count0: Tensor,
    step0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    w1: Tensor | None,
    w2: Tensor | None,
    w3: Tensor | None,
    output: Tensor,
    summary: Tensor,
    memory: Tensor,
    slots: Tensor,
    weights: Tensor,
    edge: Tensor,
    inverse: Tensor,
    gates: Tensor,
    cells: Tensor,
    queries: Tensor,
    keys: Tensor,
    entering_c: Tensor,
    factor: Tensor | None,
    rule: list[int],
    keep: int,
    need_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, h0, c0, memory0, weight_ih, weight_hh, bias_ih, bias_hh, w1, w2, w3; empty where none."""
    check_backward(locals())
    # fmt: off
    tensors = (
        d_output, d_summary, d_c_T, d_memory, x, h0, c0, memory0, count0, step0, weight_ih, weight_hh, bias_ih,
        bias_hh, w1, w2, w3, output, summary, memory, slots, weights, edge, inverse, gates, cells, queries, keys,
        entering_c, factor,
    )
    # fmt: on
    return cast("Any", tuple(gradients_of(tensors, rule, keep, need_x)))


def gradients_of(
    tensors: Sequence[Tensor | None], rule: list[int], keep: int, need_x: bool, lengths: Tensor | None = None
) -> Gradients:
    """What `sab_backward` returns, for tensors that fit together: its own, in their order.

    Args:
        lengths: see `LayerInput`.
    """
    parts = cast("Any", tensors)
    output, summary, memory, slots, recalled, edge, inverse, *kept, factor = parts[17:]
    given = Given(*parts[4:10], lengths=lengths, factor=factor)
    arriving, weights = Arriving(*parts[:4]), Weights(*parts[10:17])
    record, saved = Record(output, summary, memory, slots, edge, recalled, inverse), Saved(*kept)
    if keep == KEEP_REPLAY:
        return replay_and_differentiate(arriving, given, weights, record, saved.entering_c, rule, need_x)
    return differentiate(arriving, given, weights, record, Kept(*saved[:4]), rule, need_x)


def differentiate(
    arriving: Arriving,
    given: Given,
    weights: Weights,
    record: Record,
    kept: Kept,
    rule: list[int],
    need_x: bool,
    past: Past | None = None,
) -> Gradients:
    """The gradients of all that a pass was given of which every step was kept; empty where none.

    Args:
        need_x: whether that of x is needed.
        past: how the steps are laid out where they are of past calls, which were run again.
    """
    given = whole(given)
    x = given.x
    score = None if weights.w3 is None else weights.w3.contiguous()
    d_output, d_summary, d_c_T, d_memory, d_c = (None if d is None else d.contiguous() for d in arriving)
    visited = [] if kept.pair is None or kept.slot is None else [kept.pair, kept.slot]
    d_x = None
    if need_x:
        d_x = x.new_empty(x.shape) if past is None else reusable(x, *x.shape)
    found: list[Tensor] = raw().differentiate(
        given_of(given, score),
        products_of(weights),
        [kept.gates, kept.cells, kept.queries, kept.keys],
        [*record, None],
        [d_output, d_summary, d_c_T, d_c, d_memory],
        visited,
        past or (),
        d_x,
        given.memory0.shape[1],
        rule,
    )
    d_h0, d_c0, d_memory0, d_ih, d_hh, d_bias, d_w1, d_w2, d_w3 = found
    d_x = x.new_empty(0) if d_x is None else d_x
    shares = zip((weights.bias_ih, weights.bias_hh), split_bias(d_bias, OpRule(*rule)), strict=True)
    bias_ih, bias_hh = (x.new_empty(0) if bias is None else share for bias, share in shares)
    bias_hh = bias_hh.clone() if bias_hh is bias_ih else bias_hh
    return Gradients(d_x, d_h0, d_c0, d_memory0, d_ih, d_hh, bias_ih, bias_hh, d_w1, d_w2, d_w3)


def replay_and_differentiate(
    arriving: Arriving,
    given: Given,
    weights: Weights,
    record: Record,
    saved: Tensor | Past,
    rule: list[int],
    need_x: bool,
) -> Gradients:
    """The same of a pass whose gates are made again here, a group of rows at a time.

    Args:
        saved: c at the cuts; or, where the steps are of past calls, how they are laid out.
    """
    r = OpRule(*rule)
    arriving = Arriving(*(None if d is None else d.contiguous() for d in arriving))
    given = whole(given)
    past, at_cuts = (saved, None) if isinstance(saved, Past) else (None, saved)
    T, B = record.output.shape[:2]
    grads = _zero_gradients((*given[:4], *weights), need_x)
    live, touched = _reached(record, given, arriving, past, rule)
    totals = _Totals(record.output, weights, r)
    packed = pack(weights.weight_ih if need_x else None, needed(weights.weight_hh), weights.w1, weights.w2, r, False)
    for first, last in row_groups(B, T):
        slot = _Slots(touched[first:last], first, record.memory)
        credit = slot.credit(arriving.memory, weights.w1, record.output)
        pairs = _Pairs(live[:, first:last], first, given, record.output, past)
        own = _replay(pairs, slot, given, weights, record, at_cuts, r)
        raw().backward(
            True,
            given_of(given, totals.score_weight),
            packed,
            own,
            [*record, at_cuts],
            [*arriving[:3], arriving.c],
            pairs.index,
            slot.index,
            credit,
            [grads.weight_ih, grads.weight_hh, *((grads.w1, grads.w2) if r.has_keys else (None, None))],
            [grads.x if need_x else None, grads.h0, grads.c0, totals.d_bias, totals.d_score],
            past or (),
            rule,
            first,
        )
        _give_back(grads.memory0, credit, weights.w1, slot, given.count0, r)
    return totals.given_to(grads, r)


def _reached(
    record: Record, given: Given, arriving: Arriving, past: Past | None, rule: list[int]
) -> tuple[Tensor, Tensor]:
    """Which steps credit reaches, (T, B), and which memories they score, (B, M)."""
    output, memory = record.output, record.memory
    live = output.new_empty(output.shape[:2], dtype=torch.bool)
    touched = output.new_empty(memory.shape[:2], dtype=torch.bool)
    at = (output, memory, given.step0, given.count0, given.lengths, record.slots, record.edge, record.inverse)
    raw().reach(live, touched, *at, *arriving[:3], arriving.c, arriving.memory, past or (), rule)
    return live, touched


class _Totals:
    """The gradients of the biases and of w3, kept by batch row until all is added up.

    Attributes:
        d_bias: of all pre-activations, (B, G); d_score: of w3, (B, .); score_weight: w3 itself.
    """

    def __init__(self, output: Tensor, weights: Weights, rule: OpRule) -> None:
        w3, rows = weights.w3, output.shape[1]
        self.score_weight = None if w3 is None else w3.contiguous()
        self.d_bias = output.new_zeros(rows, gate_width(output.shape[2], rule))
        self.d_score = output.new_zeros(rows, 0 if w3 is None else w3.shape[0])

    def given_to(self, grads: Gradients, rule: OpRule) -> Gradients:
        """The gradients, with these added up in their places."""
        bias_ih, bias_hh = grads.bias_ih, grads.bias_hh
        if len(bias_ih) or len(bias_hh):
            shares = split_bias(self.d_bias.sum(0), rule)
            bias_ih, bias_hh = (
                share.clone() if len(own) else own for own, share in zip((bias_ih, bias_hh), shares, strict=True)
            )
        return grads._replace(bias_ih=bias_ih, bias_hh=bias_hh, w3=self.d_score.sum(0))


class _Pairs:
    """The live (step, row) pairs of one group of rows, oldest step first, and their rows of other tensors."""

    def __init__(self, live: Tensor, first: int, given: Given, output: Tensor, past: Past | None) -> None:
        t, row = live.nonzero(as_tuple=True)
        self.size = t.shape[0]
        self.place = t * output.shape[1] + (row + first)  # (N,) into (T * B)
        self.index = torch.full(live.shape, -1, dtype=torch.int32)
        self.index[t, row] = torch.arange(self.size, dtype=torch.int32)
        self._starts = row[: int(live[:1].sum())] + first  # rows live at the first step
        self.past, self._x, self._h0, self._output, self._factor = past, given.x, given.h0, output, given.factor

    def x(self) -> Tensor:
        """The input of each pair, (N, I)."""
        flat = self._x.reshape(self._x.shape[0] * self._x.shape[1], self._x.shape[2]).contiguous()
        return flat if self.size == flat.shape[0] else flat.index_select(0, self.place)

    def h_before(self) -> Tensor:
        """What of h entered the weights when each pair's step began, (N, H)."""
        T, B, H = self._output.shape
        before = self._output.view(T * B, H).index_select(0, (self.place - B).clamp_(min=0))
        before[: self._starts.shape[0]] = self._h0[self._starts]
        if self.past is not None:
            entry = self.past.entry.view(T * B)[self.place]  # (N,)
            enters = (entry >= 0).nonzero().squeeze(1)
            before[enters] = self.past.h[entry[enters].long()]
        if self._factor is not None:
            whole = self._factor.expand(T, B, H) if self._factor.dim() == 2 else self._factor
            before *= whole[self.place // B, self.place % B]
        return before


class _Slots:
    """The memories of one group of rows that got a gradient or lent a score one, by row, oldest first."""

    def __init__(self, touched: Tensor, first: int, memory: Tensor) -> None:
        self.first, self._width = first, memory.shape[1]
        self.index, place = raw().number(touched)
        self.size = place.shape[0]
        self._place = place + first * self._width if first else place

    def credit(self, d_memory: Tensor | None, w1: Tensor | None, like: Tensor) -> list[Tensor]:
        """Where the gradient of the memories, (S, H), begun with d_memory, and of their keys is added up, (S, D)."""
        d_keys = like.new_zeros(self.size, w1.shape[0] if w1 is not None else 1)
        return [like.new_zeros(self.size, like.shape[2]) if d_memory is None else self.of(d_memory), d_keys]

    def of(self, memory: Tensor) -> Tensor:
        """The touched rows of a tensor laid out as the memory is, (S, H)."""
        return memory.reshape(memory.shape[0] * memory.shape[1], memory.shape[2]).index_select(0, self._place)


def _replay(
    pairs: _Pairs,
    slot: _Slots,
    given: Given,
    weights: Weights,
    record: Record,
    at_cuts: Tensor | None,
    rule: OpRule,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gates, cells, queries (N, .) and keys (S, D) again, as the forward pass had them; at_cuts: c at the cuts."""
    output, memory = record.output, record.memory
    weight_ih, weight_hh = needed(weights.weight_ih), needed(weights.weight_hh)
    N, H = pairs.size, output.shape[2]
    gates = output.new_empty(N, gate_width(H, rule))
    cells, hat = output.new_empty(N, H if rule.has_c else 0), output.new_empty(N, H)
    raw().ask_for_huge_pages([gates, cells, hat])
    project(pairs.x(), weight_ih, joint_bias(weights.bias_ih, weights.bias_hh, weight_hh, rule), gates)
    before = pairs.h_before()
    if rule.cell == CELLS["gru"]:
        gates[:, : 2 * H].addmm_(before, weight_hh[: 2 * H].t())
        gates[:, 3 * H :].addmm_(before, weight_hh[2 * H :].t())
    else:
        gates.addmm_(before, weight_hh.t())
    state = (given.h0, given.c0, at_cuts, output, memory, given.step0)
    raw().replay(gates, cells, hat, *state, pairs.index, pairs.past or (), list(rule), slot.first)
    if weights.w1 is None or weights.w2 is None:
        return gates, cells, output.new_empty(N, 0), output.new_empty(slot.size, 0)
    queries, keys = hat @ weights.w2.t(), slot.of(memory) @ weights.w1.t()
    if rule.scoring.clamped:
        raw().exponentiate(queries)
        raw().exponentiate(keys)
    return gates, cells, queries, keys


def _give_back(
    d_memory0: Tensor, credit: list[Tensor], w1: Tensor | None, slot: _Slots, count0: Tensor, rule: OpRule
) -> None:
    """Credit of memories given with the call goes to memory0."""
    if d_memory0.numel() == 0:
        return
    d_recalled, d_keys = credit
    if w1 is not None and rule.backtrack:
        d_recalled = d_recalled.addmm(d_keys, w1)
    raw().give_back(d_memory0, d_recalled, slot.index, count0, slot.first)


def _zero_gradients(sources: tuple[Tensor | None, ...], need_x: bool) -> Gradients:
    """`_empty_gradients`, zeroed."""
    x = needed(sources[0])
    wanted = (x if need_x else None, *sources[1:])
    return Gradients(*(x.new_empty(0) if source is None else source.new_zeros(source.shape) for source in wanted))


def _empty_gradients(sources: tuple[Tensor | None, ...], need_x: bool) -> Gradients:
    """Room for the gradient of each input, x first; empty for those that are None, and for x if unneeded."""
    x = sources[0]
    assert x is not None
    wanted = (x if need_x else None, *sources[1:])
    grads = tuple(x.new_empty(0) if source is None else source.new_empty(source.shape) for source in wanted)
    return Gradients(*grads)


@sab_backward.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    check_devices(arguments)
    x, h0, c0, memory0, _, _, *weights = arguments[4:17]
    return tuple(_empty_gradients((x, h0, c0, memory0, *weights), arguments[-1]))
