"""The Triton kernels as operators of PyTorch: what autograd and torch.compile see of them.

Shapes: T time, B batch, I input, H hidden, G gate width, R recurrent width, D score width, M memory slots, K k_top.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from reminding.ops.cpu_op.problem import Rule
from reminding.ops.cuda_op.call import Call
from reminding.ops.cuda_op.recurrence import Record, again, project, run_backward, run_forward, widened

# fmt: off
Outputs = tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
]
# fmt: on
Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@torch.library.custom_op("reminding::sab_cuda_forward", mutates_args=())
def sab_forward(
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
    received0: Tensor | None,
    rule: list[int],
    replay: bool,
) -> Outputs:
    """The fields of `Record`, c after the last step, received, listed, gates and queries; see `run_forward`.

    Args:
        x, weight_ih, weight_hh, w1, w2: may be of half precision; all else is then float32, results among it.
        bias: of the gates, as `joint_bias` has it, (G,).
        replay: keep no gates and queries, which are then empty; the backward pass makes them again.
    """
    given = (x, h0, c0, memory0, weight_ih, weight_hh, bias, w1, w2, w3, count0, step0)
    parts = [None if tensor is None else tensor.contiguous() for tensor in given]
    call = Call.of(x, h0, memory0, w1, rule)
    wide = widened(parts)
    gates = project(cast("Tensor", wide[0]), cast("Tensor", wide[4]), cast("Tensor", wide[6]))
    record, queries, c_last, received, listed = run_forward(gates, parts, received0, call)
    kept = (h0.new_empty(0), h0.new_empty(0)) if replay else (gates, queries)
    return cast("Any", (*record, c_last, received, listed, *kept))


@sab_forward.register_fake
def _(*arguments: Any) -> Outputs:
    x, h0, _, memory0, _, _, bias, w1 = arguments[:8]
    rule, replay = arguments[13:]
    call = Call.of(x, h0, memory0, w1, rule)
    T, B, H, D, M, K = call.T, call.B, call.H, call.D, call.M, call.rule.k_top
    whole: dict[str, Any] = {"dtype": torch.int32}
    return (
        h0.new_empty(T, B, H),  # output
        h0.new_empty(T, B, H),  # summary
        h0.new_empty(T, B, H if call.rule.has_c else 0),  # cells
        h0.new_empty(B, M, H),  # memory
        h0.new_empty(B, M, D),  # keys
        h0.new_empty(T, B, K, **whole),  # slots
        h0.new_empty(T, B, K),  # weights
        h0.new_empty(T, B, **whole),  # edges
        h0.new_empty(T, B),  # inverses
        h0.new_empty(B, H),  # c after the last step
        h0.new_empty(B, M if call.rule.bounded else 0),  # received
        h0.new_empty(B, call.most if call.lists else 0, **whole),  # listed
        h0.new_empty(0) if replay else h0.new_empty(T, B, len(bias)),  # gates
        h0.new_empty(0) if replay else h0.new_empty(T, B, D),  # queries
    )


@torch.library.custom_op("reminding::sab_cuda_backward", mutates_args=())
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
    parts = [None if tensor is None else tensor.contiguous() for tensor in given]
    made, call = Record(*record), Call.of(x, h0, memory0, w1, rule)
    with torch.autocast(x.device.type, enabled=False):
        gates, queries = again(widened(parts), made, call) if replay else kept
        found = run_backward((d_output, d_summary, d_c_last, d_memory), parts, made, gates, queries, call, need_x)
    pairs = zip(found, parts, strict=False)
    return cast("Any", tuple(h0.new_empty(0) if d is None or p is None else d.to(p.dtype) for d, p in pairs))


@sab_backward.register_fake
def _(*arguments: Any) -> Gradients:
    x, h0, *others = arguments[4:14]
    every = [x if arguments[20] else None, h0, *others]
    return cast("Any", tuple(h0.new_empty(0) if part is None else part.new_empty(part.shape) for part in every))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, _, rule, replay = inputs
    record = Record(*output[:9])
    ctx.save_for_backward(*tensors, *record, *output[12:])
    ctx.mark_non_differentiable(record.cells, *record[4:], *output[10:])
    ctx.set_materialize_grads(False)
    ctx.rule, ctx.replay = rule, replay


def _backward(ctx: Any, *d: Tensor | None) -> tuple[Tensor | None, ...]:
    saved, need = list(ctx.saved_tensors), cast("tuple[bool, ...]", ctx.needs_input_grad)
    arriving = d[0], d[1], d[9], d[3]
    grads = sab_backward(*arriving, *saved[:12], saved[12:21], saved[21:], ctx.rule, ctx.replay, need[0])
    return (*(grad if wanted else None for grad, wanted in zip(grads, need[:10], strict=True)), *[None] * 5)


sab_forward.register_autograd(_backward, setup_context=_setup_context)


def forward(
    parts: tuple[Tensor | None, ...], received0: Tensor | None, rule: Rule, replay: bool
) -> tuple[Record, Tensor, Tensor, Tensor]:
    """Run all steps, for autograd to go back through: the record, c after the last step, received and listed.

    Args:
        parts: x, h0, c0, memory0, weight_ih, weight_hh, bias, w1, w2, w3, count0 and step0.

    Gradient: of output, summary, memory and c, to all but the counters.
    """
    run: Any = sab_forward
    made = run(*parts, received0, list(rule), replay)
    return Record(*made[:9]), *made[9:12]
