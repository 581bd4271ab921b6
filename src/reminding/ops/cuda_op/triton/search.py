"""The best of a row's memories: by a scan, or by a search that passes over most of them.

FAN neighbouring slots are a block, and FAN neighbouring blocks are a span. Blocks and spans, the nodes, have bounds
on their members' scores (`scores.score_bounds`). A search computes the bounds of all spans, and then takes the node
with the largest bound, again and again: of a span it computes the bounds of its blocks, of a block its members'
scores. Once the largest bound is below the worst score that ranks, the ranking is complete. It is exactly that of a
scan: a score is computed by the same code, and of equal scores the older memory ranks first.

Of a row, nodes are kept spans first, then blocks: `bounds` (nodes, D), or (nodes, 2 D) for a dot product; `left`
(nodes,), scratch, the largest bound of what a search has yet to look at in a node. Where evictions leave gaps,
`members` (nodes + M,) counts the memories alive in each node and slot.

Shapes: H hidden, D score width, M memory slots, K k_top. A width in capitals with a P behind it is padded to a power
of two.

This file imports Triton, and is imported where a kernel is launched and nowhere else.
"""

from __future__ import annotations

import triton
import triton.language as tl

from reminding.ops.cuda_op.triton.device import LISTED, best_scores, largest, slots_at
from reminding.ops.cuda_op.triton.scores import keyed_scores, score_bounds, score_memories

AUTO, SCAN, TREE = (tl.constexpr(value) for value in range(3))
"""How memories are found, by the codes of `contract.SEARCH`."""
NEVER = tl.constexpr(2**31 - 1)
"""More nodes than a search opens."""
PATIENT = tl.constexpr(16)
"""A search by "auto" gives up once it has opened one node for this many blocks that are alive: opening one costs
about as much as the scores of a dozen blocks in a scan, by estimate."""
LONGEST_PAUSE = tl.constexpr(128)
"""Steps after which a search by "auto" is tried again at the latest."""


@triton.jit
def find(
    keys, query, offset, w3, values, scores, listed, bounds, left, members, patience, filled, H, D, most, ranks,
    spans, blocks, scale, SCORE: tl.constexpr, ALIVE: tl.constexpr, SEARCH: tl.constexpr, HP: tl.constexpr,
    DP: tl.constexpr, KP: tl.constexpr, MP: tl.constexpr, SLICE: tl.constexpr, CHUNK: tl.constexpr,
    FAN: tl.constexpr, WIDE: tl.constexpr, LEAST: tl.constexpr,
):  # fmt: skip
    """The best scores of a row's memories and their slots, largest first, of equals the oldest, (KP,) each.

    The slot is -1 where none. `patience` (2,) is the row's under "auto": the steps until a search is tried again, and
    how many they were after the last one that gave up.
    """
    alive = tl.minimum(filled, most)
    first = filled - alive
    if SEARCH == SCAN:
        return scan(
            keys, query, offset, w3, values, scores, listed, first, alive, H, D, ranks, scale, SCORE, ALIVE, HP, DP,
            KP, MP, SLICE, CHUNK,
        )  # fmt: skip
    value = tl.full((KP,), float("-inf"), query.dtype)
    slot = tl.full((KP,), -1, tl.int32)
    complete = tl.full((), 0, tl.int32)
    tries = alive > 0
    limit = tl.full((), NEVER, tl.int32)
    if SEARCH == AUTO:
        wait = tl.load(patience)
        pause = tl.load(patience + 1)
        tries = (alive >= LEAST) & (wait == 0)
        limit = (alive // (FAN * PATIENT)).to(tl.int32)
    if tries:
        value, slot, complete = search(
            keys, query, w3, bounds, left, members, first, filled, D, ranks, limit, spans, blocks, scale, SCORE,
            ALIVE, DP, KP, SLICE, FAN, WIDE,
        )  # fmt: skip
    if SEARCH == AUTO:
        longer = tl.where(pause < LONGEST_PAUSE, 2 * pause + 1, pause)
        pause = tl.where(tries, tl.where(complete > 0, 0, longer), pause)
        tl.debug_barrier()
        tl.store(patience, tl.where(tries, pause, tl.maximum(wait - 1, 0)))
        tl.store(patience + 1, pause)
    if complete == 0:
        value, slot = scan(
            keys, query, offset, w3, values, scores, listed, first, alive, H, D, ranks, scale, SCORE, ALIVE, HP, DP,
            KP, MP, SLICE, CHUNK,
        )  # fmt: skip
    return value, slot


@triton.jit
def scan(
    keys, query, offset, w3, values, scores, listed, first, alive, H, D, ranks, scale, SCORE: tl.constexpr,
    ALIVE: tl.constexpr, HP: tl.constexpr, DP: tl.constexpr, KP: tl.constexpr, MP: tl.constexpr,
    SLICE: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """What `find` returns, by scoring all memories alive."""
    score_memories(
        keys, query, w3, values, listed, first, alive, scores, H, D, scale, offset, SCORE, ALIVE, HP, DP, SLICE
    )
    tl.debug_barrier()
    value, place = best_scores(scores, alive, ranks, KP, MP, CHUNK)
    return value, slots_at(place, place >= 0, listed, first, ALIVE)


@triton.jit
def search(
    keys, query, w3, bounds, left, members, first, filled, D, ranks, limit, spans, blocks, scale,
    SCORE: tl.constexpr, ALIVE: tl.constexpr, DP: tl.constexpr, KP: tl.constexpr, TILE: tl.constexpr,
    FAN: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """What `find` returns, and whether the ranking is complete: 0 after `limit` nodes, or if a bound is not finite.

    A NaN has no place in an order, and where a score may overflow, so may the bound. A scan then finds the best.
    """
    alive = filled - first
    if ALIVE == LISTED:
        first *= 0  # `members` tells which are gone
    rank = tl.arange(0, KP)
    value = tl.where(rank < ranks, float("-inf"), float("inf")).to(query.dtype)
    slot = NEVER - rank
    begin = first // (FAN * FAN)
    end = (filled + FAN * FAN - 1) // (FAN * FAN)
    unbounded = tl.sum((tl.abs(query) < float("inf")).to(tl.int32), axis=0) < DP
    for start in range(begin, end, TILE):
        span = start + tl.arange(0, TILE)
        live = span < end
        if ALIVE == LISTED:
            live = live & (tl.load(members + span, mask=live, other=0) > 0)
        bound = score_bounds(bounds, span[:, None].to(tl.int64), live[:, None], query, w3, D, scale, SCORE, DP)
        odd = live & ((bound < float("inf")) == 0)
        unbounded = unbounded | (tl.sum(odd.to(tl.int32), axis=0) > 0)
        tl.store(left + span, tl.where(live, bound, float("-inf")), mask=span < end)
        tl.store(left + spans + span * FAN, float("inf"), mask=span < end)  # not yet opened
    tl.debug_barrier()
    looks = tl.full((), 0, tl.int32)
    top, span = largest(left, begin, end, WIDE)
    goes = (top > float("-inf")) & (unbounded == 0)
    while goes & (looks < limit):
        block = span * FAN + tl.arange(0, FAN)
        bound = tl.load(left + spans + block, mask=block < blocks, other=float("-inf"))
        opened = tl.max(bound, axis=0) < float("inf")
        tl.debug_barrier()  # a small tile is held by several threads, some of which may still have to read it
        if opened:
            best = span * FAN + tl.argmax(bound, axis=0, tie_break_left=True).to(tl.int32)
            tl.store(left + spans + best, float("-inf"))
            rest = tl.max(tl.where(block == best, float("-inf"), bound), axis=0)
            value, slot = rank_block(
                keys, query, w3, members + spans + blocks, best, first, filled, value, slot, D, scale, SCORE, ALIVE,
                DP, TILE, FAN,
            )  # fmt: skip
        else:
            rest = open_span(
                bounds, query, w3, left, members, span, first, filled, D, spans, blocks, scale, SCORE, ALIVE, DP,
                TILE, FAN,
            )  # fmt: skip
        tl.store(left + span, rest)
        tl.debug_barrier()
        looks += 1
        top, span = largest(left, begin, end, WIDE)
        goes = (top > float("-inf")) & (top >= tl.min(value, axis=0))
    value, slot = in_order(value, slot, tl.minimum(ranks, alive), ranks, KP)
    return value, slot, ((goes == 0) & (unbounded == 0)).to(tl.int32)


@triton.jit
def open_span(
    bounds, query, w3, left, members, span, first, filled, D, spans, blocks, scale, SCORE: tl.constexpr,
    ALIVE: tl.constexpr, DP: tl.constexpr, TILE: tl.constexpr, FAN: tl.constexpr,
):  # fmt: skip
    """The bounds of a span's blocks, to `left`; returns the largest."""
    rest = tl.full((), float("-inf"), query.dtype)
    for start in range(0, FAN, TILE):
        block = span * FAN + start + tl.arange(0, TILE)
        live = (block >= first // FAN) & (block * FAN < filled)
        if ALIVE == LISTED:
            live = live & (tl.load(members + spans + block, mask=live, other=0) > 0)
        node = (spans + block)[:, None].to(tl.int64)
        bound = score_bounds(bounds, node, live[:, None], query, w3, D, scale, SCORE, DP)
        bound = tl.where(live, bound, float("-inf"))
        tl.store(left + spans + block, bound, mask=block < blocks)
        rest = tl.maximum(rest, tl.max(bound, axis=0))
    return rest


@triton.jit
def rank_block(
    keys, query, w3, alive, block, first, filled, value, slot, D, scale, SCORE: tl.constexpr, ALIVE: tl.constexpr,
    DP: tl.constexpr, TILE: tl.constexpr, FAN: tl.constexpr,
):  # fmt: skip
    """Rank the members of a block among the best scores so far; `alive` (M,) counts the memories in each slot."""
    for start in range(0, FAN, TILE):
        at = block * FAN + start + tl.arange(0, TILE)
        live = (at >= first) & (at < filled)
        if ALIVE == LISTED:
            live = live & (tl.load(alive + at, mask=live, other=0) > 0)
        found = keyed_scores(keys, at[:, None].to(tl.int64), live[:, None], query, w3, D, scale, SCORE, DP)
        value, slot = insert(tl.where(live, found, float("-inf")), at, value, slot)
    return value, slot


@triton.jit
def insert(found, at, value, slot):
    """Put scores of some slots in the places of the worst of the best so far, as long as they rank before those."""
    best = tl.max(found, axis=0)
    taken = tl.min(tl.where(found == best, at, NEVER), axis=0)
    worst = tl.min(value, axis=0)
    last = tl.max(tl.where(value == worst, slot, -1), axis=0)
    while (best > float("-inf")) & ((best > worst) | ((best == worst) & (taken < last))):
        value = tl.where(slot == last, best, value)
        slot = tl.where(slot == last, taken, slot)
        found = tl.where(at == taken, float("-inf"), found)
        best = tl.max(found, axis=0)
        taken = tl.min(tl.where(found == best, at, NEVER), axis=0)
        worst = tl.min(value, axis=0)
        last = tl.max(tl.where(value == worst, slot, -1), axis=0)
    return value, slot


@triton.jit
def in_order(value, slot, count, ranks, KP: tl.constexpr):
    """The best scores and their slots, `count` of them, largest first, of equals the oldest; slot -1 behind them."""
    rank = tl.arange(0, KP)
    left = tl.where(rank < ranks, value, float("-inf"))
    ordered = tl.full((KP,), float("-inf"), value.dtype)
    place = tl.full((KP,), -1, tl.int32)
    for k in range(0, count):
        best = tl.max(left, axis=0)
        taken = tl.min(tl.where(left == best, slot, NEVER), axis=0)
        ordered = tl.where(rank == k, best, ordered)
        place = tl.where(rank == k, taken, place)
        left = tl.where(slot == taken, float("-inf"), left)
    return ordered, place


@triton.jit
def count_members(members, slot, more, spans, blocks, FAN: tl.constexpr):
    """Count a memory that is stored in a slot, or with -1 one that is evicted from it, in all nodes that hold it."""
    count_one(members + slot // (FAN * FAN), more)
    count_one(members + spans + slot // FAN, more)
    count_one(members + spans + blocks + slot, more)


@triton.jit
def count_one(where, more):
    """Add to a count."""
    count = tl.load(where) + more
    tl.debug_barrier()
    tl.store(where, count)
