"""The time loop of one SAB layer as two Triton kernels: all steps forward in one launch, all steps backward in one.

One program runs one row of the batch from the first step to the last, and waits for no other.

Shapes: T time, B batch, H hidden, G gate width, R recurrent width, D score width, M memory slots, K k_top. A width in
capitals with a P behind it is padded to a power of two.

This file imports Triton, and is imported where a kernel is launched and nowhere else.
"""

from __future__ import annotations

import triton
import triton.language as tl

from reminding.ops.cuda_op.triton.device import (
    GRU,
    LSTM,
    cell_backward,
    cell_forward,
    cuts,
    tanh,
    times,
    times_transposed,
)
from reminding.ops.cuda_op.triton.rows import recall, recall_backward, remember
from reminding.ops.cuda_op.triton.scores import DOT, KEYLESS, widen
from reminding.ops.cuda_op.triton.search import SCAN


@triton.jit
def forward_kernel(
    weight_hh, w1, w2, w3, h0, c0, step0, count0,
    output, summary, hat, c_last, cells, gates, queries, memory, keys,
    scores, slots, weights, edges, inverses, listed, received, bounds, left, members, patience,
    T, B, H, D, M, most, k_top, ranks, k_att, spans, blocks,
    recall_scale: tl.constexpr, score_scale: tl.constexpr, forget_scale: tl.constexpr, GATES: tl.constexpr,
    RECALLS: tl.constexpr,
    CELL: tl.constexpr, SCORE: tl.constexpr, NORMALIZER: tl.constexpr, RELEASE: tl.constexpr,
    ALIVE: tl.constexpr, SEARCH: tl.constexpr, HP: tl.constexpr, DP: tl.constexpr, KP: tl.constexpr,
    MP: tl.constexpr, SLICE: tl.constexpr, CHUNK: tl.constexpr, FAN: tl.constexpr, WIDE: tl.constexpr,
    LEAST: tl.constexpr,
):  # fmt: skip
    """One row of the batch, all steps.   [Ke et al. 2018, Algorithm 1]

    `gates` (T, B, G) come in as the inputs' part of them, biases included, and leave activated; `memory` (B, M, H)
    and `keys` (B, M, D) hold the given memories and have room for all that will be stored; slots and edges come in
    as -1, what else is written as 0. `hat` (B, H) and `scores` (B, most) are scratch.

    At most `most` memories of a row are alive. Under a capacity `received` (B, M) adds up their recall weights, and
    where the least recalled goes, `listed` (B, most) has their slots, oldest first.

    SEARCH: how the best memories are found. But for a scan, search.py says what `bounds`, `left`, `members` and
    `patience` are of each row; the first and the third come in as the given memories make them, the last as 0.
    """
    b = tl.program_id(0).to(tl.int64)
    unit = tl.arange(0, HP)
    real = unit < H
    feature = tl.arange(0, DP)
    taken = tl.load(step0 + b)
    filled = tl.load(count0 + b)
    values = memory + b * M * H
    row_keys = keys + b * M * D
    row_scores = scores + b * most
    row_list = listed + b * most
    row_received = received + b * M
    nodes = spans + blocks
    row_bounds = bounds + b * nodes * D * (2 if SCORE == DOT else 1)
    row_left = left + b * nodes
    row_members = members + b * (nodes + M)
    row_patience = patience + b * 2
    row_hat = hat + b * H
    h_before = h0 + b * H
    c = tl.load(c0 + b * H + unit, mask=real, other=0.0)
    for t in range(0, T):
        at = b + t * B
        h_hat, c = cell_forward(gates + at * GATES * H, weight_hh, h_before, c, H, CELL, forget_scale, HP, SLICE)
        if CELL == LSTM:
            tl.store(cells + at * H + unit, c, mask=real)
        tl.store(row_hat + unit, h_hat, mask=real)
        tl.debug_barrier()
        h = h_hat
        if RECALLS:
            query = tl.zeros((DP,), h_hat.dtype)
            offset = tl.sum(h_hat * 0.0, axis=0)
            if SCORE == KEYLESS:
                offset = tl.sum(tanh(h_hat) * tl.load(w3 + unit, mask=real, other=0.0), axis=0)
            else:
                query = times(w2, row_hat, D, H, DP, SLICE)
                tl.store(queries + at * D + feature, query, mask=feature < D)
            if filled > 0:
                h = recall(
                    h_hat, query, offset, at, filled, row_keys, w3, values, row_scores, row_list, row_received,
                    row_bounds, row_left, row_members, row_patience, summary, slots, weights, edges, inverses, H, D,
                    most, k_top, ranks, spans, blocks, recall_scale, score_scale, SCORE, NORMALIZER, RELEASE, ALIVE,
                    SEARCH, HP, DP, KP, MP, SLICE, CHUNK, FAN, WIDE, LEAST,
                )  # fmt: skip
        tl.store(output + at * H + unit, h, mask=real)
        h_before = output + at * H
        tl.debug_barrier()
        taken += 1
        if RECALLS and taken % k_att == 0:
            if SCORE != KEYLESS:
                key = times(w1, h_before, D, H, DP, SLICE)
                tl.store(row_keys + filled * D + feature, key, mask=feature < D)
                if SEARCH != SCAN:
                    widen(row_bounds, filled // (FAN * FAN), feature, key, feature < D, w3, D, SCORE)
                    widen(row_bounds, spans + filled // FAN, feature, key, feature < D, w3, D, SCORE)
            remember(
                h, filled, values, row_list, row_received, row_members, H, most, spans, blocks, ALIVE, SEARCH, HP,
                CHUNK, FAN,
            )  # fmt: skip
            filled += 1
            tl.debug_barrier()
    tl.store(c_last + b * H + unit, c, mask=real)


@triton.jit
def backward_kernel(
    weight_hh, w1, w2, w3, h0, c0, step0, count0,
    output, summary, cells, gates, queries, memory, keys, slots, weights,
    edges, inverses, d_output, d_summary, d_c_arriving,
    d_gates, d_queries, d_memory, d_keys, d_w3, d_offset, d_h0, d_c0, entry, stored, cut,
    T, B, H, D, M, k_top, k_att, k_trunc,
    recall_scale: tl.constexpr, score_scale: tl.constexpr, forget_scale: tl.constexpr, GATES: tl.constexpr,
    RECALLS: tl.constexpr,
    RECURRENT: tl.constexpr, BACKTRACK: tl.constexpr, CELL: tl.constexpr, SCORE: tl.constexpr,
    NORMALIZER: tl.constexpr, RELEASE: tl.constexpr, HP: tl.constexpr, DP: tl.constexpr, KP: tl.constexpr,
    WP: tl.constexpr, SLICE: tl.constexpr, PAST: tl.constexpr,
):  # fmt: skip
    """One row of the batch, from the last step to the first.

    A memory's credit is complete when the sweep comes to the step that stored it: all that recalled it came later.
    `d_memory` comes in as the loss's own, `d_keys` as 0. Of the separable score's w only the memories' half is added
    up in `d_w3` (B, WP); `d_offset` (T, B) is the credit of what all scores of a step share, the query's part.

    PAST: the steps are of past calls, laid out as `cpu_op.Past` says. `h0` and `c0` are then its entering states
    (E, H), and `entry`, `stored` and `cut` tell of each step what a whole pass has rules for. `d_c_arriving` is then
    of c after each step, (T, B, H); else of the last c, (B, H).
    """
    b = tl.program_id(0).to(tl.int64)
    unit = tl.arange(0, HP)
    real = unit < H
    feature = tl.arange(0, DP)
    taken0 = tl.load(step0 + b)
    count = tl.load(count0 + b)
    values, d_values = memory + b * M * H, d_memory + b * M * H
    row_keys, d_row_keys = keys + b * M * D, d_keys + b * M * D
    carry = tl.zeros((HP,), d_c0.dtype.element_ty)
    d_c = carry
    if not PAST:
        d_c = tl.load(d_c_arriving + b * H + unit, mask=real, other=0.0)
    d_out = tl.zeros((WP,), d_c.dtype)
    for back in range(0, T):
        t = T - 1 - back
        at = b + t * B
        if PAST:
            d_c += tl.load(d_c_arriving + at * H + unit, mask=real, other=0.0)
        h_before = output + (at - B) * H
        c_before = cells + (at - B) * H
        enters = tl.where(t == 0, b, -1)
        if PAST:
            enters = tl.load(entry + at).to(tl.int64)
        if enters >= 0:
            h_before = h0 + enters * H
            c_before = c0 + enters * H
        d_h = carry + tl.load(d_output + at * H + unit, mask=real, other=0.0)
        after = taken0 + t + 1
        for other in tl.static_range(2 if PAST else 1):
            slot = tl.where(after % k_att == 0, count + after // k_att - taken0 // k_att - 1, -1)
            if PAST:
                slot = tl.load(stored + at * 2 + other).to(tl.int64)
            if RECALLS and slot >= 0:
                d_h += tl.load(d_values + slot * H + unit, mask=real, other=0.0)
                if BACKTRACK and SCORE != KEYLESS:
                    d_h += times_transposed(w1, d_row_keys + slot * D, D, H, HP, SLICE)
        d_recalled = tl.zeros((HP,), d_c.dtype)
        if RECALLS:
            d_recalled = tl.load(d_summary + at * H + unit, mask=real, other=0.0)
        # Where few steps have a loss, most of the others get no credit and pass none on. A NaN is not 0.
        credited = (d_h != 0.0) | (d_c != 0.0) | (d_recalled != 0.0)
        carry = d_h
        if tl.sum(credited.to(tl.int32), axis=0) > 0:
            d_hat = d_h
            if RECALLS:
                inverse = tl.load(inverses + at)
                if inverse != 0.0:
                    d_hat, d_query, d_out = recall_backward(
                        d_h, d_h + d_recalled, d_out, inverse, at, slots, weights, edges, values, d_values, row_keys,
                        d_row_keys, queries, w3, d_offset, output, summary, H, D, k_top, recall_scale, score_scale,
                        BACKTRACK, SCORE, NORMALIZER, RELEASE, HP, DP, KP,
                    )  # fmt: skip
                    if SCORE != KEYLESS:
                        tl.store(d_queries + at * D + feature, d_query, mask=feature < D)
                        tl.debug_barrier()
                        d_hat += times_transposed(w2, d_queries + at * D, D, H, HP, SLICE)
            own = d_gates + at * GATES * H
            d_c, carry, _, _, _, _ = cell_backward(
                gates + at * GATES * H + unit, own + unit, h_before + unit, c_before + unit, cells + at * H + unit, H,
                real, d_hat, d_c, CELL, forget_scale,
            )  # fmt: skip
            tl.debug_barrier()
            if CELL == GRU:
                carry += times_transposed(weight_hh, own, 2 * H, H, HP, SLICE)
                carry += times_transposed(weight_hh + 2 * H * H, own + 3 * H, H, H, HP, SLICE)
            else:
                carry += times_transposed(weight_hh, own, RECURRENT * H, H, HP, SLICE)
        ends = cuts(taken0 + t, k_trunc, RELEASE)
        if PAST:
            ends = tl.load(cut + at) != 0
        if ends:
            carry *= 0.0
            d_c *= 0.0
        tl.debug_barrier()
    tl.store(d_h0 + b * H + unit, carry, mask=real)
    tl.store(d_c0 + b * H + unit, d_c, mask=real)
    width = tl.arange(0, WP)
    tl.store(d_w3 + b * WP + width, d_out)


@triton.jit
def cells_kernel(gates, cells, c0, entry, T, B, H, WIDE: tl.constexpr):
    """An LSTM's c after each step of past calls, (T, B, H), from activated gates; WIDE units of a row a program.

    `entry` (T, B) says with which of the states `c0` (E, H) a step begins, -1: with what the step before it left.
    """
    b = tl.program_id(0).to(tl.int64)
    unit = tl.program_id(1) * WIDE + tl.arange(0, WIDE)
    real = unit < H
    c = tl.zeros((WIDE,), gates.dtype.element_ty)
    for t in range(0, T):
        at = b + t * B
        enters = tl.load(entry + at).to(tl.int64)
        if enters >= 0:
            c = tl.load(c0 + enters * H + unit, mask=real, other=0.0)
        gate = gates + at * 4 * H + unit
        kept = c * tl.load(gate + H, mask=real, other=0.0)
        c = kept + tl.load(gate, mask=real, other=0.0) * tl.load(gate + 2 * H, mask=real, other=0.0)
        tl.store(cells + at * H + unit, c, mask=real)
