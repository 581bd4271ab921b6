"""The backward pass of the CPU op: only the (step, row) pairs that credit reaches are visited.

Shapes: B batch, T time, I input, H hidden, G gate width, D score width, M memory slots, K k_top, N live (step, row)
pairs, S memories that any live step scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

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
    split_bias,
)

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


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


class Passed(NamedTuple):
    """Steps of past calls, run again. M memories of a row, whichever of them the steps stored."""

    x: Tensor  # (T, B, I)
    output: Tensor  # (T, B, H)
    summary: Tensor  # (T, B, H)
    memory: Tensor  # (B, M, H)
    slots: Tensor  # (T, B, K) int32, -1 where none
    edges: Tensor  # (T, B) int32: the slot that set the threshold, -1 where none; never one that has a weight
    weights: Tensor  # (T, B, K), recall_scale included
    inverses: Tensor  # (T, B): what weights were multiplied by, 0 where nothing was read, -1 where scores are weights
    past: Past  # how they are laid out


def differentiate_past(
    d: tuple[Tensor | None, ...], parameters: Sequence[Tensor | None], passed: Passed, rule: Rule, need_x: bool
) -> list[Tensor | None]:
    """Gradients of x (None if unneeded) and of the parameters; None for those that are.

    Args:
        d: gradients of output, of c after the last step (B, H), and of memory, or None.
        parameters: weight_ih, weight_hh, bias_ih, bias_hh, w1, w2, w3, of the state's type.
    """
    x, output, summary, memory, slots, edges, weights, inverses, past = passed
    nothing = output.new_zeros(output.shape[1], output.shape[2])
    none = torch.zeros(len(nothing), dtype=torch.int64)
    given = x, nothing, nothing if rule.has_c else nothing[:, :0], memory[:, :0], none, none
    record = output, summary, memory, slots, edges, weights, inverses
    kept = (nothing[:0],) * 5
    arriving = d[0], None, *d[1:]
    grads = differentiate(arriving, given, tuple(parameters), record, kept, list(rule), KEEP_REPLAY, need_x, past)
    found = zip(grads[4:], parameters, strict=True)
    return [grads[0] if need_x else None, *(None if p is None else gradient for gradient, p in found)]


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
) -> Gradients:
    """Gradients of x, h0, c0, memory0, weight_ih, weight_hh, bias_ih, bias_hh, w1, w2, w3; empty where none.

    Args:
        arriving: gradients of output, summary, c_T and memory, or None.
        given: x, h0, c0, memory0, count0, step0; parameters: weight_ih to w3.
        record: output, summary, memory, slots, edge, weights, inverse.
        kept: gates, cells, queries, keys, entering_c; of no use where they are made again.
        past: where the steps are of past calls; it takes KEEP_REPLAY.
    """
    r = Rule(*rule)
    arriving = tuple(None if d is None else d.contiguous() for d in arriving)
    x, h0, c0, memory0, count0, step0 = (tensor.contiguous() for tensor in given)
    output, _, memory, slots, edge, _, inverse = record
    at_cuts, w1, w3 = kept[4] if past is None else None, parameters[4], parameters[6]
    T, B = output.shape[:2]
    grads = _zero_gradients((x, h0, c0, memory0, *parameters), need_x)
    live, touched = output.new_empty(T, B, dtype=torch.bool), output.new_empty(memory.shape[:2], dtype=torch.bool)
    raw().reach(live, touched, output, memory, step0, count0, slots, edge, inverse, *arriving, past or (), rule)
    widths = gate_width(h0.shape[1], r), w3.shape[0] if w3 is not None else 0
    d_bias, d_score = (output.new_zeros(B, width) for width in widths)
    packed = pack(parameters[0] if need_x else None, _needed(parameters[1]), w1, parameters[5], r, False)
    for first, last in row_groups(B, T) if keep == KEEP_REPLAY else [(0, B)]:
        slot = _Slots(touched[first:last], first, memory)
        credit = slot.credit(arriving[3], w1, output)
        if keep == KEEP_REPLAY:
            pairs = _Pairs(live[:, first:last], first, x, h0, output, past)
            saved = (h0, c0, at_cuts, output, memory, step0)
            own, pair = _replay(pairs, slot, parameters, saved, r, first, past), pairs.index
        else:
            own, pair = kept[:4], live.to(torch.int32) - 1  # kept steps have their own places
        raw().backward(
            keep == KEEP_REPLAY,
            [x, h0, c0, step0, count0, None if w3 is None else w3.contiguous()],
            packed,
            own,
            [*record, at_cuts],
            arriving[:3],
            pair,
            slot.index,
            credit,
            [*grads[4:6], *(grads[8:10] if r.has_keys else (None, None))],
            [grads[0] if need_x else None, *grads[1:3], d_bias, d_score],
            past or (),
            rule,
            first,
        )
        _give_back(grads[3], credit, w1, slot, count0, r)
    _sum_rows(d_bias, d_score, *grads[6:8], grads[10], r)
    return grads


def _needed(tensor: Tensor | None) -> Tensor:
    assert tensor is not None, "only the biases, and what the score has not, may be left out"
    return tensor


def _sum_rows(
    d_bias: Tensor, d_score: Tensor, d_bias_ih: Tensor, d_bias_hh: Tensor, d_w3: Tensor, rule: Rule
) -> None:
    """Give the biases and w3 their share: of the gradient of all pre-activations (B, G), and of d_score (B, .)."""
    d_w3 += d_score.sum(0)
    for own, share in zip((d_bias_ih, d_bias_hh), split_bias(d_bias.sum(0), rule), strict=True):
        own += share[: len(own)]  # of a bias that is left out, nothing


class _Pairs:
    """The live (step, row) pairs of one group of rows, oldest step first, and their rows of other tensors."""

    def __init__(self, live: Tensor, first: int, x: Tensor, h0: Tensor, output: Tensor, past: Past | None) -> None:
        t, row = live.nonzero(as_tuple=True)
        self.size = t.shape[0]
        self.place = t * output.shape[1] + (row + first)  # (N,) into (T * B)
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
    parameters: tuple[Tensor | None, ...],
    saved: tuple[Tensor | None, ...],
    rule: Rule,
    first: int,
    past: Past | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gates, cells, queries (N, .) and keys (S, D) again, as the forward pass had them.

    Args:
        parameters: weight_ih to w3; saved: h0, c0, c at the cuts or None, output, memory, step0.
    """
    h0, c0, entering_c, output, memory, step0 = saved
    assert output is not None and memory is not None
    _, _, bias_ih, bias_hh, w1, w2, _ = parameters
    weight_ih, weight_hh = _needed(parameters[0]), _needed(parameters[1])
    N, H = pairs.size, output.shape[2]
    gates = output.new_empty(N, gate_width(H, rule))
    cells, hat = output.new_empty(N, H if rule.has_c else 0), output.new_empty(N, H)
    raw().ask_for_huge_pages([gates, cells, hat])
    project(pairs.x(), weight_ih, joint_bias(bias_ih, bias_hh, weight_hh, rule), gates)
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
    d_memory0: Tensor, credit: list[Tensor], w1: Tensor | None, slot: _Slots, count0: Tensor, rule: Rule
) -> None:
    """Credit of memories given with the call goes to memory0."""
    given = slot.slot < count0[slot.row]
    if d_memory0.numel() == 0 or not bool(given.any()):
        return
    d_recalled, d_keys = (tensor[given] for tensor in credit)
    if w1 is not None and rule.backtrack:
        d_recalled = d_recalled.addmm(d_keys, w1)
    d_memory0[slot.row[given], slot.slot[given]] = d_recalled


def _zero_gradients(sources: tuple[Tensor | None, ...], need_x: bool) -> Gradients:
    """`_empty_gradients`, zeroed."""
    grads = _empty_gradients(sources, need_x)
    for grad in grads:
        grad.zero_()
    return grads


def _empty_gradients(sources: tuple[Tensor | None, ...], need_x: bool) -> Gradients:
    """Room for the gradient of each input, x first; empty for those that are None, and for x if unneeded."""
    x = sources[0]
    assert x is not None
    wanted = (x if need_x else None, *sources[1:])
    grads = tuple(x.new_empty(0) if source is None else source.new_empty(source.shape) for source in wanted)
    return cast("Gradients", grads)


@sab_backward.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    x, h0, c0, memory0, _, _, *weights = arguments[4:17]
    return _empty_gradients((x, h0, c0, memory0, *weights), arguments[-1])
