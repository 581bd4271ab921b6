"""The Triton operator of one SAB layer: `layer` runs all time steps in one launch, and differentiates in one more.

State, scores and sums are float32 where weights and inputs are bfloat16 or float16. Under autocast the inputs and the
cell's weights are rounded to its type, and nothing else. Shapes as in `cpu_op`; G gate width.
May import: `reminding.ops`, `ops.cpu_op`.
"""

from __future__ import annotations

import functools
import importlib.util
import os

import torch
from torch import Tensor

from reminding.ops.cpu_op import Recalled, Rule, scorer_parts
from reminding.ops.cpu_op.problem import joint_bias
from reminding.ops.cuda_op.call import Call, padded
from reminding.ops.cuda_op.operator import forward
from reminding.ops.cuda_op.past import differentiate_past

__all__ = ["differentiate_past", "interpreted", "layer", "missing", "most_recalled", "on_device"]

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
    """Run one SAB layer over T steps; arguments and results as `cpu_op.layer`'s.

    Results are of h0's type, which may be bfloat16 or float16 too; so are, but under autocast, all other arguments.
    Gradient: as `cpu_op.layer`'s.
    """
    x, recurrent = _lowered(x, recurrent, h0.dtype)
    with torch.autocast(x.device.type, enabled=False):
        return _layer(x, (h0, c0, memory0, received0), (count0, step0), recurrent, scorer, rule, replay, milestones)


def _layer(
    x: Tensor,
    state: tuple[Tensor, Tensor | None, Tensor, Tensor | None],
    counters: tuple[Tensor, Tensor],
    recurrent: tuple[Tensor | None, ...],
    scorer: tuple[Tensor, ...],
    rule: Rule,
    replay: bool,
    milestones: tuple[int, int] | None,
) -> Recalled:
    """`layer`, whatever autocast says; state: h0, c0, memory0 and received0."""
    kind = state[0].dtype
    h0, c0, memory0, received0 = (None if part is None else part.to(_wide(kind)) for part in state)
    assert h0 is not None and memory0 is not None
    weight_ih, weight_hh, bias_ih, bias_hh = recurrent
    assert weight_ih is not None and weight_hh is not None, "only the biases may be left out"
    w1, w2, w3 = scorer_parts(scorer, rule)
    c_0 = h0.new_zeros(h0.shape) if c0 is None else c0
    bias = joint_bias(bias_ih, bias_hh, h0, rule)  # (G,)
    w3 = None if w3 is None else w3.to(h0.dtype)
    counters = on_device(counters[0], x.device), on_device(counters[1], x.device)
    parts = (x, h0, c_0, memory0, weight_ih, weight_hh, bias, w1, w2, w3, *counters)
    record, c_last, received, listed = forward(parts, received0, rule, replay)
    output = record.output.to(kind)
    none = output.new_empty(len(h0), 0)
    return Recalled(
        output=output,
        summary=record.summary.to(kind),
        h=output[-1] if len(output) > 0 else h0.to(kind),
        c=c_last.to(kind) if c0 is not None else none,
        memory=record.memory.to(kind),
        peak=none,
        slots=record.slots,
        weights=record.weights.to(kind),
        received=received.to(kind),
        alive=_alive(listed, counters, Call.of(x, h0, memory0, w1, rule)),
        edge=record.edges,
        milestones=_milestones(record.cells.detach(), c_0.detach(), milestones, c0 is not None).to(kind),
    )


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


def _wide(kind: torch.dtype) -> torch.dtype:
    """The type that state and scores of a type are computed in."""
    return torch.promote_types(kind, torch.float32)


def _lowered(
    x: Tensor, recurrent: tuple[Tensor | None, ...], kind: torch.dtype
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """The input and the cell's weights in the type that they are taken in: autocast's, or the state's, `kind`."""
    device = x.device.type
    lowers = torch.is_autocast_enabled(device) and kind != torch.float64  # autocast leaves float64 alone
    kind = torch.get_autocast_dtype(device) if lowers else kind
    return x.to(kind), tuple(None if weight is None else weight.to(kind) for weight in recurrent)


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
    stride, first = min(asked[0], len(cells) + 1), asked[1] % asked[0]
    if first >= len(cells):
        return c0.new_empty(0, *c0.shape)
    before = cells[:-1]  # what step t leaves enters step t + 1
    if first == 0:
        return torch.cat([c0.unsqueeze(0), before[stride - 1 :: stride]])
    return before[first - 1 :: stride].clone()
