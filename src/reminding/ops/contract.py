"""The contract of an op: its arguments and results, for every backend.

An op runs all time steps of one SAB layer in one call, and differentiates them exactly. Rules are numbers here, since
C++ and Triton read them.

Shapes: B batch, T time, I input, H hidden, G gate width, D score width, M memory slots, K k_top, E entering states.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reminding.ops.scores import SCORES, Score, score_of

CELLS = {"lstm": 0, "gru": 1, "rnn": 2}
NORMALIZERS = {"threshold": 0, "softmax": 1, "softmax1": 2}
SEMANTICS = {"paper": 0, "release": 1}
EVICT = {"fifo": 0, "least_recalled": 1}
SEARCH = {"auto": 0, "scan": 1, "tree": 2}
STORED = {"h": 0, "proposal": 1}
"""What goes to memory: the state, or what the cell proposed before the summary was added."""
LARGEST_K_TOP = 2**20
"""The largest k_top: every step has room for so many recalled memories."""


class OpRule(NamedTuple):
    """A layer's settings as numbers, in the order in which the C++ side reads them (problem.h).

    `of` makes one of the paper's settings; those with a default go beyond them, and not every op has them.
    """

    cell: int
    score: int
    normalizer: int
    semantics: int
    k_top: int
    k_att: int
    k_trunc: int  # 0: never cut
    backtrack: int
    capacity: int  # 0: no limit
    evict: int
    recall_scale: int  # the bits of a float64
    forget_scale: int  # as well
    search: int = SEARCH["auto"]
    null_score: int = 0  # whether recalling nothing has a learned score
    summary_gate: int = 0  # whether the summary is multiplied by a learned gate
    stored: int = STORED["h"]

    @staticmethod
    def of(
        *,
        cell: str,
        score: str,
        normalizer: str = "threshold",
        semantics: str = "paper",
        k_top: int,
        k_att: int = 1,
        k_trunc: int | None = None,
        backtrack: bool = True,
        capacity: int | None = None,
        evict: str = "fifo",
        recall_scale: float = 1.0,
        forget_scale: float = 1.0,
    ) -> OpRule:
        """The numbers of these settings; `SAB` explains each.

        Args:
            k_trunc: None never cuts.
            capacity: memories a row may hold; None: no limit.
        """
        return OpRule(
            CELLS[cell],
            SCORES[score].code,
            NORMALIZERS[normalizer],
            SEMANTICS[semantics],
            k_top,
            k_att,
            k_trunc or 0,
            int(backtrack),
            capacity or 0,
            EVICT[evict],
            bits_of(recall_scale),
            bits_of(forget_scale),
        )

    @property
    def bounded(self) -> bool:
        """Whether memories may be evicted."""
        return self.capacity > 0 and self.k_top > 0

    @property
    def scoring(self) -> Score:
        """The score."""
        return score_of(self.score)

    def extra_weights(self, H: int) -> int:
        """How many numbers a recall learns besides its score: the null score and the gate."""
        return (self.null_score + self.summary_gate * H) if self.k_top > 0 else 0

    @property
    def has_keys(self) -> bool:
        """Whether memories and queries are projected to be scored."""
        return self.k_top > 0 and not self.scoring.keyless

    @property
    def has_c(self) -> bool:
        """Whether the cell has a c beside its h."""
        return self.cell == CELLS["lstm"]

    @property
    def release(self) -> bool:
        """Whether the semantics are those of the authors' code."""
        return self.semantics == SEMANTICS["release"]


def bits_of(number: float) -> int:
    """A float64 as the integer that has its bits."""
    return struct.unpack("q", struct.pack("d", number))[0]


def number_of(bits: int) -> float:
    """The float64 that has an integer's bits."""
    return struct.unpack("d", struct.pack("q", bits))[0]


@dataclass(frozen=True)
class LayerInput:
    """The arguments of a call of an op, except its rule.

    Attributes:
        x: input, (T, B, I).
        h0, c0: the state before it, (B, H); c0 is None unless the cell has a c.
        memory0: the memories so far, oldest first, (B, M0, H), the first count0[b] of row b filled.
        count0, step0: filled slots, and steps done by each row's stream, (B,) int64; no row holds more memories
            than the rule's capacity.
        recurrent: weight_ih, weight_hh, bias_ih, bias_hh as torch.nn.LSTMCell has them; the biases may be None.
        scorer: the score's parameters, see `SCORES`, then, where the rule has them, the null score (1,) and the gate
            of the summary (H,); () where k_top is 0.
        received0: recall weight that the memories so far have received, (B, M0); needed with a capacity.
        lengths: how many of the T steps each row has, the longest first, (B,) int64, each at least 1; None: all. What
            is returned of steps that a row has not is 0, and its h and c are those after its last. Only where the
            backend's `takes_lengths` says so.
        factor: what recurrent dropout multiplies h by on its way into the cell's weights, (B, H), without gradient;
            None: nothing is dropped. Not every op takes it.
    """

    x: Tensor
    h0: Tensor
    c0: Tensor | None
    memory0: Tensor
    count0: Tensor
    step0: Tensor
    recurrent: tuple[Tensor | None, ...]
    scorer: tuple[Tensor, ...]
    received0: Tensor | None = None
    lengths: Tensor | None = None
    factor: Tensor | None = None


@dataclass(frozen=True)
class Recalled:
    """What a call of an op returns. Unfilled slots of `memory` hold zeros; evicted memories keep their slots."""

    output: Tensor  # (T, B, H)
    summary: Tensor  # (T, B, H)
    h: Tensor  # (B, H)
    c: Tensor  # (B, H), (B, 0) unless LSTM
    memory: Tensor  # (B, M0 + ceil(T / k_att), H)
    peak: Tensor  # (B, 2): the largest |W1 m| and |W2 h_hat|, where the score is clamped
    slots: Tensor  # (T, B, K) int32, largest weight first; then, as -2 - slot, the others of the K best; then -1
    weights: Tensor  # (T, B, K)
    received: Tensor  # (B, M), recall weight each slot has received; (B, 0) without capacity
    alive: Tensor  # (B, min(M, capacity)) int64, slots not evicted, oldest first, then an unused one; (B, 0) without
    behind: Tensor  # (T, B) int32, the slot behind the K best that took part in the choice, -1 if none did
    milestones: Tensor  # (N, B, H), c entering the steps asked for; (0, B, H) if none were, (., B, 0) unless LSTM


class Past(NamedTuple):
    """Steps of past calls, laid out as if they were one pass. Cuts and stored slots are given step by step.

    A step that enters a segment need not follow the one before it.
    """

    cut: Tensor  # (T, B) bool: (h, c) is cut before it
    stored: Tensor  # (T, B, 2) int32: the slots that took its h, -1 where none
    entry: Tensor  # (T, B) int32: the entering state it begins with, -1: that after the step before it
    h: Tensor  # (E, H)
    c: Tensor  # (E, H), (E, 0) unless LSTM


class PastSteps(NamedTuple):
    """Replayed steps of past calls. M counts the memories of a row, stored by these steps or not."""

    x: Tensor  # (T, B, I)
    output: Tensor  # (T, B, H)
    summary: Tensor  # (T, B, H)
    memory: Tensor  # (B, M, H)
    slots: Tensor  # (T, B, K) int32, -1 where none
    edges: Tensor  # (T, B) int32: the slot that set the threshold, -1 where none; never one that has a weight
    weights: Tensor  # (T, B, K), recall_scale included
    inverses: Tensor  # (T, B): what weights were multiplied by, 0 where nothing was read, -1 where scores are weights
    past: Past  # how they are laid out
    kept: tuple[Tensor, ...] | None = None  # what `replay_past` may leave for `differentiate_past`
    factor: Tensor | None = None  # (T, B, H): as of `LayerInput`, of each step


class PastReads(NamedTuple):
    """Segments of past calls, laid out, that are to be run again: M memories of a row, K that a step read at most."""

    x: Tensor  # (T, B, I)
    memory: Tensor  # (B, M, H), those of the steps' own states without values
    credited: Tensor  # (B, M) bool: which of them have credit
    read: Tensor  # (T, B, K) int32: the slots that decided each recall, best first, -1 behind the last
    own: int  # the slot of the state at time 0, behind which those of later times lie; -1 where none is read
    entries: Tensor  # (3, L) int64 on the host: each segment's first time, row, and number of steps
    past: Past  # how they are laid out
    factor: Tensor | None = None  # (T, B, H): as of `LayerInput`, of each step


class PastGradients(NamedTuple):
    """The gradients that arrive at `PastSteps`, None where none."""

    output: Tensor | None  # (T, B, H)
    c: Tensor | None  # (T, B, H), of c after each step
    memory: Tensor | None  # (B, M, H)


@dataclass(frozen=True)
class Demand:
    """What is asked of a backend: it says in its able.py whether it can run this.

    Attributes:
        cell, score: names of built-in ones; None for a user's own.
        k_top: None: every memory.
        capacity, evict: memories a row may hold, None: any number; the built-in rule of eviction, None: a user's own.
        credits_past: whether later calls may send credit into this one.
        device, dtype: of the layer.
        widest: the larger of H and D.
        memories: how many a step may find at most; it decides only where k_top is None.
        transform: what is asked of derivatives that an op does not give, such as torch.func's; None: nothing.
        recurrent_dropout: whether h is masked on its way into the cell.
        extras: the options of `SAB` in use that not every op has.
    """

    cell: str | None
    score: str | None
    k_top: int | None
    capacity: int | None
    evict: str | None
    credits_past: bool
    device: torch.device
    dtype: torch.dtype
    widest: int
    memories: int
    transform: str | None = None
    recurrent_dropout: bool = False
    extras: tuple[str, ...] = ()

    @property
    def recalled(self) -> int:
        """How many memories a step may recall."""
        return self.memories if self.k_top is None else self.k_top


def common_obstacle(demand: Demand) -> str | None:
    """What keeps every op from running a layer, or None."""
    if demand.transform is not None:
        return f"it does not run under {demand.transform}; backend='reference' with engine='autograd' does"
    if demand.cell is None or demand.score is None:
        return "it has the built-in cells and scorers only"
    if demand.capacity is not None and demand.evict is None:
        return f"it evicts by {' or '.join(map(repr, EVICT))} only, not by a function of your own"
    if demand.k_top is None and demand.capacity is not None and demand.evict != "fifo" and demand.credits_past:
        return "it does not record what a step found, which later calls need with k_top=None and 'least_recalled'"
    return None


def scorer_parts(scorer: Sequence[Tensor], rule: OpRule) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """w1, w2 and w3 of a scorer's parameters; None for those it does not have. `scorer_of` is the reverse.

    What a recall learns besides its score stands behind w3, or in its place.
    """
    own = rule.scoring.roles if rule.k_top > 0 else ()
    parts = dict(zip(own, scorer, strict=False))
    in_w3 = [*([parts["w3"]] if "w3" in parts else []), *(scorer[len(own) :] if rule.k_top > 0 else ())]
    w3 = None if not in_w3 else in_w3[0] if len(in_w3) == 1 else torch.cat(in_w3)
    return parts.get("w1"), parts.get("w2"), w3


def scorer_of(parts: Sequence[Tensor | None], H: int, rule: OpRule) -> list[Tensor]:
    """A scorer's parameters from w1, w2 and w3, or their gradients from those of w1, w2 and w3."""
    w1, w2, w3 = parts
    scorer = [part for part in (w1, w2) if part is not None]
    if w3 is None:
        return scorer
    own = len(w3) - rule.extra_weights(H)
    sizes = [*([own] if own else []), *([1] * rule.null_score), *([H] * rule.summary_gate)]
    split: Any = torch.split
    return [*scorer, *split(w3, sizes)]


def slots_for(memory0: Tensor, T: int, rule: OpRule) -> int:
    """Room for memories."""
    return memory0.shape[1] + new_slots(T, rule)


def new_slots(T: int, rule: OpRule) -> int:
    """Room for new memories. ceil: without knowing step0, T steps may store that often."""
    return -(-T // rule.k_att) if rule.k_top > 0 else 0


def gate_width(H: int, rule: OpRule) -> int:
    """G, the width of a step's gates; the GRU keeps W_hn h + b_hn as its fourth."""
    return H if rule.cell == CELLS["rnn"] else 4 * H


def joint_bias(bias_ih: Tensor | None, bias_hh: Tensor | None, weight_hh: Tensor, rule: OpRule) -> Tensor:
    """What is added to the projected input, (G,), in the type of `weight_hh`, which may be wider than the biases'.

    The GRU's b_hn waits in its fourth gate column instead.
    """
    if bias_ih is not None and bias_hh is not None and rule.cell != CELLS["gru"]:
        return bias_ih.to(weight_hh.dtype) + bias_hh.to(weight_hh.dtype)
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


def split_bias(d_bias: Tensor, rule: OpRule) -> tuple[Tensor, Tensor]:
    """The gradients of bias_ih and bias_hh, from that of `joint_bias`, (G,)."""
    if rule.cell != CELLS["gru"]:
        return d_bias, d_bias
    H = len(d_bias) // 4
    return d_bias[: 3 * H], torch.cat([d_bias[: 2 * H], d_bias[3 * H :]])


def on_device(counter: Tensor, device: torch.device) -> Tensor:
    """Counts of the rows on a device, (B,) int64. Rows that agree, as most batches' do, need no copy from the host,
    for which CUDA would have to wait, and which it refuses while a graph is captured.
    """
    if counter.device == device or device.type == "cpu" or len(counter) == 0:
        return counter.to(device)
    first = int(counter[0])
    if bool((counter == first).all()):
        return torch.full((len(counter),), first, dtype=counter.dtype, device=device)
    return counter.to(device)
