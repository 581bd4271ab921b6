"""What both passes of the CPU op share: its C++ loops, sizes, and the weights in the form that its loops read.

Shapes: B batch, T time, I input, H hidden, G gate width, D score width, M memory slots, K k_top, N live (step, row)
pairs, S memories that any live step scored.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from reminding.ops.contract import CELLS, OpRule

KEEP_NOTHING, KEEP_GATES, KEEP_REPLAY = 0, 1, 2

# Rows are worked through in this many groups, so that what only one group needs is small beside what is kept.
_GROUPS = 8
_SMALLEST_GROUP = 4096  # (step, row) pairs; smaller groups would make the large products small


class Given(NamedTuple):
    """The inputs of a pass, except its weights."""

    x: Tensor  # (T, B, I)
    h0: Tensor  # (B, H)
    c0: Tensor  # (B, H), (B, 0) unless LSTM
    memory0: Tensor  # (B, M0, H)
    count0: Tensor  # (B,) int64
    step0: Tensor  # (B,) int64
    lengths: Tensor | None = None  # (B,) int64: how many of the steps each row has; None: all
    factor: Tensor | None = None  # (B, H), of past steps (T, B, H): see `LayerInput`


def whole(given: Given) -> Given:
    """The same as contiguous tensors."""
    return Given(*(cast("Any", None if tensor is None else tensor.contiguous()) for tensor in given))


def given_of(given: Given, score: Tensor | None) -> list[Tensor | None]:
    """What the C++ side reads of a pass's inputs, with w3 among them."""
    return [given.x, given.h0, given.c0, given.step0, given.count0, score, given.lengths, given.factor]


class Weights(NamedTuple):
    """The parameters of cell and score; None for biases left out and for what the score does not have.

    w3 holds all of a recall but W1 and W2, see `scorer_parts`.
    """

    weight_ih: Tensor | None
    weight_hh: Tensor | None
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    w1: Tensor | None
    w2: Tensor | None
    w3: Tensor | None


class Record(NamedTuple):
    """What a forward pass saves for the backward pass."""

    output: Tensor  # (T, B, H)
    summary: Tensor  # (T, B, H)
    memory: Tensor  # (B, M, H)
    slots: Tensor  # (T, B, K) int32
    edge: Tensor  # (T, B) int32
    weights: Tensor  # (T, B, K)
    inverse: Tensor  # (T, B)


class Saved(NamedTuple):
    """What is kept of each step where gates are not made again; of no use where they are, but for entering_c."""

    gates: Tensor
    cells: Tensor
    queries: Tensor
    keys: Tensor
    entering_c: Tensor  # c at the cuts, for a replay


class Kept(NamedTuple):
    """What is kept of the steps of a pass: of all of them, or of those of past calls that were run again.

    These have numbers, N of them, and so have the memories that they read, S of them.
    """

    gates: Tensor  # (B, T, G) or (N, G), activated
    cells: Tensor  # (B, T, H) or (N, H): c of every step
    queries: Tensor  # (B, T, D) or (N, D)
    keys: Tensor  # (B, M, D) or (S, D)
    pair: Tensor | None = None  # (T, B) int32: the number of each step, -1 where there is none
    slot: Tensor | None = None  # (B, M) int32: the number of each memory, -1 for others


class Arriving(NamedTuple):
    """The gradients that arrive at the results of a pass, None where none."""

    output: Tensor | None  # (T, B, H)
    summary: Tensor | None  # (T, B, H)
    c_last: Tensor | None  # (B, H)
    memory: Tensor | None  # (B, M, H)
    c: Tensor | None = None  # (T, B, H), of c after each step; of past calls only


class Gradients(NamedTuple):
    """The gradient of each input of a pass; empty where there is none."""

    x: Tensor
    h0: Tensor
    c0: Tensor
    memory0: Tensor
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor
    w1: Tensor
    w2: Tensor
    w3: Tensor


def needed(tensor: Tensor | None) -> Tensor:
    """A weight that the score or the cell has."""
    assert tensor is not None, "only the biases, and what the score has not, may be left out"
    return tensor


def products_of(weights: Weights) -> list[Tensor | None]:
    """The weights of products, as the C++ side reads them: weight_ih, weight_hh, w1, w2."""
    given = (weights.weight_ih, weights.weight_hh, weights.w1, weights.w2)
    return [None if weight is None else weight.contiguous() for weight in given]


def raw() -> Any:
    """The operators of csrc/ops.cpp."""
    return torch.ops.reminding_cpu


def cuts_in(T: int, rule: OpRule) -> int:
    """The most cuts that T steps can hold."""
    return -(-T // rule.k_trunc) if rule.k_trunc else 0


def milestones_in(T: int, milestones: list[int]) -> int:
    """How many of T steps t have (t - offset) % stride == 0; none where [stride, offset] is []."""
    return len(range(milestones[1], T, milestones[0])) if milestones else 0


def row_groups(B: int, T: int) -> list[tuple[int, int]]:
    """Row ranges to work through one after the other."""
    rows = max(-(-B // _GROUPS), min(B, -(-_SMALLEST_GROUP // max(T, 1))), 1)
    return [(first, min(first + rows, B)) for first in range(0, B, rows)]


def project(x: Tensor, weight_ih: Tensor, bias: Tensor, out: Tensor) -> None:
    """Out (n, G) <- x weight_ih^T + bias, for x (n, I)."""
    width = weight_ih.shape[0]
    torch.addmm(bias[:width], x, weight_ih.t(), out=out[:, :width])
    if out.shape[1] > width:
        out[:, width:] = bias[width:]


def pack(
    weight_ih: Tensor | None, weight_hh: Tensor, w1: Tensor | None, w2: Tensor | None, rule: OpRule, transpose: bool
) -> list[Tensor | None]:
    """weight_ih, weight_hh, W1 and W2 in the form the loops read; None for those that are None."""
    given = (weight_ih, weight_hh, w1, w2)
    whole = [weight.contiguous() for weight in given if weight is not None]
    if rule.cell != CELLS["gru"]:
        packed = iter(raw().pack(whole, transpose))
        return [None if weight is None else next(packed) for weight in given]
    H, at = weight_hh.shape[1], int(weight_ih is not None)
    # Of the hidden weight two products, for r and z and for n, one behind the other.
    parts = raw().pack([*whole[:at], whole[at][: 2 * H], whole[at][2 * H :], *whole[at + 1 :]], transpose)
    packed = iter([*parts[:at], torch.cat(parts[at : at + 2]), *parts[at + 2 :]])
    return [None if weight is None else next(packed) for weight in given]
