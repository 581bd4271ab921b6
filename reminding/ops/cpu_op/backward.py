"""The backward pass of the CPU op: only the (step, row) pairs that credit reaches are visited.

Shapes: B batch, T time, I input, H hidden, G gate width, D score width, M memory slots, K k_top, N live (step, row)
pairs, S memories that any live step scored.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from reminding.ops.cpu_op.problem import (
    CELLS,
    KEEP_REPLAY,
    SCORES,
    Rule,
    gate_width,
    joint_bias,
    pack,
    project,
    raw,
    row_groups,
)


@torch.library.custom_op("reminding::sab_backward", mutates_args=(), device_types="cpu")
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
    rule: list[int],
    keep: int,
    need_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, h0, c0, memory0, weight_ih, weight_hh, bias_ih, bias_hh, w1, w2, w3; empty where none."""
    return differentiate(
        (d_output, d_summary, d_c_T, d_memory),
        (x, h0, c0, memory0, count0, step0),
        (weight_ih, weight_hh, bias_ih, bias_hh, w1, w2, w3),
        (output, summary, memory, slots, edge, weights, inverse),
        (gates, cells, queries, keys, entering_c),
        rule,
        keep,
        need_x,
    )


class Past(NamedTuple):
    """Steps of past calls, laid out as if they were one pass: what the rule says of a whole pass, step by step.

    A step that enters a segment need not follow the one before it. E entering states.
    """

    cut: Tensor  # (T, B) bool: (h, c) is cut before it
    stored: Tensor  # (T, B, 2) int32: the slots that took its h, -1 where none
    entry: Tensor  # (T, B) int32: the entering state it begins with, -1: that after the step before it
    h: Tensor  # (E, H)
    c: Tensor  # (E, H), (E, 0) unless LSTM


def differentiate(
    arriving: tuple[Tensor | None, ...],
    given: tuple[Tensor, ...],
    parameters: tuple[Tensor | None, ...],
    record: tuple[Tensor, ...],
    kept: tuple[Tensor, ...],
    rule: list[int],
    keep: int,
    need_x: bool,
    past: Past | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, h0, c0, memory0, weight_ih, weight_hh, bias_ih, bias_hh, w1, w2, w3; empty where none.

    Args:
        arriving: gradients of output, summary, c_T and memory, or None.
        given: x, h0, c0, memory0, count0, step0; parameters: weight_ih to w3.
        record: output, summary, memory, slots, edge, weights, inverse.
        kept: gates, cells, queries, keys, entering_c; of no use where they are made again.
        past: where the steps are of past calls; it takes KEEP_REPLAY.
    """
    r = Rule(*rule)
    x, h0, c0, memory0, count0, step0 = given
    weight_ih, weight_hh, bias_ih, bias_hh, w1, w2, w3 = parameters
    output, summary, memory, slots, edge, weights, inverse = record
    gates, cells, queries, keys, entering_c = kept
    assert weight_ih is not None and weight_hh is not None, "only the biases may be left out"
    T, B, H = output.shape
    d_output, d_summary, d_c_T, d_memory = (d.contiguous() if d is not None else None for d in arriving)
    h0, c0, count0, step0 = h0.contiguous(), c0.contiguous(), count0.contiguous(), step0.contiguous()
    at_cuts = entering_c if past is None else None
    score = w3.contiguous() if w3 is not None else None
    grads = _empty_gradients((x, h0, c0, memory0, weight_ih, weight_hh, bias_ih, bias_hh, w1, w2, w3), need_x)
    for grad in grads:
        grad.zero_()
    d_x, d_h0, d_c0, d_memory0, d_weight_ih, d_weight_hh, d_bias_ih, d_bias_hh, d_w1, d_w2, d_w3 = grads
    x = x.contiguous()
    packed = pack(weight_ih if need_x else None, weight_hh, w1, w2, r, False)
    bias = joint_bias(bias_ih, bias_hh, weight_hh, r)
    live, touched = output.new_empty(T, B, dtype=torch.bool), output.new_empty(memory.shape[:2], dtype=torch.bool)
    raw().reach(
        *(live, touched, output, memory, step0, count0, slots, edge, inverse),
        *(d_output, d_summary, d_c_T, d_memory, past or (), rule),
    )
    d_bias = output.new_zeros(B, gate_width(H, r))
    d_score = output.new_zeros(B, w3.shape[0] if w3 is not None else 0)
    for first, last in row_groups(B, T) if keep == KEEP_REPLAY else [(0, B)]:
        slot = _Slots(touched[first:last], first, memory)
        d_keys = output.new_zeros(slot.size, w1.shape[0] if w1 is not None else 1)
        d_recalled = slot.of(d_memory) if d_memory is not None else output.new_zeros(slot.size, H)
        if keep == KEEP_REPLAY:
            pairs = _Pairs(live[:, first:last], first, B, x, h0, output, past)
            saved = (h0, c0, at_cuts, output, memory, step0)
            own, pair = _replay(pairs, slot, weight_ih, weight_hh, bias, w1, w2, saved, r, first, past), pairs.index
        else:
            own = (gates[first:last], cells[first:last], queries[first:last], keys[first:last])
            pair = live[:, first:last].to(torch.int32) - 1  # kept steps have their own places
        raw().backward(
            keep == KEEP_REPLAY,
            [x, h0, c0, step0, count0, score],
            packed,
            own,
            [output, summary, memory, slots, edge, weights, inverse, at_cuts],
            [d_output, d_summary, d_c_T],
            pair,
            slot.index,
            [d_recalled, d_keys],
            [d_weight_ih, d_weight_hh, *((d_w1, d_w2) if r.has_keys else (None, None))],
            [d_x if need_x else None, d_h0, d_c0, d_bias, d_score],
            past or (),
            rule,
            first,
        )
        _give_back(d_memory0, d_recalled, d_keys, w1, slot, count0, r)
    d_w3 += d_score.sum(0)
    _bias_gradients(d_bias.sum(0), d_bias_ih, d_bias_hh, r)
    return d_x, d_h0, d_c0, d_memory0, d_weight_ih, d_weight_hh, d_bias_ih, d_bias_hh, d_w1, d_w2, d_w3


def _bias_gradients(total: Tensor, d_bias_ih: Tensor, d_bias_hh: Tensor, rule: Rule) -> None:
    """Give the biases their share of `total`, the gradient of all pre-activations, (G,)."""
    d_bias_ih += total[: d_bias_ih.shape[0]]
    if rule.cell == CELLS["gru"] and d_bias_hh.numel() > 0:
        H = total.shape[0] // 4
        d_bias_hh += torch.cat([total[: 2 * H], total[3 * H :]])
    else:
        d_bias_hh += total[: d_bias_hh.shape[0]]


class _Pairs:
    """The live (step, row) pairs of one group of rows, oldest step first, and their rows of other tensors."""

    def __init__(
        self, live: Tensor, first: int, B: int, x: Tensor, h0: Tensor, output: Tensor, past: Past | None
    ) -> None:
        t, row = live.nonzero(as_tuple=True)
        self.size = t.shape[0]
        self.place = t * B + (row + first)  # (N,) into (T * B)
        self.index = torch.full(live.shape, -1, dtype=torch.int32)
        self.index[t, row] = torch.arange(self.size, dtype=torch.int32)
        self._starts = row[: int(live[:1].sum())] + first  # rows live at the first step
        self._x, self._h0, self._output, self._past = x, h0, output, past

    def x(self) -> Tensor:
        """The input of each pair, (N, I)."""
        flat = self._x.reshape(self._x.shape[0] * self._x.shape[1], self._x.shape[2]).contiguous()
        return flat if self.size == flat.shape[0] else flat.index_select(0, self.place)

    def h_before(self) -> Tensor:
        """What h was when each pair's step began, (N, H)."""
        T, B, H = self._output.shape
        before = self._output.view(T * B, H).index_select(0, (self.place - B).clamp_(min=0))
        before[: self._starts.shape[0]] = self._h0[self._starts]
        if self._past is not None:
            entry = self._past.entry.view(T * B)[self.place]  # (N,)
            enters = (entry >= 0).nonzero().squeeze(1)
            before[enters] = self._past.h[entry[enters].long()]
        return before


class _Slots:
    """The memories of one group of rows that got a gradient or lent a score one, by row, oldest first."""

    def __init__(self, touched: Tensor, first: int, memory: Tensor) -> None:
        row, self.slot = touched.nonzero(as_tuple=True)
        self.row = row + first
        self.size = row.shape[0]
        self.index = torch.full(touched.shape, -1, dtype=torch.int32)
        self.index[row, self.slot] = torch.arange(self.size, dtype=torch.int32)
        self._place = self.row * memory.shape[1] + self.slot

    def of(self, memory: Tensor) -> Tensor:
        """The touched rows of a tensor laid out as the memory is, (S, H)."""
        return memory.reshape(memory.shape[0] * memory.shape[1], memory.shape[2]).index_select(0, self._place)


def _replay(
    pairs: _Pairs,
    slot: _Slots,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    w1: Tensor | None,
    w2: Tensor | None,
    saved: tuple[Tensor | None, ...],
    rule: Rule,
    first: int,
    past: Past | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gates, cells, queries (N, .) and keys (S, D) again, as the forward pass had them.

    Args:
        saved: h0, c0, c at the cuts or None, output, memory, step0.
    """
    h0, c0, entering_c, output, memory, step0 = saved
    assert output is not None and memory is not None
    N, H = pairs.size, output.shape[2]
    gates = output.new_empty(N, gate_width(H, rule))
    cells, hat = output.new_empty(N, H if rule.has_c else 0), output.new_empty(N, H)
    raw().ask_for_huge_pages([gates, cells, hat])
    project(pairs.x(), weight_ih, bias, gates)
    before = pairs.h_before()
    if rule.cell == CELLS["gru"]:
        gates[:, : 2 * H].addmm_(before, weight_hh[: 2 * H].t())
        gates[:, 3 * H :].addmm_(before, weight_hh[2 * H :].t())
    else:
        gates.addmm_(before, weight_hh.t())
    raw().replay(
        *(gates, cells, hat, h0, c0, entering_c, output, memory, step0, pairs.index), past or (), list(rule), first
    )
    if w1 is None or w2 is None:
        return gates, cells, output.new_empty(N, 0), output.new_empty(slot.size, 0)
    queries, keys = hat @ w2.t(), slot.of(memory) @ w1.t()
    if rule.score == SCORES["additive"]:
        raw().exponentiate(queries)
        raw().exponentiate(keys)
    return gates, cells, queries, keys


def _give_back(
    d_memory0: Tensor, d_recalled: Tensor, d_keys: Tensor, w1: Tensor | None, slot: _Slots, count0: Tensor, rule: Rule
) -> None:
    """Credit of memories given with the call goes to memory0."""
    given = slot.slot < count0[slot.row]
    if d_memory0.numel() == 0 or not bool(given.any()):
        return
    credit = d_recalled[given]
    if w1 is not None and rule.backtrack:
        credit = credit.addmm(d_keys[given], w1)
    d_memory0[slot.row[given], slot.slot[given]] = credit


def _empty_gradients(sources: tuple[Tensor | None, ...], need_x: bool) -> tuple[Tensor, ...]:
    """Room for the gradient of each input, x first; empty for those that are None, and for x if unneeded."""
    x = sources[0]
    assert x is not None
    wanted = (x if need_x else None, *sources[1:])
    return tuple(x.new_empty(0) if source is None else source.new_empty(source.shape) for source in wanted)


@sab_backward.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    x, h0, c0, memory0, _, _, *weights = arguments[4:17]
    return _empty_gradients((x, h0, c0, memory0, *weights), arguments[-1])
