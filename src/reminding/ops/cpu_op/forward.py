"""The forward pass of the CPU op, and what joins it to autograd.

Shapes: B batch, T time, I input, H hidden, G gate width, D score width, M memory slots, K k_top, N live (step, row)
pairs, S memories that any live step scored.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from reminding.ops import twice
from reminding.ops.contract import (
    LayerInput,
    OpRule,
    Recalled,
    gate_width,
    joint_bias,
    scorer_of,
    scorer_parts,
    slots_for,
)
from reminding.ops.cpu_op.backward import gradients_of, sab_backward
from reminding.ops.cpu_op.checks import check_devices, check_forward
from reminding.ops.cpu_op.eager import is_eager
from reminding.ops.cpu_op.packing import (
    KEEP_GATES,
    KEEP_NOTHING,
    KEEP_REPLAY,
    Given,
    Weights,
    cuts_in,
    milestones_in,
    needed,
    pack,
    raw,
    row_groups,
)

# fmt: off
Outputs = tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
    Tensor, Tensor, Tensor,
]
# fmt: on


SCHEMA = (
    "("
    "Tensor x, Tensor h0, Tensor c0, Tensor memory0, Tensor count0, Tensor step0, Tensor weight_ih, Tensor "
    "weight_hh, Tensor? bias_ih, Tensor? bias_hh, Tensor? w1, Tensor? w2, Tensor? w3, Tensor received0, "
    "SymInt[] rule, SymInt keep, SymInt[] milestones"
    f") -> ({', '.join(['Tensor'] * 17)})"
)
"""Written out, since PyTorch before 2.7 cannot infer it from the annotations."""


MANY = 2**17
"""Elements of output and memory from which any of the tensors can be worth huge pages."""


@torch.library.custom_op("reminding::sab_forward", mutates_args=(), device_types="cpu", schema=SCHEMA)
def sab_forward(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    memory0: Tensor,
    count0: Tensor,
    step0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    w1: Tensor | None,
    w2: Tensor | None,
    w3: Tensor | None,
    received0: Tensor,
    rule: list[int],
    keep: int,
    milestones: list[int],
) -> Outputs:
    """What `layer` returns but for h, and what the backward pass needs: see `_empty_outputs`."""
    given, weights = (x, h0, c0, memory0, count0, step0), (weight_ih, weight_hh, bias_ih, bias_hh, w1, w2, w3)
    return cast("Any", compute(*given, *weights, received0, rule, keep, milestones))


def compute(*inputs: Any) -> tuple[Tensor, ...]:
    """What `sab_forward` returns, of its arguments in their order."""
    given, weights, (received0, rule, keep, milestones) = Given(*inputs[:6]), Weights(*inputs[6:13]), inputs[13:]
    named = {"received0": received0, "rule": rule, "keep": keep, "milestones": milestones}
    check_forward({**given._asdict(), **weights._asdict(), **named})
    out = _empty_outputs(given.x, given.h0, given.c0, given.memory0, weights.w1, OpRule(*rule), keep, milestones)
    if out[0].numel() + out[3].numel() >= MANY:
        raw().ask_for_huge_pages(out)
    M0, memory, received = given.memory0.shape[1], out[3], out[7]
    if M0:
        memory[:, :M0] = given.memory0
    if received.shape[1]:
        received[:, :M0] = received0
        received[:, M0:] = 0
    _fill(out, given, weights, rule, keep, milestones)
    return out


def _fill(
    out: tuple[Tensor, ...], given: Given, weights: Weights, rule: list[int], keep: int, milestones: list[int]
) -> None:
    """Run all steps, with tensors of `_empty_outputs` that hold the memories given."""
    output, summary, c_T, memory, peak, slots, recalled, received, alive, milestone_c, *saved = out
    edge, inverse, gates, cells, queries, keys, entering_c = saved
    r, w1, memory0, (T, B) = OpRule(*rule), weights.w1, given.memory0, given.x.shape[:2]
    M0, M = memory0.shape[1], memory.shape[1]
    weight_hh = needed(weights.weight_hh)
    packed = pack(weights.weight_ih, weight_hh, w1, weights.w2, r, True)
    bias = joint_bias(weights.bias_ih, weights.bias_hh, weight_hh, r)
    x, h0, c0, _, count0, step0 = (tensor.contiguous() for tensor in given)
    score = weights.w3.contiguous() if weights.w3 is not None else None
    noting = (milestone_c, *milestones) if milestones and r.has_c else (None, 1, 0)
    state = [x, h0, c0, step0, count0, score]
    record = [output, summary, memory, slots, edge, recalled, inverse, entering_c if keep == KEEP_REPLAY else None]

    def run(first: int, *kept: Tensor | None) -> None:
        raw().forward(state, bias, packed, kept, record, c_T, peak, [received, alive], *noting, rule, first)

    def given_keys(first: int, last: int, keys: Tensor) -> Tensor:
        if r.has_keys and M0 > 0:
            keys[:, :M0] = memory0[first:last] @ needed(w1).t()
        return keys

    if keep == KEEP_GATES:
        run(0, gates, cells, queries, given_keys(0, B, keys))
        return
    groups = row_groups(B, T)
    spare_keys = keys.new_empty(groups[0][1] if groups else 0, M, keys.shape[2])  # the first group is the largest
    for first, last in groups:
        run(first, None, None, None, given_keys(first, last, spare_keys[: last - first]))


def _empty_outputs(
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    memory0: Tensor,
    w1: Tensor | None,
    rule: OpRule,
    keep: int,
    milestones: list[int],
) -> tuple[Tensor, ...]:
    T, B = x.shape[:2]
    H, D, K, M = h0.shape[1], w1.shape[0] if w1 is not None else 0, rule.k_top, slots_for(memory0, T, rule)
    kept, cuts = (
        (B, T) if keep == KEEP_GATES else (0, T),
        cuts_in(T, rule) if keep == KEEP_REPLAY and rule.has_c else 0,
    )
    return (
        x.new_empty(T, B, H),  # output
        x.new_empty(T, B, H),  # summary
        torch.empty_like(c0, memory_format=torch.contiguous_format),  # c_T
        x.new_empty(B, M, H),  # memory
        x.new_empty(B, 2),  # peak: the largest |W1 m| and |W2 h_hat| of each row, where the score is additive
        x.new_empty(T, B, K, dtype=torch.int32),  # slots
        x.new_empty(T, B, K),  # weights
        x.new_empty(B, M if rule.bounded else 0),  # received
        x.new_empty(B, min(M, rule.capacity) if rule.bounded else 0, dtype=torch.int64),  # alive
        x.new_empty(milestones_in(T, milestones), *c0.shape),  # milestones
        x.new_empty(T, B, dtype=torch.int32),  # edge: the slot that set the threshold, -1 if none
        x.new_empty(T, B),  # inverse: 1 / what the weights were divided by; problem.h says what 0 and -1 mean
        x.new_empty(*kept, gate_width(H, rule)),  # gates, activated
        x.new_empty(*kept, H if rule.has_c else 0),  # cells: c of every step
        x.new_empty(*kept, D),  # queries
        x.new_empty(B if keep == KEEP_GATES else 0, M, D),  # keys
        x.new_empty(B, cuts, H),  # entering_c: c at the cuts
    )


@sab_forward.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    check_devices(arguments)
    x, h0, c0, memory0 = arguments[:4]
    w1, rule, keep, milestones = arguments[10], *arguments[14:]
    return _empty_outputs(x, h0, c0, memory0, w1, OpRule(*rule), keep, milestones)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, received0, rule, keep, _ = inputs
    out, summary, _, memory, peak, slots, weights, received, alive, milestone_c, *saved = output
    ctx.save_for_backward(*tensors, out, summary, memory, slots, weights, *saved, received0, alive)
    ctx.mark_non_differentiable(peak, slots, weights, received, alive, milestone_c, *saved)
    ctx.set_materialize_grads(False)
    ctx.rule, ctx.keep = rule, keep


class SabForward(torch.autograd.Function):
    """`sab_forward` and its gradient, for calls that need no operator: see `is_eager`."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        """What `sab_forward` returns."""
        output = compute(*inputs)
        _setup_context(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *d_outputs: Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The gradients of what `sab_forward` was given."""
        return _backward(ctx, *d_outputs)


def _backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
    d_output, d_summary, d_c_T, d_memory = d_outputs[:4]
    need = cast("tuple[bool, ...]", ctx.needs_input_grad)
    if torch.is_grad_enabled():
        return _differentiable(ctx, d_outputs[:4])
    given = (d_output, d_summary, d_c_T, d_memory, *ctx.saved_tensors[:-2])
    if is_eager(given):  # then autograd has seen to it that they fit together
        grads = gradients_of(given, ctx.rule, ctx.keep, need[0])
    else:
        grads = sab_backward(*given, ctx.rule, ctx.keep, need[0])
    every = (*grads[:4], None, None, *grads[4:])  # the counters have none
    found = [grad if wanted else None for grad, wanted in zip(every, need[:13], strict=True)]
    return (*found, None, None, None, None)


def _differentiable(ctx: Any, d_outputs: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """The gradients with a graph of their own, as `create_graph=True` asks for."""
    saved, rule = ctx.saved_tensors, OpRule(*ctx.rule)
    (x, h0, c0, memory0, count0, step0, *weights), received0, alive = saved[:13], saved[-2], saved[-1]
    recurrent, scorer = tuple(weights[:4]), scorer_of(weights[4:7], h0.shape[1], rule)
    given = LayerInput(x, h0, c0 if rule.has_c else None, memory0, count0, step0, recurrent, tuple(scorer), received0)
    d_x, d_h0, d_c0, d_memory0, *d_weights = twice.differentiate(given, rule, alive, d_outputs)
    d_scorer = [torch.zeros_like(w) if d is None else d for w, d in zip(scorer, d_weights[4:], strict=True)]
    scored = scorer_parts(d_scorer, rule)
    return (d_x, d_h0, d_c0, d_memory0, None, None, *d_weights[:4], *scored, None, None, None, None)


sab_forward.register_autograd(_backward, setup_context=_setup_context)


def layer(
    given: LayerInput, rule: OpRule, *, replay: bool = False, milestones: tuple[int, int] | None = None
) -> Recalled:
    """Run one SAB layer over T steps.   [Ke et al. 2018, Algorithm 1]

    Args:
        given: float32 or float64 on the CPU, all of it.
        rule: see `OpRule.of`.
        replay: recompute gates in the backward pass instead of keeping them.
        milestones: (stride, offset): also return c as it enters the steps t, counted from 0 in this call, with
            (t - offset) % stride == 0.

    Returns:
        Recalled.
    Gradient: of `output`, `summary`, `h`, `c` and `memory`, to x, h0, c0, memory0 and all weights; as autograd has it
        for the equations with (h, c) detached at the cuts. Nothing else carries one.
    """
    weight_ih, weight_hh, bias_ih, bias_hh = given.recurrent
    assert weight_ih is not None and weight_hh is not None, "only the biases may be left out"
    x, h0 = given.x, given.h0
    scorer = scorer_parts(given.scorer, rule)
    c0 = h0.new_empty(h0.shape[0], 0) if given.c0 is None else given.c0
    inputs = (x, h0, c0, given.memory0, *given.recurrent, *scorer)
    differentiate = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs)
    keep = (KEEP_REPLAY if replay else KEEP_GATES) if differentiate else KEEP_NOTHING
    received0 = given.received0
    if received0 is None:
        assert not rule.bounded, "only with a capacity may memories have to go"
        received0 = h0.new_empty(h0.shape[0], 0)
    steps = [milestones[0], milestones[1] % milestones[0]] if milestones is not None else []
    # fmt: off
    tensors = (
        x, h0, c0, given.memory0, given.count0, given.step0, weight_ih, weight_hh, bias_ih, bias_hh, *scorer,
        received0,
    )
    # fmt: on
    run: Any = sab_forward
    if is_eager(tensors):
        run = cast("Any", SabForward).apply if differentiate else compute
    out = run(*tensors, list(rule), keep, steps)
    output, summary, c, memory, peak, slots, weights, received, alive, entering, edge = out[:11]
    h = output[-1] if x.shape[0] > 0 else h0
    return Recalled(output, summary, h, c, memory, peak, slots, weights, received, alive, edge, entering)
