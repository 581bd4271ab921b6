"""Credit back through steps of past calls: which of them it reaches, found with integers, and their gradients.

Shapes: B batch rows, P segments of single rows, K ranks, N memories of a row; else as in `Past` and `PastSteps`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reminding.ops.contract import OpRule, PastGradients, PastSteps
from reminding.ops.cpu_op.backward import differentiate
from reminding.ops.cpu_op.packing import Arriving, Given, Record, Weights, raw


def differentiate_past(
    d: PastGradients, parameters: Sequence[Tensor | None], steps: PastSteps, rule: OpRule, need_x: bool
) -> list[Tensor | None]:
    """Gradients of x (None if unneeded) and of the parameters; None for those that are.

    Args:
        parameters: weight_ih, weight_hh, bias_ih, bias_hh, w1, w2, w3, of the state's type.
    """
    nothing = steps.output.new_zeros(steps.output.shape[1], steps.output.shape[2])
    none = torch.zeros(len(nothing), dtype=torch.int64)
    c0 = nothing if rule.has_c else nothing[:, :0]
    given = Given(steps.x, nothing, c0, steps.memory[:, :0], none, none)
    record = Record(
        steps.output, steps.summary, steps.memory, steps.slots, steps.edges, steps.weights, steps.inverses
    )
    arriving = Arriving(d.output, None, d.c_last, d.memory)
    grads = differentiate(arriving, given, Weights(*parameters), record, steps.past, list(rule), need_x)
    found = zip(grads[4:], parameters, strict=True)
    return [grads.x if need_x else None, *(None if p is None else gradient for gradient, p in found)]


def reach_past(
    segments: Sequence[Tensor], read: Tensor, memory: Sequence[Tensor], carried: Tensor, done: Tensor, rule: OpRule
) -> Tensor:
    """How many steps of each segment of a single row credit can have come to, (P,) int64.

    Args:
        segments: row, steps done before, steps, base and stride of each, (P,) int64, each row's oldest first; its
            steps lie `stride` apart among all steps, from `base` on.
        read: the stream steps of the memories that decided each recall, of all steps, (., K) int64.
        memory: stream steps ascending, which of them pass credit on, and which of them have any, (B, N) each.
        carried: whether the state has any credit, (B,) bool; done: steps done by each row, (B,) int64.
    """
    until = torch.zeros(len(segments[0]), dtype=torch.int32)
    raw().reach_past(until, list(segments), read.unsqueeze(1).contiguous(), list(memory), carried, done, list(rule))
    return until.long()
