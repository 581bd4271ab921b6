"""The time loop of one SAB layer, tiles of rows by slices of hidden units: a second pair of Triton kernels.

Program (tile, slice) computes its slice of the hidden units for all rows of its tile, with the slice's weights held
on chip from the first step to the last, and recalls for some of the rows. What one program of a tile needs of another
goes through global memory, and twice a step the programs of a tile meet. Between two meetings no program reads what
another writes. All of a tile must run at once, so the launch has to be cooperative.

A sum over all units that a row's program needs, of its query or of the credit of its state, is written as a part by
each slice and added up by the row's program, in the order of the slices: that saves two more meetings a step.

Shapes: T time, B batch, H hidden, G gate width, D score width, M memory slots, K k_top; S slices, R rows a tile, U
units and F features a slice. Inner sizes are cut in C chunks, of N for H and of L for D, which warps multiply side
by side. A width in capitals with a P behind it is padded to a power of two.

This file imports Triton, and is imported where a kernel is launched and nowhere else.
"""

from __future__ import annotations

import triton
import triton.language as tl

from reminding.ops.cuda_op.triton.device import GRU, LSTM, activate, cell_backward, cuts, tanh
from reminding.ops.cuda_op.triton.rows import recall, recall_backward, remember
from reminding.ops.cuda_op.triton.scores import DOT, KEYLESS, widen
from reminding.ops.cuda_op.triton.search import SCAN

LINE = tl.constexpr(32)
"""Counters of different tiles lie on cache lines of their own."""


@triton.jit
def meet(arrivals, goal):
    """Wait until all programs of the tile are here, the counter then being `goal`; see what they wrote before.

    The barrier before the arrival puts all threads' writes before it, since one thread arrives for all, by a release.
    Whoever then reads the count by an acquire has them before it, and the barrier behind hands that on to the other
    threads of the block. The acquire also drops what the first-level cache holds, which is not kept coherent.
    """
    tl.debug_barrier()
    tl.atomic_add(arrivals, 1, sem="release", scope="gpu")
    while tl.atomic_load(arrivals, sem="acquire", scope="gpu") < goal:
        pass
    tl.debug_barrier()


@triton.jit
def matmul(x, held, PRECISION: tl.constexpr):
    """Numbers (.., R, N) of the state's type times held (.., N, U), which may be bfloat16.

    Three bfloat16 numbers hold a float32, so tensor cores lose none of it: their products are exact in float32.
    """
    if held.dtype == tl.bfloat16:
        high = x.to(tl.bfloat16)
        rest = x - high.to(tl.float32)
        middle = rest.to(tl.bfloat16)
        low = (rest - middle.to(tl.float32)).to(tl.bfloat16)
        found = tl.dot(low, held)
        found = tl.dot(middle, held, acc=found)
        found = tl.dot(high, held, acc=found)
    else:
        found = tl.dot(x, held, input_precision=PRECISION)
    return found


@triton.jit
def as_held(tile, kind: tl.constexpr):
    """Weights in the type to hold them in: the state's, or bfloat16."""
    return tile if tile.dtype == tl.bfloat16 else tile.to(kind)


@triton.jit
def hold(weight, inner, apart, start, real, kind: tl.constexpr, C: tl.constexpr, N: tl.constexpr):
    """Weights (C, N, U) in chunks of their `inner` rows, which are `apart`; columns that begin at `start` (U,)."""
    index = tl.arange(0, C)[:, None] * N + tl.arange(0, N)[None, :]
    where = weight + index[:, :, None] * apart + start[None, None, :]
    return as_held(tl.load(where, mask=(index < inner)[:, :, None] & real[None, None, :], other=0.0), kind)


@triton.jit
def hold_across(weight, start, real, outer, apart, kind: tl.constexpr, WP: tl.constexpr):
    """Weights (U, WP): rows that begin at `start` (U,), their `outer` columns `apart`."""
    index = tl.arange(0, WP)
    where = weight + start[:, None] + index[None, :] * apart
    return as_held(tl.load(where, mask=real[:, None] & (index < outer)[None, :], other=0.0), kind)


@triton.jit
def rows_times(source, start, live, inner, held, C: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr):
    """Rows in global memory that start at `start` (R,) times held (C, N, U): (R, U)."""
    index = tl.arange(0, C)[:, None] * N + tl.arange(0, N)[None, :]
    where = source + start[None, :, None] + index[:, None, :]
    x = tl.load(where, mask=live[None, :, None] & (index < inner)[:, None, :], other=0.0)
    return tl.sum(matmul(x, held, PRECISION), axis=0)


@triton.jit
def add_parts(parts, apart, slices, width, WP: tl.constexpr, AT_ONCE: tl.constexpr):
    """What the slices have of one row's sum, `apart` from each other, added up: (WP,)."""
    column = tl.arange(0, WP)
    total = tl.zeros((WP,), parts.dtype.element_ty)
    for start in range(0, slices, AT_ONCE):
        part = start + tl.arange(0, AT_ONCE)
        where = parts + part[:, None] * apart + column[None, :]
        total += tl.sum(tl.load(where, mask=(part < slices)[:, None] & (column < width)[None, :], other=0.0), axis=0)
    return total


@triton.jit
def one_by_one(gates, GATES: tl.constexpr, R: tl.constexpr, U: tl.constexpr):
    """Gates (R, U * GATES), the gates of a unit beside each other, as four (R, U)."""
    if GATES == 1:
        one, two, three, four = gates, gates, gates, gates
    else:
        even, odd = tl.split(tl.reshape(gates, (R, U, 2, 2)))
        one, three = tl.split(even)
        two, four = tl.split(odd)
    return one, two, three, four


@triton.jit
def side_by_side(one, two, three, four, GATES: tl.constexpr, R: tl.constexpr, U: tl.constexpr):
    """What `one_by_one` took apart."""
    gates = one
    if GATES > 1:
        gates = tl.reshape(tl.join(tl.join(one, three), tl.join(two, four)), (R, U * 4))
    return gates


@triton.jit
def place(step0, count0, first_tile, B, H, GATES: tl.constexpr, R: tl.constexpr, U: tl.constexpr):
    """Where a program works: its tile's first row, which of its rows there are, and what they had before, (R,).

    Also which of its slice's units there are in them, (R, U), and where these lie from the first row on: among H
    numbers a row, and among GATES times as many.
    """
    first_row = (first_tile + tl.program_id(0)).to(tl.int64) * R
    of_tile = tl.arange(0, R)
    live = first_row + of_tile < B
    unit = tl.program_id(1) * U + tl.arange(0, U)
    here = live[:, None] & (unit < H)[None, :]
    own = of_tile[:, None] * H + unit[None, :]
    own_gates = of_tile[:, None] * GATES * H + unit[None, :]
    taken0 = tl.load(step0 + first_row + of_tile, mask=live, other=0)
    count = tl.load(count0 + first_row + of_tile, mask=live, other=0)
    return first_row, live, taken0, count, here, own, own_gates


@triton.jit
def forward_tiles(
    weight_hh, w1, w2, w3, h0, c0, step0, count0,
    output, summary, hat, c_last, cells, gates, queries, memory, keys,
    scores, slots, weights, edges, inverses, listed, received, bounds, left, members, patience, parts, arrivals,
    first_tile, T, B, H, D, M, most, k_top, ranks, k_att, spans, blocks,
    recall_scale: tl.constexpr, score_scale: tl.constexpr, forget_scale: tl.constexpr, GATES: tl.constexpr,
    RECALLS: tl.constexpr,
    CELL: tl.constexpr, SCORE: tl.constexpr, NORMALIZER: tl.constexpr, RELEASE: tl.constexpr,
    ALIVE: tl.constexpr, SEARCH: tl.constexpr, HP: tl.constexpr, DP: tl.constexpr, KP: tl.constexpr,
    MP: tl.constexpr, SLICE: tl.constexpr, CHUNK: tl.constexpr, FAN: tl.constexpr, WIDE: tl.constexpr,
    LEAST: tl.constexpr, RECURRENT: tl.constexpr, R: tl.constexpr, U: tl.constexpr,
    F: tl.constexpr, N: tl.constexpr, L: tl.constexpr, AT_ONCE: tl.constexpr, HOLDS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """A slice of the units of a tile of rows, all steps; arguments and results as `forward_kernel`'s.

    The launch begins at tile `first_tile`. `parts` (tiles of the launch, S, R, D) is scratch, and `arrivals` (all
    tiles, LINE) comes in as 0.
    """
    slice, slices = tl.program_id(1), tl.num_programs(1)
    kind: tl.constexpr = output.dtype.element_ty
    KEYED: tl.constexpr = RECALLS and SCORE != KEYLESS
    SIDES: tl.constexpr = 2 if SCORE == DOT else 1
    nodes = spans + blocks
    every = tl.arange(0, HP)
    feature = tl.arange(0, DP)
    first_row, live, taken0, count, here, own, own_gates = place(step0, count0, first_tile, B, H, GATES, R, U)
    of_tile = tl.arange(0, R)
    row = first_row + of_tile
    unit = slice * U + tl.arange(0, U)
    own_feature = slice * F + tl.arange(0, F)
    column = tl.arange(0, U * GATES)
    gate, of_unit = column % GATES, slice * U + column // GATES
    held = hold(weight_hh, H, 1, (gate * H + of_unit) * H, (of_unit < H) & (gate < RECURRENT), kind, HP // N, N)
    if KEYED and HOLDS:
        held_w1 = hold(w1, H, 1, own_feature * H, own_feature < D, kind, HP // N, N)
        held_w2 = hold_across(w2, unit, unit < H, D, H, kind, DP)
    parts += tl.program_id(0).to(tl.int64) * slices * R * D
    arrivals += (first_tile + tl.program_id(0)) * LINE
    goal = 0
    c = tl.load(c0 + first_row * H + own, mask=here, other=0.0)
    h_before = h0 + first_row * H
    for t in range(0, T):
        now = first_row + t * B
        from_h = rows_times(h_before, of_tile * H, live, H, held, HP // N, N, PRECISION)
        one, two, three, four = one_by_one(from_h, GATES, R, U)
        at_gates = gates + now * GATES * H + own_gates
        h_hat, c = activate(at_gates, H, here, one, two, three, four, h_before + own, c, CELL, forget_scale)
        if CELL == LSTM:
            tl.store(cells + now * H + own, c, mask=here)
        tl.store(hat + first_row * H + own, h_hat, mask=here)
        if KEYED:
            if not HOLDS:
                held_w2 = hold_across(w2, unit, unit < H, D, H, kind, DP)
            part = matmul(h_hat, held_w2, PRECISION)
            where = (slice * R + of_tile)[:, None] * D + feature[None, :]
            tl.store(parts + where, part, mask=live[:, None] & (feature < D)[None, :])
        goal += slices
        meet(arrivals, goal)
        for mine in range(slice, R, slices):
            b = first_row + mine
            if b < B:
                at = b + t * B
                h = tl.load(hat + b * H + every, mask=every < H, other=0.0)
                if RECALLS:
                    query = tl.zeros((DP,), h.dtype)
                    offset = tl.sum(h * 0.0, axis=0)
                    if KEYED:
                        query = add_parts(parts + mine * D, R * D, slices, D, DP, AT_ONCE)
                        tl.store(queries + at * D + feature, query, mask=feature < D)
                    else:
                        offset = tl.sum(tanh(h) * tl.load(w3 + every, mask=every < H, other=0.0), axis=0)
                    taken = tl.load(step0 + b)
                    filled = tl.load(count0 + b) + (taken + t) // k_att - taken // k_att
                    values = memory + b * M * H
                    if filled > 0:
                        h = recall(
                            h, query, offset, at, filled, keys + b * M * D, w3, values, scores + b * most,
                            listed + b * most, received + b * M, bounds + b * nodes * SIDES * D, left + b * nodes,
                            members + b * (nodes + M), patience + b * 2, summary, slots, weights, edges, inverses, H,
                            D, most, k_top, ranks, spans, blocks, recall_scale, score_scale, SCORE, NORMALIZER,
                            RELEASE, ALIVE, SEARCH, HP, DP, KP, MP, SLICE, CHUNK, FAN, WIDE, LEAST,
                        )  # fmt: skip
                    if (taken + t + 1) % k_att == 0:
                        tl.debug_barrier()
                        remember(
                            h, filled, values, listed + b * most, received + b * M, members + b * (nodes + M), H,
                            most, spans, blocks, ALIVE, SEARCH, HP, CHUNK, FAN,
                        )  # fmt: skip
                tl.store(output + at * H + every, h, mask=every < H)
        goal += slices
        meet(arrivals, goal)
        h_before = output + now * H
        if KEYED:
            stores = live & ((taken0 + t + 1) % k_att == 0)
            if tl.max(stores.to(tl.int32), axis=0) > 0:
                if not HOLDS:
                    held_w1 = hold(w1, H, 1, own_feature * H, own_feature < D, kind, HP // N, N)
                key = rows_times(h_before, of_tile * H, stores, H, held_w1, HP // N, N, PRECISION)
                slot = row * M + count + (taken0 + t) // k_att - taken0 // k_att
                new = keys + slot[:, None] * D + own_feature[None, :]
                mask = stores[:, None] & (own_feature < D)[None, :]
                tl.store(new, key, mask=mask)
                if SEARCH != SCAN:
                    span = row * nodes + (slot - row * M) // (FAN * FAN)
                    block = row * nodes + spans + (slot - row * M) // FAN
                    widen(bounds, span[:, None], own_feature[None, :], key, mask, w3, D, SCORE)
                    widen(bounds, block[:, None], own_feature[None, :], key, mask, w3, D, SCORE)
    tl.store(c_last + first_row * H + own, c, mask=here)


@triton.jit
def backward_tiles(
    weight_hh, w1, w2, w3, h0, c0, step0, count0,
    output, summary, cells, gates, queries, memory, keys, slots, weights,
    edges, inverses, d_output, d_summary, d_c_last,
    d_gates, d_queries, d_memory, d_keys, d_w3, d_offset, d_h0, d_c0, d_hat, parts, arrivals,
    first_tile, T, B, H, D, M, k_top, k_att, k_trunc,
    recall_scale: tl.constexpr, score_scale: tl.constexpr, forget_scale: tl.constexpr, GATES: tl.constexpr,
    RECALLS: tl.constexpr,
    RECURRENT: tl.constexpr, BACKTRACK: tl.constexpr, CELL: tl.constexpr, SCORE: tl.constexpr,
    NORMALIZER: tl.constexpr, RELEASE: tl.constexpr, HP: tl.constexpr, DP: tl.constexpr, KP: tl.constexpr,
    WP: tl.constexpr, SLICE: tl.constexpr, R: tl.constexpr, U: tl.constexpr, F: tl.constexpr,
    N: tl.constexpr, L: tl.constexpr, AT_ONCE: tl.constexpr, HOLDS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A slice of the units of a tile of rows, from the last step to the first; arguments as `backward_kernel`'s.

    `d_hat` (B, H) and `parts` (tiles of the launch, S, R, H) are scratch. A step begins with whole rows, whose carry
    is the sum of the parts that the step after it left, the credit of its memory's key among them.
    """
    slice, slices = tl.program_id(1), tl.num_programs(1)
    kind: tl.constexpr = output.dtype.element_ty
    KEYED: tl.constexpr = RECALLS and SCORE != KEYLESS
    every = tl.arange(0, HP)
    feature = tl.arange(0, DP)
    first_row, live, taken0, count, here, own, own_gates = place(step0, count0, first_tile, B, H, GATES, R, U)
    of_tile = tl.arange(0, R)
    row = first_row + of_tile
    unit = slice * U + tl.arange(0, U)
    own_feature = slice * F + tl.arange(0, F)
    column = tl.arange(0, U * GATES)
    gate, of_unit = column % GATES, slice * U + column // GATES
    held = hold_across(weight_hh, (gate * H + of_unit) * H, (of_unit < H) & (gate < RECURRENT), H, 1, kind, HP)
    if KEYED and HOLDS:
        held_w1 = hold_across(w1, own_feature * H, own_feature < D, H, 1, kind, HP)
        held_w2 = hold(w2, D, H, unit, unit < H, kind, DP // L, L)
    parts += tl.program_id(0).to(tl.int64) * slices * R * H
    arrivals += (first_tile + tl.program_id(0)) * LINE
    goal = 0
    d_c = tl.load(d_c_last + first_row * H + own, mask=here, other=0.0)
    d_out = tl.zeros((WP,), d_c.dtype)
    for back in range(0, T):
        t = T - 1 - back
        for mine in range(slice, R, slices):
            b = first_row + mine
            if b < B:
                at = b + t * B
                d_h = tl.load(d_output + at * H + every, mask=every < H, other=0.0)
                if back > 0:
                    d_h += add_parts(parts + mine * H, R * H, slices, H, HP, AT_ONCE)
                    if CELL == GRU:
                        d_h += tl.load(d_hat + b * H + every, mask=every < H, other=0.0)
                if RECALLS:
                    d_values = d_memory + b * M * H
                    taken = tl.load(step0 + b)
                    if (taken + t + 1) % k_att == 0:
                        slot = tl.load(count0 + b) + (taken + t) // k_att - taken // k_att
                        d_h += tl.load(d_values + slot * H + every, mask=every < H, other=0.0)
                    inverse = tl.load(inverses + at)
                    if inverse != 0.0:
                        d_read = d_h + tl.load(d_summary + at * H + every, mask=every < H, other=0.0)
                        d_h, d_query, d_out = recall_backward(
                            d_h, d_read, d_out, inverse, at, slots, weights, edges, memory + b * M * H, d_values,
                            keys + b * M * D, d_keys + b * M * D, queries, w3, d_offset, output, summary, H, D, k_top,
                            recall_scale, score_scale, BACKTRACK, SCORE, NORMALIZER, RELEASE, HP, DP, KP,
                        )  # fmt: skip
                        if KEYED:
                            tl.store(d_queries + at * D + feature, d_query, mask=feature < D)
                if CELL == GRU:
                    tl.debug_barrier()  # another thread may still have to read what this one overwrites
                tl.store(d_hat + b * H + every, d_h, mask=every < H)
        goal += slices
        meet(arrivals, goal)
        now = first_row + t * B
        h_before, c_before = output + (now - B) * H, cells + (now - B) * H
        if t == 0:
            h_before, c_before = h0 + first_row * H, c0 + first_row * H
        d_own = tl.load(d_hat + first_row * H + own, mask=here, other=0.0)
        if KEYED:
            if not HOLDS:
                held_w2 = hold(w2, D, H, unit, unit < H, kind, DP // L, L)
            d_own += rows_times(d_queries + now * D, of_tile * D, live, D, held_w2, DP // L, L, PRECISION)
        at_gates = now * GATES * H + own_gates
        d_c, carry, one, two, three, four = cell_backward(
            gates + at_gates, d_gates + at_gates, h_before + own, c_before + own, cells + now * H + own, H, here,
            d_own, d_c, CELL, forget_scale,
        )  # fmt: skip
        passes = 1.0 - cuts(taken0 + t, k_trunc, RELEASE).to(kind)[:, None]
        d_c *= passes
        part = matmul(side_by_side(one, two, three, four, GATES, R, U) * passes, held, PRECISION)
        if KEYED and BACKTRACK:
            stored = live & (row + t * B >= B) & ((taken0 + t) % k_att == 0)
            if tl.max(stored.to(tl.int32), axis=0) > 0:
                if not HOLDS:
                    held_w1 = hold_across(w1, own_feature * H, own_feature < D, H, 1, kind, HP)
                slot = row * M + count + (taken0 + t) // k_att - taken0 // k_att - 1
                mask = stored[:, None] & (own_feature < D)[None, :]
                d_key = tl.load(d_keys + slot[:, None] * D + own_feature[None, :], mask=mask, other=0.0)
                part += matmul(d_key, held_w1, PRECISION)
        where = (slice * R + of_tile)[:, None] * H + every[None, :]
        tl.store(parts + where, part, mask=live[:, None] & (every < H)[None, :])
        if CELL == GRU:
            tl.debug_barrier()
            tl.store(d_hat + first_row * H + own, carry * passes, mask=here)
        goal += slices
        meet(arrivals, goal)
    for mine in range(slice, R, slices):
        b = first_row + mine
        if b < B:
            carry = add_parts(parts + mine * H, R * H, slices, H, HP, AT_ONCE)
            if CELL == GRU:
                carry += tl.load(d_hat + b * H + every, mask=every < H, other=0.0)
            tl.store(d_h0 + b * H + every, carry, mask=every < H)
    tl.store(d_c0 + first_row * H + own, d_c, mask=here)
    if (slice < R) & (first_row + slice < B):
        tl.store(d_w3 + (first_row + slice) * WP + tl.arange(0, WP), d_out)
