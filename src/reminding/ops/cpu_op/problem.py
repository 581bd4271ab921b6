"""What both passes of the CPU op share: its rule, its sizes, and the weights in the form its loops read.

Shapes: B batch, T time, I input, H hidden, G gate width, D score width, M memory slots, K k_top, N live (step, row)
pairs, S memories that any live step scored.
"""

from __future__ import annotations

import functools
import struct
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

CELLS = {"lstm": 0, "gru": 1, "rnn": 2}
SCORES = {"additive": 0, "dot": 1, "separable": 2}
NORMALIZERS = {"threshold": 0, "softmax": 1, "softmax1": 2}
SEMANTICS = {"paper": 0, "release": 1}
EVICT = {"fifo": 0, "least_recalled": 1}
KEEP_NOTHING, KEEP_GATES, KEEP_REPLAY = 0, 1, 2

# Rows are worked through in this many groups, so that what only one group needs is small beside what is kept.
_GROUPS = 8
_SMALLEST_GROUP = 4096  # (step, row) pairs; smaller groups would make the large products small


@functools.cache
def missing() -> str | None:
    """Why the compiled part cannot be used here, or None once it is loaded."""
    found = next(iter(sorted(Path(__file__).parents[1].glob("_sab_cpu*.so"))), None)
    if found is None:
        return "the C++ op was not built when reminding was installed (it takes a C++ compiler and PyTorch 2.10)"
    try:
        torch.ops.load_library(str(found))
    except OSError as error:
        return f"the C++ op {found.name} cannot be loaded: {str(error).splitlines()[0]}"
    return None


def raw() -> Any:
    """The loops of csrc/ops.cpp."""
    return torch.ops.reminding_cpu


class Rule(NamedTuple):
    """The numbers the C++ side reads, in its order (problem.h)."""

    cell: int
    score: int
    normalizer: int
    semantics: int
    k_top: int
    k_att: int
    k_trunc: int
    backtrack: int
    capacity: int  # 0: no limit
    evict: int
    recall_scale: int  # the bits of a float64
    forget_scale: int  # as well

    @property
    def bounded(self) -> bool:
        """Whether memories may have to go."""
        return self.capacity > 0 and self.k_top > 0

    @property
    def has_keys(self) -> bool:
        """Whether the score projects memories and queries."""
        return self.k_top > 0 and self.score != SCORES["separable"]

    @property
    def has_c(self) -> bool:
        """Whether the cell has a c beside its h."""
        return self.cell == CELLS["lstm"]


def bits_of(number: float) -> int:
    """A float64 as the integer that has its bits."""
    return struct.unpack("q", struct.pack("d", number))[0]


def number_of(bits: int) -> float:
    """The float64 that has an integer's bits."""
    return struct.unpack("d", struct.pack("q", bits))[0]


def slots_for(memory0: Tensor, T: int, rule: Rule) -> int:
    """Room for memories. ceil: without knowing step0, T steps may store that often."""
    return memory0.shape[1] + (-(-T // rule.k_att) if rule.k_top > 0 else 0)


def cuts_in(T: int, rule: Rule) -> int:
    """The most cuts that T steps can hold."""
    return -(-T // rule.k_trunc) if rule.k_trunc else 0


def milestones_in(T: int, milestones: list[int]) -> int:
    """How many of T steps t have (t - offset) % stride == 0; none where [stride, offset] is []."""
    return len(range(milestones[1], T, milestones[0])) if milestones else 0


def row_groups(B: int, T: int) -> list[tuple[int, int]]:
    """Row ranges to work through one after the other."""
    rows = max(-(-B // _GROUPS), min(B, -(-_SMALLEST_GROUP // max(T, 1))), 1)
    return [(first, min(first + rows, B)) for first in range(0, B, rows)]


def gate_width(H: int, rule: Rule) -> int:
    """G, the width of a step's gates; the GRU keeps W_hn h + b_hn as its fourth."""
    return H if rule.cell == CELLS["rnn"] else 4 * H


def joint_bias(bias_ih: Tensor | None, bias_hh: Tensor | None, weight_hh: Tensor, rule: Rule) -> Tensor:
    """What is added to the projected input; the GRU's b_hn waits in its fourth gate column instead. (G,)"""
    H = weight_hh.shape[1]
    bias = weight_hh.new_zeros(gate_width(H, rule))
    if bias_ih is not None:
        bias[: bias_ih.shape[0]] += bias_ih
    if bias_hh is not None and rule.cell == CELLS["gru"]:
        bias[: 2 * H] += bias_hh[: 2 * H]
        bias[3 * H :] = bias_hh[2 * H :]
    elif bias_hh is not None:
        bias += bias_hh
    return bias


def split_bias(d_bias: Tensor, rule: Rule) -> tuple[Tensor, Tensor]:
    """The gradients of bias_ih and bias_hh, from that of `joint_bias`, (G,)."""
    if rule.cell != CELLS["gru"]:
        return d_bias, d_bias
    H = len(d_bias) // 4
    return d_bias[: 3 * H], torch.cat([d_bias[: 2 * H], d_bias[3 * H :]])


def project(x: Tensor, weight_ih: Tensor, bias: Tensor, out: Tensor) -> None:
    """Out (n, G) <- x weight_ih^T + bias, for x (n, I)."""
    width = weight_ih.shape[0]
    torch.addmm(bias[:width], x, weight_ih.t(), out=out[:, :width])
    if out.shape[1] > width:
        out[:, width:] = bias[width:]


def pack(
    weight_ih: Tensor | None, weight_hh: Tensor, w1: Tensor | None, w2: Tensor | None, rule: Rule, transpose: bool
) -> list[Tensor | None]:
    """weight_ih, weight_hh, W1 and W2 in the form the loops read; None for those that are None."""
    weight_hh = weight_hh.contiguous()
    if rule.cell == CELLS["gru"]:  # two products, for r and z and for n, one packed tensor behind the other
        H = weight_hh.shape[1]
        hidden = torch.cat([raw().pack(part, transpose) for part in (weight_hh[: 2 * H], weight_hh[2 * H :])])
    else:
        hidden = raw().pack(weight_hh, transpose)
    first, *scorer = (raw().pack(w.contiguous(), transpose) if w is not None else None for w in (weight_ih, w1, w2))
    return [first, hidden, *scorer]
