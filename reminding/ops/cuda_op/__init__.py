"""The Triton operator of one SAB layer: `layer` runs all time steps in one launch, and differentiates in one more.

Arguments, results and gradients are those of `cpu_op.layer`. Every product over many steps (the inputs' part of the
gates, the gradients of weights and inputs) is one large product of PyTorch's.

Shapes: T time, B batch, I input, H hidden, G gate width, D score width, M memory slots, K k_top.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from typing import Any, cast

import torch
from torch import Tensor

from reminding.ops.cpu_op import Recalled, Rule, scorer_parts
from reminding.ops.cpu_op.problem import joint_bias, slots_for
from reminding.ops.cuda_op.recurrence import Call, Recurrence, padded

WIDEST = 1024
"""Of H and D: a step holds a few vectors of either in registers."""
MOST_READ = 65_536
"""Of K times H or D: a step holds what it recalls in registers."""


def most_recalled(width: int) -> int:
    """The largest k_top at this width, the larger of H and D; one rank more may be needed for the threshold."""
    return MOST_READ // padded(width) - 1


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def missing() -> str | None:
    """Why the kernels cannot be used here, or None where they can."""
    if not _has_triton():
        return "the kernels need Triton, which is not installed"
    if not torch.cuda.is_available() and not interpreted():
        return "there is no CUDA device"
    return None


def interpreted() -> bool:
    """Whether Triton runs its kernels in Python, on any device: slow, for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


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
    """Run one SAB layer over T steps; arguments and results as `cpu_op.layer`'s, without the release.

    Gradient: as `cpu_op.layer`'s.
    """
    weight_ih, weight_hh, bias_ih, bias_hh = recurrent
    assert weight_ih is not None and weight_hh is not None, "only the biases may be left out"
    w1, w2, w3 = scorer_parts(scorer, rule)
    c_0 = h0.new_zeros(h0.shape) if c0 is None else c0
    T, B, H = len(x), x.shape[1], h0.shape[1]
    D = w1.shape[0] if w1 is not None else 0
    call = Call(rule, T, B, H, D, slots_for(memory0, T, rule))
    bias = joint_bias(bias_ih, bias_hh, weight_hh, rule)  # (G,)
    counters = count0.to(x.device), step0.to(x.device)
    ran: Any = cast("Any", Recurrence).apply(
        x, h0, c_0, memory0, weight_ih, weight_hh, bias, w1, w2, w3, *counters, received0, call, replay
    )
    output, summary, c_last, memory, slots, weights, edge, cells, received, listed = ran
    none = h0.new_empty(B, 0)
    return Recalled(
        output=output,
        summary=summary,
        h=output[-1] if T > 0 else h0,
        c=c_last if c0 is not None else none,
        memory=memory,
        peak=none,
        slots=slots,
        weights=weights,
        received=received,
        alive=_alive(listed, counters, call),
        edge=edge,
        milestones=_milestones(cells.detach(), c_0.detach(), milestones, c0 is not None),
    )


def _alive(listed: Tensor, counters: tuple[Tensor, Tensor], call: Call) -> Tensor:
    """The slots of the memories not evicted, oldest first, then an unused one, (B, most) int64; (B, 0) unbounded.

    How many there are follows from the counters, filled slots and steps taken before the call, (B,) each.
    """
    if not call.rule.bounded:
        return listed.new_empty(call.B, 0, dtype=torch.int64)
    count0, step0 = counters
    count = (count0 + (step0 + call.T) // call.rule.k_att - step0 // call.rule.k_att).unsqueeze(1)  # (B, 1)
    alive, place = count.clamp(max=call.most), torch.arange(call.most, device=count.device)
    slot = listed.long() if call.lists else count - alive + place
    return torch.where(place < alive, slot, count)


def _milestones(cells: Tensor, c0: Tensor, asked: tuple[int, int] | None, has_c: bool) -> Tensor:
    """The c that enters the steps asked for, (N, B, H)."""
    if asked is None or not has_c:
        wide = 0 if asked is not None else c0.shape[1]
        count = 0 if asked is None else len(range(asked[1] % asked[0], len(cells), asked[0]))
        return c0.new_empty(count, len(c0), wide)
    steps = list(range(asked[1] % asked[0], len(cells), asked[0]))
    return torch.cat([c0.unsqueeze(0), cells[:-1]])[steps] if steps else c0.new_empty(0, *c0.shape)
