"""What the Triton kernels are put together from: products, cells and weights of one row at one step.

What a step hands to the whole row goes through global memory, which a block reads back after a barrier. Products with
weights are done a slice of their inner dimension at a time, so that no tile outgrows the registers. Weights may be of
half precision; all else is float32 then, sums among it.

Shapes: H hidden, D score width, M memory slots, K k_top. A width in capitals with a P behind it is padded to a power
of two.

This file imports Triton, and is imported where a kernel is launched and nowhere else.
"""

from __future__ import annotations

import triton
import triton.language as tl

LSTM, GRU, RNN = (tl.constexpr(value) for value in range(3))
THRESHOLD, SOFTMAX, SOFTMAX1 = (tl.constexpr(value) for value in range(3))
EVERY, NEWEST, LISTED = (tl.constexpr(value) for value in range(3))
"""Which memories a row may recall: all, its last ones, or those its list names."""


@triton.jit
def tanh(x):
    """1 - 2 / (1 + e^2x), on the side where e^2x does not overflow."""
    e = tl.exp(-2.0 * tl.abs(x))
    return tl.where(x < 0, -1.0, 1.0) * (1.0 - e) / (1.0 + e)


@triton.jit
def sigmoid(x):
    """1 / (1 + e^-x), by way of tanh."""
    return 0.5 + 0.5 * tanh(0.5 * x)


@triton.jit
def times(weight, vector, rows, inner, ROWS_P: tl.constexpr, SLICE: tl.constexpr):
    """Weight (rows, inner) times a vector in global memory, (ROWS_P,)."""
    row = tl.arange(0, ROWS_P)
    kind = vector.dtype.element_ty
    total = tl.zeros((ROWS_P,), kind)
    for start in range(0, inner, SLICE):
        at = start + tl.arange(0, SLICE)
        tile = tl.load(
            weight + row[:, None] * inner + at[None, :], mask=(row[:, None] < rows) & (at[None, :] < inner), other=0.0
        )
        total += tl.sum(tile.to(kind) * tl.load(vector + at, mask=at < inner, other=0.0)[None, :], axis=1)
    return total


@triton.jit
def times_transposed(weight, vector, rows, columns, COLUMNS_P: tl.constexpr, SLICE: tl.constexpr):
    """A vector (rows,) in global memory times weight (rows, columns), (COLUMNS_P,)."""
    column = tl.arange(0, COLUMNS_P)
    kind = vector.dtype.element_ty
    total = tl.zeros((COLUMNS_P,), kind)
    for start in range(0, rows, SLICE):
        at = start + tl.arange(0, SLICE)
        tile = tl.load(
            weight + at[:, None] * columns + column[None, :],
            mask=(at[:, None] < rows) & (column[None, :] < columns),
            other=0.0,
        )
        total += tl.sum(tile.to(kind) * tl.load(vector + at, mask=at < rows, other=0.0)[:, None], axis=0)
    return total


@triton.jit
def cuts(taken, k_trunc, RELEASE: tl.constexpr):
    """Whether (h, c) is cut before the step after `taken` ones."""
    if RELEASE:
        return (taken + 1) % k_trunc == 0
    return (taken > 0) & (taken % k_trunc == 0)


@triton.jit
def activate(
    gates, H, real, one, two, three, four, h_before, c, CELL: tl.constexpr, forget_scale: tl.constexpr,
):  # fmt: skip
    """One step of the cell at any set of units: h_hat and c. `gates`, the inputs' part, are activated in place.

    `gates` and `h_before` point at each unit's own, its further gates H apart; one to four are what W_hh h adds to
    each gate, as many as the cell has weights for. An LSTM's forget gate is multiplied by `forget_scale`.
    """
    one += tl.load(gates, mask=real, other=0.0)
    if CELL == RNN:
        h_hat = tanh(one)
        tl.debug_barrier()  # a small tile is held by several threads, and one of them stores for all
        tl.store(gates, h_hat, mask=real)
        return h_hat, c
    two += tl.load(gates + H, mask=real, other=0.0)
    third = tl.load(gates + 2 * H, mask=real, other=0.0)
    fourth = tl.load(gates + 3 * H, mask=real, other=0.0)
    tl.debug_barrier()
    if CELL == GRU:
        from_h = three + fourth  # W_hn h has a bias of its own
        r, z = sigmoid(one), sigmoid(two)
        n = tanh(third + r * from_h)
        h_hat = n + z * (tl.load(h_before, mask=real, other=0.0) - n)
        tl.store(gates, r, mask=real)
        tl.store(gates + H, z, mask=real)
        tl.store(gates + 2 * H, n, mask=real)
        tl.store(gates + 3 * H, from_h, mask=real)
        return h_hat, c
    i, f, g, o = sigmoid(one), forget_scale * sigmoid(two), tanh(three + third), sigmoid(four + fourth)
    c = f * c + i * g
    tl.store(gates, i, mask=real)
    tl.store(gates + H, f, mask=real)
    tl.store(gates + 2 * H, g, mask=real)
    tl.store(gates + 3 * H, o, mask=real)
    return o * tanh(c), c


@triton.jit
def cell_forward(
    gates, weight_hh, h_before, c, H,
    CELL: tl.constexpr, forget_scale: tl.constexpr, HP: tl.constexpr, SLICE: tl.constexpr,
):  # fmt: skip
    """One step of the cell of a whole row: h_hat and c, (HP,) each; `gates` are activated in place."""
    unit = tl.arange(0, HP)
    one = times(weight_hh, h_before, H, H, HP, SLICE)
    two, three, four = one, one, one
    if CELL != RNN:
        two = times(weight_hh + H * H, h_before, H, H, HP, SLICE)
        three = times(weight_hh + 2 * H * H, h_before, H, H, HP, SLICE)
    if CELL == LSTM:
        four = times(weight_hh + 3 * H * H, h_before, H, H, HP, SLICE)
    return activate(gates + unit, H, unit < H, one, two, three, four, h_before + unit, c, CELL, forget_scale)


@triton.jit
def cell_backward(
    gates, d_gates, h_before, c_before, c_now, H, real, d_hat, d_c, CELL: tl.constexpr, forget_scale: tl.constexpr,
):  # fmt: skip
    """One step of the cell back at any set of units, at which all pointers point.

    The gates' credit goes to global memory. Returns d_c of the step before, d_h that passes no gate, and the credit
    of what W_hh h adds to each gate, as many as the cell has weights for.
    """
    one = tl.load(gates, mask=real, other=0.0)
    if CELL == RNN:
        d_one = d_hat * (1.0 - one * one)
        tl.store(d_gates, d_one, mask=real)
        return d_c, d_hat * 0.0, d_one, d_one, d_one, d_one
    two = tl.load(gates + H, mask=real, other=0.0)
    three = tl.load(gates + 2 * H, mask=real, other=0.0)
    four = tl.load(gates + 3 * H, mask=real, other=0.0)
    if CELL == GRU:
        d_n = d_hat * (1.0 - two) * (1.0 - three * three)
        before = tl.load(h_before, mask=real, other=0.0)
        d_r = d_n * four * (one - one * one)
        d_z = d_hat * (before - three) * (two - two * two)
        tl.store(d_gates, d_r, mask=real)
        tl.store(d_gates + H, d_z, mask=real)
        tl.store(d_gates + 2 * H, d_n, mask=real)
        tl.store(d_gates + 3 * H, d_n * one, mask=real)
        return d_c, d_hat * two, d_r, d_z, d_n * one, d_n * 0.0
    squashed = tanh(tl.load(c_now, mask=real, other=0.0))
    d_c += d_hat * four * (1.0 - squashed * squashed)
    before = tl.load(c_before, mask=real, other=0.0)
    d_i = d_c * three * (one - one * one)
    d_f = d_c * before * (two - two * two / forget_scale)
    d_g = d_c * one * (1.0 - three * three)
    d_o = d_hat * squashed * (four - four * four)
    tl.store(d_gates, d_i, mask=real)
    tl.store(d_gates + H, d_f, mask=real)
    tl.store(d_gates + 2 * H, d_g, mask=real)
    tl.store(d_gates + 3 * H, d_o, mask=real)
    return d_c * two, d_hat * 0.0, d_i, d_f, d_g, d_o


@triton.jit
def slots_at(place, there, listed, first, ALIVE: tl.constexpr):
    """The slots of the memories at places among those alive, which are counted from the oldest; -1 where none."""
    if ALIVE == LISTED:
        return tl.load(listed + place, mask=there, other=-1)
    return tl.where(there, first + place, -1).to(tl.int32)


@triton.jit
def admit(listed, received, filled, capacity, CHUNK: tl.constexpr):
    """Put slot `filled` at the end of the list; where that is full, the least recalled goes, of equals the oldest.

    `listed` (capacity,) and `received` (M,) are of one row. A chunk is read whole before it moves up one place, and
    the next one starts where it ends. Returns the slot of the memory that goes, -1 where none does.
    """
    alive = tl.minimum(filled, capacity)
    gone = tl.full((), -1, tl.int32)
    if alive == capacity:
        least = tl.full((), float("inf"), received.dtype.element_ty)
        victim = tl.full((), 0, tl.int32)
        for start in range(0, capacity, CHUNK):
            place = start + tl.arange(0, CHUNK)
            slot = tl.load(listed + place, mask=place < capacity, other=0)
            got = tl.load(received + slot, mask=place < capacity, other=float("inf"))
            here = tl.min(got, axis=0)
            at = (start + tl.argmin(got, axis=0, tie_break_left=True)).to(tl.int32)
            victim = tl.where(here < least, at, victim)
            least = tl.where(here < least, here, least)
        gone = tl.load(listed + victim)
        tl.debug_barrier()
        for start in range(0, capacity, CHUNK):
            place = start + tl.arange(0, CHUNK)
            moves = (place >= victim) & (place + 1 < capacity)
            behind = tl.load(listed + place + 1, mask=moves, other=0)
            tl.debug_barrier()
            tl.store(listed + place, behind, mask=moves)
        alive -= 1
    tl.debug_barrier()
    tl.store(listed + alive, filled.to(tl.int32))
    return gone


@triton.jit
def largest(numbers, begin, end, CHUNK: tl.constexpr):
    """The largest of the numbers from one place to before another, and its place, of equals the first."""
    best = tl.full((), float("-inf"), numbers.dtype.element_ty)
    at = tl.full((), 0, tl.int32)
    for start in range(begin, end, CHUNK):
        place = start + tl.arange(0, CHUNK)
        some = tl.load(numbers + place, mask=place < end, other=float("-inf"))
        here = tl.max(some, axis=0)
        first = (start + tl.argmax(some, axis=0, tie_break_left=True)).to(tl.int32)
        at = tl.where(here > best, first, at)
        best = tl.where(here > best, here, best)
    return best, at


@triton.jit
def best_scores(scores, alive, ranks, KP: tl.constexpr, MP: tl.constexpr, CHUNK: tl.constexpr):
    """The best scores and their places, largest first, of equals the oldest, (KP,) each; place -1 where none.

    Up to CHUNK scores are held in registers; more are read again for each rank, and what was taken is overwritten.
    """
    rank = tl.arange(0, KP)
    value = tl.full((KP,), float("-inf"), scores.dtype.element_ty)
    place = tl.full((KP,), -1, tl.int32)
    if MP <= CHUNK:
        slot = tl.arange(0, MP)
        left = tl.load(scores + slot, mask=slot < alive, other=float("-inf"))
        for k in range(0, tl.minimum(ranks, alive)):
            at = tl.argmax(left, axis=0, tie_break_left=True)
            value = tl.where(rank == k, tl.max(left, axis=0), value)
            place = tl.where(rank == k, at.to(tl.int32), place)
            left = tl.where(slot == at, float("-inf"), left)
    else:
        for k in range(0, tl.minimum(ranks, alive)):
            best, at = largest(scores, 0, alive, CHUNK)
            value = tl.where(rank == k, best, value)
            place = tl.where(rank == k, at, place)
            tl.debug_barrier()
            tl.store(scores + at, float("-inf"))
            tl.debug_barrier()
    return value, place


@triton.jit
def weigh(value, place, alive, k_top, NORMALIZER: tl.constexpr, RELEASE: tl.constexpr, KP: tl.constexpr):
    """Weights (KP,), their slots, the slot that set the threshold, and what the weights were multiplied by.

    That is 0 where nothing is recalled, and -1 where raw scores are the weights: by the release's rule, of `alive`
    memories that are k_top or fewer.
    """
    rank = tl.arange(0, KP)
    there = place >= 0
    count = tl.sum(there.to(tl.int32), axis=0)
    if NORMALIZER == THRESHOLD:
        if RELEASE:  # the memory behind the k_top best only tells that there are more
            count = tl.minimum(count, k_top)
        last = tl.min(tl.where(there & (rank < count), value, float("inf")), axis=0)
        edge = tl.sum(tl.where(rank == count - 1, place, 0), axis=0)
        if RELEASE:
            last += 1e-7
        excess = tl.where(there & (value > last), value - last, 0.0)
        total = tl.sum(excess, axis=0)
        divisor = tl.where(total > 0, total, 1.0)
        if RELEASE:
            divisor += 1e-7
        inverse = tl.where(total > 0, 1.0 / divisor, 0.0)
        weight = excess / divisor  # whose inverse may overflow
        slot = tl.where(weight > 0, place, -1)
        edge = tl.where(total > 0, edge, -1)
        if RELEASE:
            raw = alive <= k_top
            weight = tl.where(raw, tl.where(there, value, 0.0), weight)
            slot = tl.where(raw, place, slot)
            edge = tl.where(raw, -1, edge)
            inverse = tl.where(raw, -1.0, inverse)
        return weight, slot, edge, inverse
    first = tl.max(value, axis=0)
    if NORMALIZER == SOFTMAX1:
        first = tl.maximum(first, 0.0)
    power = tl.where(there, tl.exp(value - first), 0.0)
    total = tl.sum(power, axis=0)
    if NORMALIZER == SOFTMAX1:
        total += tl.exp(-first)
    return power / total, place, tl.sum(tl.zeros((KP,), tl.int32), axis=0) - 1, total * 0 + 1.0
