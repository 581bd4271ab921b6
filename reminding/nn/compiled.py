"""The recurrence on the C++ CPU op: one call for all time steps of a layer.

Shapes: B batch, T time, I input, M memory slots, K k_top, H hidden.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from reminding.nn.engine import Rule
from reminding.nn.memory import Memory
from reminding.nn.state import LayerState, Recall
from reminding.ops import cpu_op

CLAMP = {torch.float32: 43.0, torch.float64: 350.0}
"""Where the op clamps W1 m and W2 h_hat for the additive score (see scores.h)."""
SATURATED = 20.0
"""From here on tanh is 1 in float64."""

REPLAY_FROM = 512
"""Steps from which engine="auto" recomputes gates in the backward pass instead of keeping them."""


def obstacle(cell: str | None, score: str | None, rule: Rule, like: Tensor) -> str | None:
    """Why the op cannot run a layer, or None when it can.

    Args:
        cell, score: their names; None for a user's own.
        like: a tensor of the layer's device and type.
    """
    if (missing := cpu_op.missing()) is not None:
        return missing
    if like.device.type != "cpu" or like.dtype not in (torch.float32, torch.float64):
        return f"it computes float32 and float64 on the CPU, not {like.dtype} on {like.device.type}"
    if cell is None or score is None:
        return "it has the built-in cells and scorers only"
    if rule.k_top is None or rule.capacity is not None:
        return f"it has no {'capacity' if rule.k_top is not None else 'k_top=None'}"
    return "it does not run under autocast" if torch.is_autocast_enabled("cpu") else None


def unroll(
    x: Tensor,
    state: LayerState,
    taken: Tensor,
    cell: str,
    weights: tuple[Tensor | None, ...],
    score: str,
    scorer: tuple[Tensor, ...],
    normalizer: str,
    rule: Rule,
    replay: bool,
) -> tuple[Tensor, LayerState, Recall] | None:
    """Run one layer over a stretch of time; results as `engine.unroll`'s.

    Args:
        weights: weight_ih, weight_hh, bias_ih, bias_hh; scorer: the parameters of the named score.
        replay: recompute gates in the backward pass instead of keeping them.

    Returns:
        None where the scores left the range in which the op is exact.
    """
    assert rule.k_top is not None, "obstacle() has refused it"
    before = state.memory
    ran = cpu_op.layer(
        x,
        state.h,
        state.extra[0] if state.extra else None,
        before.value,
        before.count,
        taken,
        weights,
        scorer,
        cell=cell,
        score=score,
        normalizer=normalizer,
        semantics=rule.semantics,
        k_top=rule.k_top,
        k_att=rule.k_att,
        k_trunc=rule.k_trunc,
        backtrack=rule.backtrack,
        replay=replay,
    )
    if score == "additive" and rule.k_top > 0 and _out_of_range(ran):
        return None
    memory = _grown(before, ran.memory, taken, len(x), rule).rows(slice(None))
    after = LayerState(ran.h, (ran.c,) if state.extra else (), memory)
    return ran.output, after, Recall(ran.summary, _steps(memory, ran.slots), ran.weights)


def _out_of_range(ran: cpu_op.Recalled) -> bool:
    """Whether a large W1 m met a large W2 h_hat, which may be of the other sign: the op's clamped exponentials get
    that wrong.

    It keeps e^(2 W1 m) and e^(2 W2 h_hat), each exponent clamped. One clamped factor still leaves tanh at +-1;
    two may not.
    """
    if ran.peak.numel() == 0:
        return False
    clamp = CLAMP[ran.output.dtype]
    smaller, larger = sorted(float(peak) for peak in ran.peak.amax(0))
    return smaller > clamp - SATURATED and larger > clamp


def _grown(before: Memory, value: Tensor, taken: Tensor, steps: int, rule: Rule) -> Memory:
    """The memory after the op: which steps its new slots were stored at follows from the step counts alone."""
    if rule.k_top == 0:
        return before
    slot = torch.arange(value.shape[1])
    new = slot - before.count.unsqueeze(1)  # (B, M), 0 for the first memory of this call
    stored_before = (taken // rule.k_att).unsqueeze(1)
    step = torch.where(new >= 0, (stored_before + new + 1) * rule.k_att, 0)
    step[:, : before.slots] += torch.where(new[:, : before.slots] < 0, before.step, 0)
    count = before.count + (taken + steps) // rule.k_att - taken // rule.k_att
    step.masked_fill_(slot >= count.unsqueeze(1), 0)
    return replace(before, value=value, step=step, weight=value.new_zeros(value.shape[:2]), count=count)


def _steps(memory: Memory, slots: Tensor) -> Tensor:
    """The stream steps of recalled slots (T, B, K), 0 where nothing."""
    rows = torch.arange(slots.shape[1]).view(1, -1, 1)
    if memory.slots == 0:
        return torch.zeros_like(slots, dtype=torch.int64)
    return memory.step[rows, slots.clamp(min=0).long()].masked_fill(slots < 0, 0)
