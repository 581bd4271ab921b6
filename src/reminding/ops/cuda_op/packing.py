"""A call of the Triton kernels: its numbers, what follows from them for either pair of kernels, and what it records.

Shapes: T time, B batch, H hidden, G gate width, D score width, M memory slots, K k_top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from reminding.ops.contract import CELLS, EVICT, NORMALIZERS, SEARCH, OpRule, gate_width, number_of, slots_for
from reminding.ops.scores import SCORES

TILE_SIZE = 2048
"""Elements of the largest tile: with 8 warps, 8 a thread. Four of them, one a gate, fit the registers at every width;
twice as many spill."""
WARPS = 8
CHUNK = 2048
"""Scores of a row that a program holds at a time to rank them: 8 a thread."""
LEAST_FAN = 16
"""Members of a block, at least, and blocks of a span (triton/search.py): as many as a tile has memories, since a tile
takes as long however few it has."""
LEAST_SEARCHED, LEAST_IN_TREE, MOST_RANKED = 4096, LEAST_FAN + 1, 63
"""Memories from which search="auto" tries a search, by estimate, and from which search="tree" has one; the largest
k_top with which there is one, since a search holds the ranking in registers."""
SEARCHABLE = tuple(SCORES[name].code for name in ("additive", "dot"))
"""Scores that a search has bounds on."""

NEVER = 2**62
"""As k_trunc: more steps than a stream takes."""


class Call(NamedTuple):
    """The numbers of a call, and what follows from them for the kernels."""

    rule: OpRule
    T: int
    B: int
    H: int
    D: int
    M: int

    @staticmethod
    def of(x: Tensor, h0: Tensor, memory0: Tensor, w1: Tensor | None, rule: Sequence[int]) -> Call:
        """The call with these inputs."""
        settled = OpRule(*rule)
        D = w1.shape[0] if w1 is not None else 0
        return Call(settled, x.shape[0], x.shape[1], h0.shape[1], D, slots_for(memory0, x.shape[0], settled))

    @property
    def most(self) -> int:
        """Memories of a row that can be alive at once."""
        return min(self.M, self.rule.capacity) if self.rule.bounded else self.M

    @property
    def lists(self) -> bool:
        """Whether those alive are listed: evictions leave gaps between their slots."""
        return self.rule.bounded and self.rule.evict == EVICT["least_recalled"]

    @property
    def numbers(self) -> dict[str, Any]:
        """Arguments of both kernels that are passed by value."""
        sizes = {"T": self.T, "B": self.B, "H": self.H, "D": self.D, "M": self.M}
        return {**sizes, "k_top": self.rule.k_top, "k_att": self.rule.k_att}

    @property
    def choosing(self) -> dict[str, Any]:
        """Further arguments of the forward kernel: which memories it ranks, how many, and in what pieces."""
        alive = 0 if not self.rule.bounded else 2 if self.lists else 1
        ranked = {"most": self.most, "ranks": self.ranks, "ALIVE": alive, "MP": padded(self.most), "CHUNK": CHUNK}
        if not self.searches:
            # Constants that are the same for all such calls: no kernel is compiled anew for the tree's sizes.
            return {**ranked, "SEARCH": SEARCH["scan"], "spans": 0, "blocks": 0, "FAN": 1, "WIDE": 1, "LEAST": 0}
        tree = {"spans": self.spans, "blocks": self.blocks, "FAN": self.fan, "WIDE": min(CHUNK, padded(self.spans))}
        return {**ranked, "SEARCH": self.rule.search, **tree, "LEAST": LEAST_SEARCHED}

    @property
    def searches(self) -> bool:
        """Whether the best memories may be found by a search through bounds."""
        return searches(self.rule, self.most)

    @property
    def fan(self) -> int:
        """Members of a block, and blocks of a span."""
        return max(self.tile, LEAST_FAN)

    @property
    def blocks(self) -> int:
        """Of a row's slots."""
        return -(-self.M // self.fan)

    @property
    def spans(self) -> int:
        """Of a row's blocks."""
        return -(-self.blocks // self.fan)

    @property
    def tile(self) -> int:
        """Vectors of H or D that a program holds at a time."""
        return max(TILE_SIZE // padded(max(self.H, self.D)), 1)

    @property
    def ranks(self) -> int:
        """Ranked scores that decide a recall: with a threshold also the one behind the k_top-th, if there is one."""
        return self.rule.k_top + (self.rule.normalizer == NORMALIZERS["threshold"])

    @property
    def sweeping(self) -> dict[str, Any]:
        """Further arguments of the backward kernel."""
        return {"k_trunc": self.rule.k_trunc or NEVER, "WP": self.width, "BACKTRACK": bool(self.rule.backtrack)}

    @property
    def width(self) -> int:
        """Of a row's gradient of the score's output weights, padded."""
        keyless = self.rule.k_top > 0 and self.rule.scoring.keyless
        return padded(self.H if keyless else self.D)

    @property
    def recurrent(self) -> int:
        """Parts of W_hh, of H rows each."""
        return 3 if self.rule.cell == CELLS["gru"] else self.gates

    @property
    def gates(self) -> int:
        """Gates of a step, of H values each."""
        return gate_width(1, self.rule)

    @property
    def shapes(self) -> dict[str, Any]:
        """What both kernels are compiled for. Scales are among it since a number given by value is a float32."""
        scales = {"recall_scale": number_of(self.rule.recall_scale), "score_scale": 1 / math.sqrt(max(self.D, 1))}
        scales |= {"forget_scale": number_of(self.rule.forget_scale)}
        kind = {"CELL": self.rule.cell, "SCORE": self.rule.score, "NORMALIZER": self.rule.normalizer}
        tiles = {"HP": padded(self.H), "DP": padded(self.D), "KP": padded(self.ranks)}
        return {
            "GATES": self.gates,
            "RECALLS": self.rule.k_top > 0,
            **scales,
            **kind,
            "RELEASE": self.rule.release,
            **tiles,
            "SLICE": self.tile,
        }


def padded(size: int) -> int:
    """The power of two that a tile of this size takes."""
    return 1 << max(size - 1, 0).bit_length()


def searches(rule: OpRule, memories: int) -> bool:
    """Whether the op may pass over some of so many memories of a row by a bound on their scores."""
    least = LEAST_SEARCHED if rule.search == SEARCH["auto"] else LEAST_IN_TREE
    able = rule.score in SEARCHABLE and 0 < rule.k_top <= MOST_RANKED
    return rule.search != SEARCH["scan"] and able and memories >= least


class Record(NamedTuple):
    """What a forward pass saves for the backward pass, except its inputs."""

    output: Tensor  # (T, B, H)
    summary: Tensor  # (T, B, H)
    cells: Tensor  # (T, B, H), (T, B, 0) unless LSTM
    memory: Tensor  # (B, M, H)
    keys: Tensor  # (B, M, D)
    slots: Tensor  # (T, B, K) int32
    weights: Tensor  # (T, B, K)
    edges: Tensor  # (T, B, 2) int32: the slot that set the threshold, and that behind the k_top best
    inverses: Tensor  # (T, B)

    @staticmethod
    def blank(like: Tensor, call: Call) -> Record:
        """A record in which nothing is recalled or stored; outputs and cells, which every step writes, are empty."""
        T, B, H, K = call.T, call.B, call.H, call.rule.k_top
        return Record(
            output=like.new_empty(T, B, H),
            summary=like.new_zeros(T, B, H),
            cells=like.new_empty(T, B, H if call.rule.has_c else 0),
            memory=like.new_zeros(B, call.M, H),
            keys=like.new_zeros(B, call.M, call.D),
            slots=like.new_full((T, B, K), -1, dtype=torch.int32),
            weights=like.new_zeros(T, B, K),
            edges=like.new_full((T, B, 2), -1, dtype=torch.int32),
            inverses=like.new_zeros(T, B),
        )


def widened(parts: list[Tensor | None]) -> list[Tensor | None]:
    """The inputs in the type that the state is computed in, for products over many steps."""
    kind = cast("Tensor", parts[1]).dtype
    return [part if part is None or not part.is_floating_point() else part.to(kind) for part in parts]


def project(x: Tensor, weight_ih: Tensor, bias: Tensor) -> Tensor:
    """The inputs' part of the gates, (T, B, G); where there is none, as of the GRU's fourth, the bias alone."""
    width = len(weight_ih)
    gates = x.new_empty(*x.shape[:2], len(bias))
    torch.matmul(x, weight_ih.t(), out=gates) if width == len(bias) else gates[..., :width].copy_(x @ weight_ih.t())
    gates[..., width:] = 0
    return gates.add_(bias)
