"""The CPU operator of one SAB layer: `layer` runs all time steps in C++ and differentiates exactly.

The C++ loops (csrc/) fill tensors made here; each product over many steps is one large product outside of them.
Shapes: B batch, T time, I input, H hidden, D score width, M memory slots, K k_top.
May import: `reminding.ops`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reminding.ops.cpu_op.backward import Passed, Past, differentiate_past
from reminding.ops.cpu_op.forward import sab_forward
from reminding.ops.cpu_op.problem import (
    CELLS,
    EVICT,
    KEEP_GATES,
    KEEP_NOTHING,
    KEEP_REPLAY,
    NORMALIZERS,
    SCORES,
    SEMANTICS,
    Rule,
    bits_of,
    missing,
    raw,
)

__all__ = [
    "KEEP_REPLAY",
    "Passed",
    "Past",
    "Recalled",
    "Rule",
    "differentiate_past",
    "layer",
    "missing",
    "raw",
    "rule_of",
    "scorer_parts",
]


def rule_of(
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
) -> Rule:
    """A layer's settings as the op's numbers.

    Args:
        k_trunc: None never cuts.
        capacity: memories a row may hold; None: no limit.
        evict: which goes when it is full, "fifo" or "least_recalled" (the oldest of equals).
        recall_scale: what the normalised weights are multiplied by.
        forget_scale: what an LSTM's forget gate is multiplied by.
    """
    return Rule(
        CELLS[cell],
        SCORES[score],
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


@dataclass(frozen=True)
class Recalled:
    """What a call returns. Slots of `memory` not filled yet hold zeros; evicted memories keep their slots."""

    output: Tensor  # (T, B, H)
    summary: Tensor  # (T, B, H)
    h: Tensor  # (B, H)
    c: Tensor  # (B, H), (B, 0) unless LSTM
    memory: Tensor  # (B, M0 + ceil(T / k_att), H)
    peak: Tensor  # (B, 2): the largest |W1 m| and |W2 h_hat|, where the score is additive
    slots: Tensor  # (T, B, K) int32, -1 where nothing, largest weight first
    weights: Tensor  # (T, B, K)
    received: Tensor  # (B, M), recall weight each slot has received; (B, 0) without capacity
    alive: Tensor  # (B, min(M, capacity)) int64, slots not evicted, oldest first, then an unused one; (B, 0) without
    edge: Tensor  # (T, B) int32, the slot that set the threshold, -1 if none did
    milestones: Tensor  # (N, B, H), c entering the steps asked for; (0, B, H) if none were, (., B, 0) unless LSTM


def layer(
    x: Tensor,
    h0: Tensor,
    c0: Tensor | None,
    memory0: Tensor,
    count0: Tensor,
    step0: Tensor,
    recurrent: tuple[Tensor | None, ...],
    scorer: tuple[Tensor, ...],
    rule: Rule,
    *,
    received0: Tensor | None = None,
    replay: bool = False,
    milestones: tuple[int, int] | None = None,
) -> Recalled:
    """Run one SAB layer over T steps.   [Ke et al. 2018, Algorithm 1]

    Args:
        x: input, (T, B, I), float32 or float64 on the CPU, as every other tensor.
        h0: (B, H); c0: (B, H), None unless LSTM.
        memory0: the memories so far, oldest first, (B, M0, H), the first count0[b] of row b filled.
        count0, step0: filled slots and steps taken, (B,) int64; no row holds more than the rule's capacity.
        recurrent: weight_ih, weight_hh, bias_ih, bias_hh as torch.nn.LSTMCell has them; the biases may be None.
        scorer: W1 (D, H), W2 (D, H), W3 (D,) for additive; W1, W2 for dot; w (2H,) for separable; () if k_top is 0.
        rule: see `rule_of`.
        received0: recall weight that the memories so far have received, (B, M0); needed with a capacity.
        replay: recompute gates in the backward pass instead of keeping them.
        milestones: (stride, offset): also return c as it enters the steps t, counted from 0 in this call, with
            (t - offset) % stride == 0.

    Returns:
        Recalled.
    Gradient: of `output`, `summary`, `h`, `c` and `memory`, to x, h0, c0, memory0 and all weights; as autograd has it
        for the equations with (h, c) detached at the cuts. Nothing else carries one.
    """
    weight_ih, weight_hh, bias_ih, bias_hh = recurrent
    assert weight_ih is not None and weight_hh is not None, "only the biases may be left out"
    w1, w2, w3 = scorer_parts(scorer, rule)
    inputs = (x, h0, c0, memory0, weight_ih, weight_hh, bias_ih, bias_hh, w1, w2, w3)
    differentiate = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    keep = (KEEP_REPLAY if replay else KEEP_GATES) if differentiate else KEEP_NOTHING
    if c0 is None:
        c0 = h0.new_empty(h0.shape[0], 0)
    if received0 is None:
        assert not rule.bounded, "only with a capacity may memories have to go"
        received0 = h0.new_empty(h0.shape[0], 0)
    steps = [milestones[0], milestones[1] % milestones[0]] if milestones is not None else []
    # fmt: off
    out = sab_forward(
        x, h0, c0, memory0, count0, step0, weight_ih, weight_hh, bias_ih, bias_hh, w1, w2, w3, received0, list(rule),
        keep, steps,
    )
    # fmt: on
    output, summary, c, memory, peak, slots, weights, received, alive, entering, edge = out[:11]
    h = output[-1] if x.shape[0] > 0 else h0
    return Recalled(output, summary, h, c, memory, peak, slots, weights, received, alive, edge, entering)


def scorer_parts(scorer: tuple[Tensor, ...], rule: Rule) -> tuple[Tensor | None, ...]:
    """W1, W2, and W3 or w, of a scorer's parameters; None for those it has not."""
    if rule.k_top == 0:
        return None, None, None
    if rule.score == SCORES["separable"]:
        return None, None, scorer[0]
    return scorer[0], scorer[1], scorer[2] if rule.score == SCORES["additive"] else None
