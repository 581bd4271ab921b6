"""The scores of a row's memories, and how credit goes back through them: the one file that a new score touches here.

The codes are those of `ops/scores.py`.

Shapes: H hidden, D score width, M memory slots, K k_top. A width in capitals with a P behind it is padded to a power
of two.

This file imports Triton, and is imported where a kernel is launched and nowhere else.
"""

from __future__ import annotations

import triton
import triton.language as tl

from reminding.ops.cuda_op.triton.device import slots_at, tanh

ADDITIVE, DOT, SEPARABLE = (tl.constexpr(value) for value in range(3))
KEYLESS = SEPARABLE
"""The score whose query adds the same to every memory's score: memories have no keys."""


@triton.jit
def score_memories(
    keys, query, w3, values, listed, first, alive, scores, H, D, scale, offset,
    SCORE: tl.constexpr, ALIVE: tl.constexpr, HP: tl.constexpr, DP: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """The score of every memory alive, to global memory by its place among them, a tile at a time."""
    unit = tl.arange(0, HP)
    for start in range(0, alive, TILE):
        place = start + tl.arange(0, TILE)
        live = place[:, None] < alive
        slot = slots_at(place, place < alive, listed, first, ALIVE)[:, None].to(tl.int64)
        if SCORE == KEYLESS:
            value = tl.load(values + slot * H + unit[None, :], mask=live & (unit[None, :] < H), other=0.0)
            out = tl.load(w3 + H + unit, mask=unit < H, other=0.0)
            found = tl.sum(tanh(value) * out[None, :], axis=1) + offset
        else:
            found = keyed_scores(keys, slot, live, query, w3, D, scale, SCORE, DP)
        tl.store(scores + place, found, mask=place < alive)


@triton.jit
def keyed_scores(keys, slot, live, query, w3, D, scale, SCORE: tl.constexpr, DP: tl.constexpr):
    """The scores (TILE,) of the memories in some slots (TILE, 1), of those that are live.

    A scan and a search call it with tiles of one shape, so that both sum a memory's score in one order.
    """
    feature = tl.arange(0, DP)
    key = tl.load(keys + slot * D + feature[None, :], mask=live & (feature[None, :] < D), other=0.0)
    if SCORE == DOT:
        found = tl.sum(key * query[None, :], axis=1) * scale
    else:
        out = tl.load(w3 + feature, mask=feature < D, other=0.0)
        found = tl.sum(tanh(key + query[None, :]) * out[None, :], axis=1)
    return found


@triton.jit
def score_bounds(bounds, node, live, query, w3, D, scale, SCORE: tl.constexpr, DP: tl.constexpr):
    """A bound (TILE,) on the scores of the members of some nodes (TILE, 1), of those that are live.

    Every key of a member is turned so that the score rises with it: where the output weight is not positive, its sign
    changes. A node's bounding key is the elementwise maximum. For a dot product the query's sign decides, so a node
    has two bounding keys, that of its members' keys and that of the keys with their signs changed.

    Rounding may bring a computed score above that of the bounding key. Each of the two sums has D products and is off
    by at most D epsilon / 2 of the sum of their sizes, and each tanh by a few epsilon of its weight. The bound has
    more than both added. It is infinite where a member's score may overflow or be NaN.
    """
    EPSILON: tl.constexpr = 2.220446049250313e-16 if query.dtype == tl.float64 else 1.1920928955078125e-07
    NORMAL: tl.constexpr = 2.2250738585072014e-308 if query.dtype == tl.float64 else 1.1754943508222875e-38
    feature = tl.arange(0, DP)
    mask = live & (feature[None, :] < D)
    if SCORE == DOT:
        where = bounds + node * 2 * D + feature[None, :]
        largest = tl.load(where, mask=mask, other=0.0)
        turned = tl.load(where + D, mask=mask, other=0.0)
        weight = tl.abs(query)[None, :]
        found = tl.sum(tl.where(query[None, :] > 0, largest, turned) * weight, axis=1) * scale
        size = tl.sum(tl.maximum(tl.abs(largest), tl.abs(turned)) * weight, axis=1) * scale
    else:
        out = tl.load(w3 + feature, mask=feature < D, other=0.0)
        turned = tl.load(bounds + node * D + feature[None, :], mask=mask, other=0.0)
        against = tl.where(out > 0, query, -query)
        found = tl.sum(tanh(turned + against[None, :]) * tl.abs(out)[None, :], axis=1)
        size = tl.sum(tl.abs(out), axis=0)
    bound = found + (DP + 16) * (EPSILON * size + NORMAL)
    bound = tl.where(bound < float("inf"), bound, float("inf"))
    return tl.where(4.0 * size < float("inf"), bound, float("inf"))


@triton.jit
def widen(bounds, node, feature, key, mask, w3, D, SCORE: tl.constexpr):
    """Raise the bounding keys of nodes to some features of a new member's key; node, feature and key broadcast."""
    if SCORE == DOT:
        raise_to(bounds + node * 2 * D + feature, key, mask)
        raise_to(bounds + node * 2 * D + D + feature, -key, mask)
    else:
        out = tl.load(w3 + feature, mask=feature < D, other=0.0)
        raise_to(bounds + node * D + feature, tl.where(out > 0, key, -key), mask)


@triton.jit
def raise_to(where, key, mask):
    """The larger of what is there and a key; NaN if either is."""
    held = tl.load(where, mask=mask, other=0.0)
    tl.store(where, tl.where((key <= held) | (held != held), held, key), mask=mask)


@triton.jit
def score_backward(
    d_score, place, keys, d_keys, query, w3, values, d_memory, read,
    d_w3, H, D, scale, BACKTRACK: tl.constexpr, SCORE: tl.constexpr, HP: tl.constexpr,
    DP: tl.constexpr,
):  # fmt: skip
    """Credit of scores (KP,) to keys, or to memories where there are none; d_query (DP,), and d_w3 added up."""
    if SCORE == KEYLESS:
        unit = tl.arange(0, HP)
        squashed = tanh(read)
        if BACKTRACK:
            out = tl.load(w3 + H + unit, mask=unit < H, other=0.0)
            where = d_memory + place[:, None].to(tl.int64) * H + unit[None, :]
            there = (place[:, None] >= 0) & (unit[None, :] < H)
            more = d_score[:, None] * out[None, :] * (1.0 - squashed * squashed)
            tl.store(where, tl.load(where, mask=there, other=0.0) + more, mask=there)
        return query, d_w3 + tl.sum(d_score[:, None] * squashed, axis=0)
    feature = tl.arange(0, DP)
    there = (place[:, None] >= 0) & (feature[None, :] < D)
    at = place[:, None].to(tl.int64) * D + feature[None, :]
    key = tl.load(keys + at, mask=there, other=0.0)
    if SCORE == DOT:
        through = tl.where(there, d_score[:, None] * query[None, :] * scale, 0.0)
        d_query = tl.sum(d_score[:, None] * key, axis=0) * scale
    else:
        squashed = tanh(key + query[None, :])
        out = tl.load(w3 + feature, mask=feature < D, other=0.0)
        through = tl.where(there, d_score[:, None] * out[None, :] * (1.0 - squashed * squashed), 0.0)
        d_query = tl.sum(through, axis=0)
        d_w3 += tl.sum(tl.where(there, d_score[:, None] * squashed, 0.0), axis=0)
    tl.store(d_keys + at, tl.load(d_keys + at, mask=there, other=0.0) + through, mask=there)
    return d_query, d_w3
