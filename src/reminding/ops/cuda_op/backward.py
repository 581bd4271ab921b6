"""The backward pass of the Triton kernels: the launch, the large products behind it, and both as an operator.

Shapes: T time, B batch, I input, H hidden, G gate width, R recurrent width, D score width, M memory slots, K k_top.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from reminding.ops.contract import CELLS, Past, number_of
from reminding.ops.cuda_op.checks import check_backward
from reminding.ops.cuda_op.packing import Call, Record, project, widened
from reminding.ops.cuda_op.triton.tiling import launch_backward

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def remake_gates(
    parts: list[Tensor | None], record: Record, call: Call, past: Past | None = None
) -> tuple[Tensor, Tensor]:
    """Activated gates (T, B, G) and queries (T, B, D), as the forward pass had them; past: see `run_backward`."""
    x, h0, _, _, weight_ih, weight_hh, bias, _, w2 = parts[:9]
    assert x is not None and h0 is not None and weight_ih is not None and weight_hh is not None and bias is not None
    gates, before, H = project(x, weight_ih, bias), entering(h0, record.output, past), call.H
    if call.rule.cell == CELLS["gru"]:
        gates[..., : 2 * H] += before @ weight_hh[: 2 * H].t()
        gates[..., 3 * H :] += before @ weight_hh[2 * H :].t()
        gates[..., : 2 * H].sigmoid_()
        gates[..., 2 * H : 3 * H].addcmul_(gates[..., :H], gates[..., 3 * H :]).tanh_()
    else:
        gates += before @ weight_hh.t()
        if call.rule.cell == CELLS["rnn"]:
            gates.tanh_()
        else:
            for number, activate in enumerate((torch.sigmoid_, torch.sigmoid_, torch.tanh_, torch.sigmoid_)):
                activate(gates[..., number * H : (number + 1) * H])
            gates[..., H : 2 * H] *= number_of(call.rule.forget_scale)
    hat = record.output - record.summary
    return gates, hat.new_empty(*hat.shape[:2], 0) if w2 is None else F.linear(hat, w2)


def entering(h0: Tensor, output: Tensor, past: Past | None = None) -> Tensor:
    """What h was when each step began, (T, B, H); of steps of past calls, which need not follow one another, too."""
    before = torch.cat([h0.unsqueeze(0), output[:-1]])[: len(output)]
    if past is None:
        return before
    return torch.where((past.entry >= 0).unsqueeze(2), past.h[past.entry.clamp(min=0).long()], before)


class Swept(NamedTuple):
    """What the backward kernel leaves for large products."""

    d_gates: Tensor  # (T, B, G)
    d_queries: Tensor  # (T, B, D)
    d_memory: Tensor  # (B, M, H), without what keys pass on
    d_keys: Tensor  # (B, M, D)
    d_w3: Tensor  # (B, WP), of the separable score the memories' half
    d_offset: Tensor  # (T, B), of what all scores of a step share
    d_h0: Tensor  # (B, H)
    d_c0: Tensor  # (B, H)


def run_backward(
    d: tuple[Tensor | None, ...],
    parts: list[Tensor | None],
    record: Record,
    gates: Tensor,
    queries: Tensor,
    call: Call,
    need_x: bool,
    past: Past | None = None,
) -> list[Tensor | None]:
    """Launch the backward kernel, then multiply.

    Args:
        d: gradients of output, summary, c_T (of past calls: of c after each step, (T, B, H)) and memory, or None.
        past: where the steps are of past calls; h0 and c0 are of no use then, nor are their gradients.

    Returns:
        gradients of x, h0, c0, memory0, weight_ih, weight_hh, bias, w1, w2, w3; None where none.
    """
    swept = sweep(d, parts, record, gates, queries, call, past)
    x, h0, _, memory0, weight_ih, _, _, w1, w2, w3, count0, _ = widened(parts)
    assert x is not None and h0 is not None and memory0 is not None and weight_ih is not None and count0 is not None
    d_recurrent = swept.d_gates[..., : len(weight_ih)]
    hat = record.output - record.summary
    d_w1 = d_w2 = d_out = None
    if w1 is not None and w2 is not None:
        d_w1, d_w2 = _outer(swept.d_keys, record.memory), _outer(swept.d_queries, hat)
    if w3 is not None:
        d_out = swept.d_w3.sum(0)[: len(w3) if w1 is not None else call.H]
        if w1 is None:
            d_out = torch.cat([_outer(swept.d_offset.unsqueeze(2), torch.tanh(hat))[0], d_out])
    given = memory0.shape[1]
    d_memory0 = swept.d_memory[:, :given]
    if w1 is not None and call.rule.backtrack:
        d_memory0 = d_memory0 + swept.d_keys[:, :given] @ w1
    filled = torch.arange(given, device=h0.device) < count0.unsqueeze(1)
    d_x = d_recurrent @ weight_ih if need_x else None
    return [
        d_x, swept.d_h0, swept.d_c0, torch.where(filled.unsqueeze(2), d_memory0, 0),
        _outer(d_recurrent, x), _outer(_through_h(swept.d_gates, call), entering(h0, record.output, past)),
        swept.d_gates.sum((0, 1)), d_w1, d_w2, d_out,
    ]  # fmt: skip


def sweep(
    d: tuple[Tensor | None, ...],
    parts: list[Tensor | None],
    record: Record,
    gates: Tensor,
    queries: Tensor,
    call: Call,
    past: Past | None,
) -> Swept:
    """Launch the backward kernel; arguments as `run_backward`'s."""
    _, h0, c0, _, _, weight_hh, _, w1, w2, w3, count0, step0 = parts
    assert h0 is not None and weight_hh is not None
    likes = (record.output, record.summary, h0 if past is None else record.output)
    d_output, d_summary, d_c = (_dense(one, like) for one, like in zip(d[:3], likes, strict=True))
    swept = Swept(
        d_gates=torch.zeros_like(gates),
        d_queries=torch.zeros_like(queries),
        d_memory=torch.zeros_like(record.memory)
        if d[3] is None
        else d[3].clone(memory_format=torch.contiguous_format),
        d_keys=torch.zeros_like(record.keys),
        d_w3=h0.new_zeros(call.B, call.width),
        d_offset=h0.new_zeros(call.T, call.B),
        d_h0=torch.zeros_like(h0),
        d_c0=torch.zeros_like(h0),
    )
    enters = (h0, c0) if past is None else (past.h, past.c)
    if call.B > 0:
        launch_backward(call, (
            weight_hh, w1, w2, w3, *enters, step0, count0, record.output, record.summary, record.cells, gates,
            queries, record.memory, record.keys, record.slots, record.weights, record.edges, record.inverses,
            d_output, d_summary, d_c, *swept,
        ), past)  # fmt: skip
    return swept


def _dense(d: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if d is None else d.contiguous()


def _through_h(d_gates: Tensor, call: Call) -> Tensor:
    """The gradient of W_hh h, (T, B, R)."""
    if call.rule.cell != CELLS["gru"]:
        return d_gates
    return torch.cat([d_gates[..., : 2 * call.H], d_gates[..., 3 * call.H :]], dim=2)


def _outer(d: Tensor, input: Tensor) -> Tensor:
    """The gradient of a weight whose product with `input` (.., I) received `d` (.., O): (O, I)."""
    return d.flatten(0, -2).t() @ input.flatten(0, -2)


SCHEMA = (
    "("
    "Tensor? d_output, Tensor? d_summary, Tensor? d_c_last, Tensor? d_memory, Tensor x, Tensor h0, Tensor c0, "
    "Tensor memory0, Tensor weight_ih, Tensor weight_hh, Tensor bias, Tensor? w1, Tensor? w2, Tensor? w3, "
    "Tensor count0, Tensor step0, Tensor[] record, Tensor[] kept, SymInt[] rule, bool replay, bool need_x"
    f") -> ({', '.join(['Tensor'] * 10)})"
)
"""Written out, since PyTorch before 2.7 cannot infer it from the annotations."""


@torch.library.custom_op("reminding::sab_cuda_backward", mutates_args=(), schema=SCHEMA)
def sab_backward(
    d_output: Tensor | None,
    d_summary: Tensor | None,
    d_c_last: Tensor | None,
    d_memory: Tensor | None,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    memory0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    w1: Tensor | None,
    w2: Tensor | None,
    w3: Tensor | None,
    count0: Tensor,
    step0: Tensor,
    record: list[Tensor],
    kept: list[Tensor],
    rule: list[int],
    replay: bool,
    need_x: bool,
) -> Gradients:
    """Gradients of x, h0, c0, memory0, weight_ih, weight_hh, bias, w1, w2, w3, in their types; empty where none.

    Args:
        record: the fields of `Record`; kept: gates and queries.
    """
    given = (x, h0, c0, memory0, weight_ih, weight_hh, bias, w1, w2, w3, count0, step0)
    d = (d_output, d_summary, d_c_last, d_memory)
    counters, made = check_backward(given, d, record, kept, rule, replay)
    parts = [None if tensor is None else tensor.contiguous() for tensor in (*given[:10], *counters)]
    made = Record(*(tensor.contiguous() for tensor in made))
    call = Call.of(x, h0, memory0, w1, rule)
    with torch.autocast(x.device.type, enabled=False):
        gates, queries = remake_gates(widened(parts), made, call) if replay else [each.contiguous() for each in kept]
        found = run_backward(d, parts, made, gates, queries, call, need_x)
    pairs = zip(found, parts, strict=False)
    return cast("Any", tuple(h0.new_empty(0) if d is None or p is None else d.to(p.dtype) for d, p in pairs))


@sab_backward.register_fake
def _(*arguments: Any) -> Gradients:
    x, h0, *others = arguments[4:14]
    every = [x if arguments[20] else None, h0, *others]
    return cast("Any", tuple(h0.new_empty(0) if part is None else part.new_empty(part.shape) for part in every))
