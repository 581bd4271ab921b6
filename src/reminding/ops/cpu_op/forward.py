"""The forward pass of the CPU op, and what joins it to autograd.

Shapes: B batch, T time, I input, H hidden, G gate width, D score width, M memory slots, K k_top, N live (step, row)
pairs, S memories that any live step scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from reminding.ops import twice, untraced
from reminding.ops.batched import one_by_one
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
    given_of,
    milestones_in,
    needed,
    products_of,
    raw,
    whole,
)

# fmt: off
Outputs = tuple[
    Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
    Tensor, Tensor, Tensor, Tensor,
]
# fmt: on


SCHEMA = (
    "("
    "Tensor x, Tensor h0, Tensor c0, Tensor memory0, Tensor count0, Tensor step0, Tensor weight_ih, Tensor "
    "weight_hh, Tensor? bias_ih, Tensor? bias_hh, Tensor? w1, Tensor? w2, Tensor? w3, Tensor received0, "
    "Tensor? factor, SymInt[] rule, SymInt keep, SymInt[] milestones"
    f") -> ({', '.join(['Tensor'] * 18)})"
)
"""Written out, since PyTorch before 2.7 cannot infer it from the annotations."""


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
    factor: Tensor | None,
    rule: list[int],
    keep: int,
    milestones: list[int],
) -> Outputs:
    """What `layer` returns but for h, and what the backward pass needs: see `_empty_outputs`."""
    given, weights = (x, h0, c0, memory0, count0, step0), (weight_ih, weight_hh, bias_ih, bias_hh, w1, w2, w3)
    return cast("Any", compute(*given, *weights, received0, factor, rule, keep, milestones))


def compute(*inputs: Any, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
    """What `sab_forward` returns, of its arguments in their order.

    Args:
        lengths: see `LayerInput`.
    """
    received0, factor, rule, keep, milestones = inputs[13:]
    given, weights = Given(*inputs[:6], lengths=lengths, factor=factor), Weights(*inputs[6:13])
    named = {"received0": received0, "rule": rule, "keep": keep, "milestones": milestones}
    check_forward({**given._asdict(), **weights._asdict(), **named})
    given, r = whole(given), OpRule(*rule)
    received0 = received0.contiguous() if r.bounded else given.memory0.new_empty(0)
    bias = joint_bias(weights.bias_ih, weights.bias_hh, needed(weights.weight_hh), r)
    score = None if weights.w3 is None else weights.w3.contiguous()
    state, products = given_of(given, score), products_of(weights)
    return tuple(raw().forward(state, given.memory0, received0, bias, products, keep, milestones, rule))


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
        x.new_empty(T, B, dtype=torch.int32),  # behind: the slot at rank K that took part in the choice, -1 if none
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
    w1, rule, keep, milestones = arguments[10], *arguments[15:]
    return _empty_outputs(x, h0, c0, memory0, w1, OpRule(*rule), keep, milestones)


DIFFERENTIABLE = 4
"""How many of its outputs carry a gradient, the first: output, summary, c_T and memory."""


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _save(ctx, inputs, output)
    ctx.mark_non_differentiable(*output[DIFFERENTIABLE:])


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...], lengths: Tensor | None = None) -> None:
    *tensors, received0, factor, rule, keep, _ = inputs
    out, summary, _, memory, _, slots, weights, _, alive, _, _, *saved = output
    ctx.save_for_backward(*tensors, out, summary, memory, slots, weights, *saved, factor, received0, alive)
    ctx.set_materialize_grads(False)
    ctx.rule, ctx.keep, ctx.lengths = rule, keep, lengths


class SabForward(torch.autograd.Function):
    """`sab_forward` and its gradient, for calls that need no operator: see `is_eager`."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        """The outputs of `sab_forward` that carry a gradient; the others are added to a list, the last argument.

        Before it come the `lengths` of a `LayerInput`.
        """
        *given, lengths, others = inputs
        output = compute(*given, lengths=lengths)
        _save(ctx, tuple(given), output, lengths)
        others.extend(output[DIFFERENTIABLE:])
        return output[:DIFFERENTIABLE]

    @staticmethod
    @untraced.backward
    def backward(ctx: Any, *d_outputs: Tensor | None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The gradients of what `sab_forward` was given."""
        return (*_backward(ctx, *d_outputs), None, None)


def _backward(ctx: Any, *d_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
    if torch.is_grad_enabled():
        return _differentiable(ctx, d_outputs[:4])
    saved = cast("tuple[Tensor, ...]", ctx.saved_tensors)  # a checkpoint lets them be asked for once
    return tuple(one_by_one(lambda d: _gradients(ctx, saved, d), d_outputs[:4]))


def _gradients(ctx: Any, saved: tuple[Tensor, ...], d_outputs: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """The gradients of what `sab_forward` was given, from those of its first four outputs."""
    need = cast("tuple[bool, ...]", ctx.needs_input_grad)
    given = (*d_outputs, *saved[:-2])
    if ctx.lengths is not None or is_eager(given):  # then autograd has seen to it that they fit together
        grads = gradients_of(given, ctx.rule, ctx.keep, need[0], ctx.lengths)
    else:
        grads = sab_backward(*given, ctx.rule, ctx.keep, need[0])
    every = (*grads[:4], None, None, *grads[4:])  # the counters have none
    found = [grad if wanted else None for grad, wanted in zip(every, need[:13], strict=True)]
    return (*found, None, None, None, None, None)


def _differentiable(ctx: Any, d_outputs: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    """The gradients with a graph of their own, as `create_graph=True` asks for."""
    saved, rule = ctx.saved_tensors, OpRule(*ctx.rule)
    (x, h0, c0, memory0, count0, step0, *weights), (factor, received0, alive) = saved[:13], saved[-3:]
    recurrent, scorer = tuple(weights[:4]), scorer_of(weights[4:7], h0.shape[1], rule)
    state = (x, h0, c0 if rule.has_c else None, memory0, count0, step0)
    given = LayerInput(*state, recurrent, tuple(scorer), received0, ctx.lengths, factor)
    d_x, d_h0, d_c0, d_memory0, *d_weights = twice.differentiate(given, rule, alive, d_outputs)
    d_scorer = [torch.zeros_like(w) if d is None else d for w, d in zip(scorer, d_weights[4:], strict=True)]
    scored = scorer_parts(d_scorer, rule)
    return (d_x, d_h0, d_c0, d_memory0, None, None, *d_weights[:4], *scored, None, None, None, None, None)


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
    sources = (x, h0, c0, given.memory0, *given.recurrent, *scorer)
    differentiate = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in sources)
    keep = (KEEP_REPLAY if replay else KEEP_GATES) if differentiate else KEEP_NOTHING
    received0 = given.received0
    if received0 is None:
        assert not rule.bounded, "only with a capacity may memories have to go"
        received0 = h0.new_empty(h0.shape[0], 0)
    steps = [milestones[0], milestones[1] % milestones[0]] if milestones is not None else []
    # fmt: off
    tensors = (
        x, h0, c0, given.memory0, given.count0, given.step0, weight_ih, weight_hh, bias_ih, bias_hh, *scorer,
        received0, given.factor,
    )
    # fmt: on
    inputs = (*tensors, list(rule), keep, steps)
    out: Any
    if not is_eager(tensors):
        assert given.lengths is None, "the operator that tracers see has no lengths"
        out = cast("Any", sab_forward)(*inputs)
    elif differentiate:
        others: list[Tensor] = []
        out = (*cast("Any", SabForward).apply(*inputs, given.lengths, others), *others)
    else:
        out = compute(*inputs, lengths=given.lengths)
    output, summary, c, memory, peak, slots, weights, received, alive, entering, behind = out[:11]
    if given.lengths is not None:
        h = output[given.lengths - 1, torch.arange(output.shape[1])]
    else:
        h = output[-1] if x.shape[0] > 0 else h0
    return Recalled(output, summary, h, c, memory, peak, slots, weights, received, alive, behind, entering)
