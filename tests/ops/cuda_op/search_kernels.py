"""Kernels that run a part of the search of the best memories for one row, for tests. Needs Triton.

Shapes: M memory slots, D score width.
"""

from __future__ import annotations

import triton
import triton.language as tl

from reminding.ops.cuda_op.triton.scores import keyed_scores, score_bounds, widen
from reminding.ops.cuda_op.triton.search import find


@triton.jit
def find_kernel(
    keys, query, w3, scores, listed, bounds, left, members, patience, filled, value, slot,
    D, most, ranks, spans, blocks,
    scale: tl.constexpr, SCORE: tl.constexpr, ALIVE: tl.constexpr, SEARCH: tl.constexpr, DP: tl.constexpr,
    KP: tl.constexpr, MP: tl.constexpr, SLICE: tl.constexpr, CHUNK: tl.constexpr, FAN: tl.constexpr,
    WIDE: tl.constexpr, LEAST: tl.constexpr,
):  # fmt: skip
    """The best memories of a row, of which `filled` (1,) slots are filled: `value` and `slot`, (KP,) each."""
    feature = tl.arange(0, DP)
    held = tl.load(query + feature, mask=feature < D, other=0.0)
    found, place = find(
        keys, held, 0.0, w3, keys, scores, listed, bounds, left, members, patience, tl.load(filled), D, D, most,
        ranks, spans, blocks, scale, SCORE, ALIVE, SEARCH, DP, DP, KP, MP, SLICE, CHUNK, FAN, WIDE, LEAST,
    )  # fmt: skip
    tl.store(value + tl.arange(0, KP), found)
    tl.store(slot + tl.arange(0, KP), place)


@triton.jit
def bounds_kernel(
    keys, query, w3, bounds, scores, bound, M, nodes, D,
    scale: tl.constexpr, SCORE: tl.constexpr, DP: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Every memory's score (M,), and every node's bound (nodes,)."""
    feature = tl.arange(0, DP)
    held = tl.load(query + feature, mask=feature < D, other=0.0)
    for start in range(0, M, TILE):
        at = start + tl.arange(0, TILE)
        found = keyed_scores(keys, at[:, None], (at < M)[:, None], held, w3, D, scale, SCORE, DP)
        tl.store(scores + at, found, mask=at < M)
    for start in range(0, nodes, TILE):
        at = start + tl.arange(0, TILE)
        found = score_bounds(bounds, at[:, None], (at < nodes)[:, None], held, w3, D, scale, SCORE, DP)
        tl.store(bound + at, found, mask=at < nodes)


@triton.jit
def widen_kernel(
    keys, w3, bounds, M, spans, D, SCORE: tl.constexpr, DP: tl.constexpr, FAN: tl.constexpr,
):  # fmt: skip
    """Store the keys of memories, one after the other, in the nodes that hold them."""
    feature = tl.arange(0, DP)
    for slot in range(0, M):
        key = tl.load(keys + slot * D + feature, mask=feature < D, other=0.0)
        widen(bounds, slot // (FAN * FAN), feature, key, feature < D, w3, D, SCORE)
        widen(bounds, spans + slot // FAN, feature, key, feature < D, w3, D, SCORE)
        tl.debug_barrier()
