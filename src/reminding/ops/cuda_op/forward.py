"""The forward pass of the Triton kernels: the launch, the operator that autograd and torch.compile see, and `layer`.

State, scores and sums are float32 where weights and inputs are bfloat16 or float16. Under autocast the inputs and the
cell's weights are rounded to its type, and nothing else.

Shapes: T time, B batch, I input, H hidden, G gate width, R recurrent width, D score width, M memory slots, K k_top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from reminding.ops.batched import one_by_one
from reminding.ops.contract import LayerInput, OpRule, Recalled, joint_bias, on_device, scorer_parts
from reminding.ops.cuda_op.backward import sab_backward
from reminding.ops.cuda_op.checks import check_forward
from reminding.ops.cuda_op.packing import Call, Record, project, widened
from reminding.ops.cuda_op.trees import Trees
from reminding.ops.cuda_op.triton.tiling import launch_forward

# fmt: off
Outputs = tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
]
# fmt: on


def run_forward(
    gates: Tensor, parts: list[Tensor | None], received0: Tensor | None, call: Call
) -> tuple[Record, Tensor, Tensor, Tensor, Tensor]:
    """Launch the forward kernel; activates `gates` in place.

    Args:
        received0: recall weight that the given memories have received, (B, M0); needed with a capacity.

    Returns:
        the record, queries (T, B, D), c after the last step (B, H), and recall weight received by slot (B, M) and the
        slots of those alive where they are listed, (B, most); (B, 0) where there is no need of them.
    """
    _, h0, c0, memory0, _, weight_hh, _, w1, w2, w3, count0, step0 = parts
    assert h0 is not None and memory0 is not None
    T, B, H, D, M = call.T, call.B, call.H, call.D, call.M
    record = Record.blank(h0, call)
    record.memory[:, : memory0.shape[1]] = memory0
    if w1 is not None:
        record.keys[:, : memory0.shape[1]] = memory0 @ w1.t().to(memory0.dtype)
    queries, c_last = h0.new_empty(T, B, D), h0.new_empty(B, H)
    received = h0.new_zeros(B, M if call.rule.bounded else 0)
    if call.rule.bounded:
        assert received0 is not None, "only with what they have received can memories be made to go"
        received[:, : memory0.shape[1]] = received0
    places = torch.arange(call.most if call.lists else 0, dtype=torch.int32, device=h0.device)
    listed = places.repeat(B, 1)
    if B > 0:
        scratch = h0.new_empty(B, H), h0.new_empty(B, call.most)
        trees = Trees.of(record.keys[:, : memory0.shape[1]], cast("Tensor", count0), w3, call)
        launch_forward(call, (
            weight_hh, w1, w2, w3, h0, c0, step0, count0, record.output, record.summary, scratch[0], c_last,
            record.cells, gates, queries, record.memory, record.keys, scratch[1], record.slots, record.weights,
            record.edges, record.inverses, listed, received, *trees,
        ))  # fmt: skip
    return record, queries, c_last, received, listed


SCHEMA = (
    "("
    "Tensor x, Tensor h0, Tensor c0, Tensor memory0, Tensor weight_ih, Tensor weight_hh, Tensor bias, Tensor? "
    "w1, Tensor? w2, Tensor? w3, Tensor count0, Tensor step0, Tensor? received0, SymInt[] rule, bool replay"
    f") -> ({', '.join(['Tensor'] * 14)})"
)
"""Written out, since PyTorch before 2.7 cannot infer it from the annotations."""


@torch.library.custom_op("reminding::sab_cuda_forward", mutates_args=(), schema=SCHEMA)
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
    counters = check_forward(given, received0, rule)
    parts = [None if tensor is None else tensor.contiguous() for tensor in (*given[:10], *counters)]
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
    T, B, D = call.T, call.B, call.D
    beside = (
        h0.new_empty(B, call.H),  # c after the last step
        h0.new_empty(B, call.M if call.rule.bounded else 0),  # received
        h0.new_empty(B, call.most if call.lists else 0, dtype=torch.int32),  # listed
        h0.new_empty(0) if replay else h0.new_empty(T, B, len(bias)),  # gates
        h0.new_empty(0) if replay else h0.new_empty(T, B, D),  # queries
    )
    return cast("Any", (*Record.blank(h0, call), *beside))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, _, rule, replay = inputs
    record = Record(*output[:9])
    ctx.save_for_backward(*tensors, *record, *output[12:])
    ctx.mark_non_differentiable(record.cells, *record[4:], *output[10:])
    ctx.set_materialize_grads(False)
    ctx.rule, ctx.replay = rule, replay


def _backward(ctx: Any, *d: Tensor | None) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "the Triton kernels have no second derivatives (create_graph=True): build the layer with "
            "backend='reference', engine='autograd'"
        )
    saved, need = list(ctx.saved_tensors), cast("tuple[bool, ...]", ctx.needs_input_grad)

    def backward(d: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        grads = sab_backward(*d, *saved[:12], saved[12:21], saved[21:], ctx.rule, ctx.replay, need[0])
        return [grad if wanted else None for grad, wanted in zip(grads, need[:10], strict=True)]

    return (*one_by_one(backward, (d[0], d[1], d[9], d[3])), *[None] * 5)


sab_forward.register_autograd(_backward, setup_context=_setup_context)


def run_operator(
    parts: tuple[Tensor | None, ...], received0: Tensor | None, rule: OpRule, replay: bool
) -> tuple[Record, Tensor, Tensor, Tensor]:
    """Run all steps, for autograd to go back through: the record, c after the last step, received and listed.

    Args:
        parts: x, h0, c0, memory0, weight_ih, weight_hh, bias, w1, w2, w3, count0 and step0.

    Gradient: of output, summary, memory and c, to all but the counters.
    """
    run: Any = sab_forward
    made = run(*parts, received0, list(rule), replay)
    return Record(*made[:9]), *made[9:12]


def layer(
    given: LayerInput, rule: OpRule, *, replay: bool = False, milestones: tuple[int, int] | None = None
) -> Recalled:
    """Run one SAB layer over T steps; arguments and results as `cpu_op.layer`'s.

    Results are of h0's type, which may be bfloat16 or float16 too; so are, but under autocast, all other arguments.
    Gradient: as `cpu_op.layer`'s.
    """
    x, recurrent = _lowered(given.x, given.recurrent, given.h0.dtype)
    with torch.autocast(x.device.type, enabled=False):
        return _layer(replace(given, x=x, recurrent=recurrent), rule, replay, milestones)


def _layer(given: LayerInput, rule: OpRule, replay: bool, milestones: tuple[int, int] | None) -> Recalled:
    """`layer`, with autocast off."""
    x, c0, kind = given.x, given.c0, given.h0.dtype
    state = (given.h0, c0, given.memory0, given.received0)
    h0, c_0, memory0, received0 = (None if part is None else part.to(_wide(kind)) for part in state)
    assert h0 is not None and memory0 is not None
    weight_ih, weight_hh, bias_ih, bias_hh = given.recurrent
    assert weight_ih is not None and weight_hh is not None, "only the biases may be left out"
    w1, w2, w3 = scorer_parts(given.scorer, rule)
    c_0 = h0.new_zeros(h0.shape) if c_0 is None else c_0
    bias = joint_bias(bias_ih, bias_hh, h0, rule)  # (G,)
    w3 = None if w3 is None else w3.to(h0.dtype)
    counters = on_device(given.count0, x.device), on_device(given.step0, x.device)
    parts = (x, h0, c_0, memory0, weight_ih, weight_hh, bias, w1, w2, w3, *counters)
    record, c_last, received, listed = run_operator(parts, received0, rule, replay)
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
        behind=record.edges[..., 1],
        milestones=_milestones(record.cells.detach(), c_0.detach(), milestones, c0 is not None).to(kind),
    )


def _wide(kind: torch.dtype) -> torch.dtype:
    """The type that state and scores of a type are computed in."""
    return torch.promote_types(kind, torch.float32)


def _lowered(
    x: Tensor, recurrent: tuple[Tensor | None, ...], kind: torch.dtype
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """The input and the cell's weights in the type that the op reads: autocast's, or that of the state, `kind`."""
    device = x.device.type
    lowers = torch.is_autocast_enabled(device) and kind != torch.float64  # autocast leaves float64 alone
    kind = torch.get_autocast_dtype(device) if lowers else kind
    return x.to(kind), tuple(None if weight is None else weight.to(kind) for weight in recurrent)


def _alive(listed: Tensor, counters: tuple[Tensor, Tensor], call: Call) -> Tensor:
    """The slots of the memories not evicted, oldest first, then an unused one, (B, most) int64; (B, 0) unbounded.

    How many there are follows from the counters: filled slots, and steps done before the call, (B,) each.
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
