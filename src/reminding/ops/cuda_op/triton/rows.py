"""What a step does with the memories of one row, and how credit goes back through it.

Either pair of kernels calls these with one whole row at a time, whoever computed its provisional state and query.

Shapes: H hidden, D score width, M memory slots, K k_top. A width in capitals with a P behind it is padded to a power
of two.

This file imports Triton, and is imported where a kernel is launched and nowhere else.
"""

from __future__ import annotations

import triton
import triton.language as tl

from reminding.ops.cuda_op.triton.device import (
    EVERY,
    LISTED,
    THRESHOLD,
    admit,
    tanh,
    weigh,
)
from reminding.ops.cuda_op.triton.scores import KEYLESS, score_backward
from reminding.ops.cuda_op.triton.search import SCAN, count_members, find


@triton.jit
def recall(
    h_hat, query, offset, at, filled, keys, w3, values, scores, listed, received, bounds, left, members, patience,
    summary, slots, weights, edges, inverses, H, D, most, k_top, ranks, spans, blocks,
    recall_scale: tl.constexpr, score_scale: tl.constexpr, SCORE: tl.constexpr,
    NORMALIZER: tl.constexpr, RELEASE: tl.constexpr, ALIVE: tl.constexpr, SEARCH: tl.constexpr, HP: tl.constexpr,
    DP: tl.constexpr, KP: tl.constexpr, MP: tl.constexpr, SLICE: tl.constexpr, CHUNK: tl.constexpr,
    FAN: tl.constexpr, WIDE: tl.constexpr, LEAST: tl.constexpr,
):  # fmt: skip
    """Read the best of a row's memories, of which it has some, and note what was read: h, (HP,).

    What is kept by slot or node, and `patience`, are of the row; `at` is its place in what is kept by step. `edges`
    takes pairs: the slot that set the threshold, and that behind the k_top best which took part in the choice.
    """
    unit = tl.arange(0, HP)
    real = unit < H
    rank = tl.arange(0, KP)
    alive = tl.minimum(filled, most)
    value, ranked = find(
        keys, query, offset, w3, values, scores, listed, bounds, left, members, patience, filled, H, D, most, ranks,
        spans, blocks, score_scale, SCORE, ALIVE, SEARCH, HP, DP, KP, MP, SLICE, CHUNK, FAN, WIDE, LEAST,
    )  # fmt: skip
    weight, place, edge, inverse = weigh(value, ranked, alive, k_top, NORMALIZER, RELEASE, KP)
    weight *= recall_scale
    told = tl.where((place < 0) & (ranked >= 0), -2 - ranked, place)
    tl.store(slots + at * k_top + rank, told, mask=rank < k_top)
    tl.store(weights + at * k_top + rank, weight, mask=rank < k_top)
    tl.store(edges + 2 * at, edge)
    tl.store(edges + 2 * at + 1, tl.max(tl.where(rank == k_top, ranked, -1), axis=0))
    tl.store(inverses + at, inverse)
    if ALIVE != EVERY:
        got = tl.load(received + place, mask=place >= 0, other=0.0)
        tl.store(received + place, got + weight, mask=place >= 0)
    read = tl.load(
        values + place[:, None].to(tl.int64) * H + unit[None, :],
        mask=(place[:, None] >= 0) & real[None, :],
        other=0.0,
    )
    recalled = tl.sum(weight[:, None] * read, axis=0)
    tl.store(summary + at * H + unit, recalled, mask=real)
    return h_hat + recalled


@triton.jit
def remember(
    h, filled, values, listed, received, members, H, most, spans, blocks,
    ALIVE: tl.constexpr, SEARCH: tl.constexpr, HP: tl.constexpr, CHUNK: tl.constexpr, FAN: tl.constexpr,
):  # fmt: skip
    """Store h (HP,) in a row's next slot, but for its key; what `recall` wrote of the row lies behind a barrier."""
    unit = tl.arange(0, HP)
    tl.store(values + filled * H + unit, h, mask=unit < H)
    if ALIVE != EVERY:
        tl.store(received + filled, 0.0)
    if ALIVE == LISTED:
        gone = admit(listed, received, filled, most, CHUNK)
        if SEARCH != SCAN:
            count_members(members, filled, 1, spans, blocks, FAN)
            if gone >= 0:
                tl.debug_barrier()
                count_members(members, gone, -1, spans, blocks, FAN)


@triton.jit
def recall_backward(
    d_h, d_read, d_out, inverse, at, slots, weights, edges, values, d_values, keys, d_keys, queries, w3, d_offset,
    output, summary, H, D, k_top, recall_scale: tl.constexpr, score_scale: tl.constexpr, BACKTRACK: tl.constexpr,
    SCORE: tl.constexpr, NORMALIZER: tl.constexpr, RELEASE: tl.constexpr, HP: tl.constexpr, DP: tl.constexpr,
    KP: tl.constexpr,
):  # fmt: skip
    """Credit at a step that read something, to what was read, its scores and the provisional state.

    `d_h` (HP,) is the credit of h, `d_read` that of the summary: the same, and what came to the summary itself.
    Returns d_hat but for what comes by way of the query, d_query (DP,), and `d_out` with this step's added.
    """
    unit = tl.arange(0, HP)
    real = unit < H
    feature = tl.arange(0, DP)
    rank = tl.arange(0, KP)
    place = tl.load(slots + at * k_top + rank, mask=rank < k_top, other=-1)
    weight = tl.load(weights + at * k_top + rank, mask=rank < k_top, other=0.0)
    if NORMALIZER == THRESHOLD:
        place = tl.where(rank == k_top, tl.load(edges + 2 * at), place)
    there = (place[:, None] >= 0) & real[None, :]
    where = place[:, None].to(tl.int64) * H + unit[None, :]
    read = tl.load(values + where, mask=there, other=0.0)
    d_weight = tl.sum(read * d_read[None, :], axis=1)
    if BACKTRACK:
        more = weight[:, None] * d_read[None, :]
        tl.store(d_values + where, tl.load(d_values + where, mask=there, other=0.0) + more, mask=there)
    mean = tl.sum(weight * d_weight, axis=0) / recall_scale
    if NORMALIZER == THRESHOLD:
        d_score = tl.where(weight > 0, inverse * recall_scale * (d_weight - mean), 0.0)
        d_score = tl.where(rank == k_top, -tl.sum(d_score, axis=0), d_score)
        if RELEASE:
            d_score = tl.where(inverse < 0, d_weight * recall_scale, d_score)
    else:
        d_score = weight * (d_weight - mean)
    tl.debug_barrier()
    query = tl.load(queries + at * D + feature, mask=feature < D, other=0.0)
    d_query, d_out = score_backward(
        d_score, place, keys, d_keys, query, w3, values, d_values, read, d_out, H, D, score_scale, BACKTRACK, SCORE,
        HP, DP,
    )  # fmt: skip
    d_hat = d_h
    if SCORE == KEYLESS:
        offset = tl.sum(d_score, axis=0)
        tl.store(d_offset + at, offset)
        h_hat = tl.load(output + at * H + unit, mask=real, other=0.0)
        squashed = tanh(h_hat - tl.load(summary + at * H + unit, mask=real, other=0.0))
        d_hat += offset * tl.load(w3 + unit, mask=real, other=0.0) * (1.0 - squashed * squashed)
    return d_hat, d_query, d_out
