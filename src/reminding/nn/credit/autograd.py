"""Where autograd meets replay: passes whose graph is never kept, and credit into the past of a stream.

Shapes: B batch, T time, I input, M memory slots, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from reminding.nn.credit.bank import Bank
from reminding.nn.credit.op_sweep import OpLayer, credit_past
from reminding.nn.credit.sweep import Network, Sweep, gradients, total
from reminding.nn.parts.cells import Extra
from reminding.nn.parts.generators import drawing_as
from reminding.nn.parts.memory import FAR, NOTHING
from reminding.nn.state.history import Departed, Kept
from reminding.nn.state.segments import Segment, Source
from reminding.nn.state.stream import LayerState, Recall, SABState

Gradients = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Pass:
    """All layers run over a stretch of time.

    Attributes:
        output: (T, B, H); after: the state after it; recall: if asked for.
        segments: gives its segments, oldest first; None where there will be no replay.
        stored: per layer the states stored in memory, for layers that may evict some of them again within the pass.
    """

    output: Tensor
    after: SABState
    recall: Recall | None
    segments: Callable[[], list[Segment]] | None = None
    stored: tuple[Departed, ...] = ()


def flat(state: SABState) -> list[Tensor]:
    """What may carry a gradient: per layer h, the further state, and the values in memory."""
    return [tensor for layer in state.layers for tensor in (layer.h, *layer.extra, layer.memory.value)]


def filled(state: SABState, tensors: Sequence[Tensor]) -> SABState:
    """The state with the tensors of `flat` exchanged."""
    given = iter(tensors)
    layers = tuple(
        LayerState(next(given), tuple(next(given) for _ in layer.extra), replace(layer.memory, value=next(given)))
        for layer in state.layers
    )
    return replace(state, layers=layers)


@dataclass
class _Call:
    """A pass that is to be run without a graph: how, on what, and, once it has run, what came out."""

    run: Callable[[Tensor, SABState], Pass]
    network: Network
    before: SABState
    ran: Pass | None = None


def replayed(run: Callable[[Tensor, SABState], Pass], network: Network, x: Tensor, before: SABState) -> Pass:
    """Run a pass without keeping its graph; when credit reaches its segments they are run again.

    Args:
        run: computes it, with segments; x: (T, B, I).
    """
    call = _Call(run, network, before)
    results = cast("tuple[Tensor, ...]", _Replayed.apply(call, x, *flat(before), *network.parameters))
    output, summary, *after = results
    ran = call.ran
    assert ran is not None
    recall = None if ran.recall is None else replace(ran.recall, summary=summary)
    return replace(ran, output=output, after=filled(ran.after, after), recall=recall)


class _Replayed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor, *tensors: Tensor) -> tuple[Tensor | None, ...]:
        ctx.ran = ran = call.ran = call.run(x, filled(call.before, tensors))
        ctx.network, ctx.before = call.network, filled(call.before, [tensor.detach() for tensor in flat(call.before)])
        ctx.save_for_backward(x, *call.network.parameters)  # so that a change in between is noticed
        ctx.set_materialize_grads(False)
        summary = None if ran.recall is None else ran.recall.summary.detach()
        return ran.output.detach(), summary, *(tensor.detach() for tensor in flat(ran.after))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_results: Tensor | None) -> Gradients:  # pyright: ignore[reportIncompatibleMethodOverride]  the decorator's own annotation
        ran, before = cast("Pass", ctx.ran), cast("SABState", ctx.before)
        x = cast("Tensor", ctx.saved_tensors[0])
        d_output, d_summary, *d_after = d_results
        assert ran.segments is not None
        segments = ran.segments()
        banks = _banks_of_pass(before, ran)
        sweep = Sweep(ctx.network, segments, banks, ran.after.step, *_arrived(ctx.network, banks, ran.after, d_after))
        d_x = torch.zeros_like(x) if ctx.needs_input_grad[1] else None
        stop = len(x)
        for segment in reversed(segments):
            part = slice(stop - segment.steps, stop)
            given = (None if gradient is None else gradient[part] for gradient in (d_output, d_summary))
            d_part = sweep.visit(segment, x[part], *given, need_x=d_x is not None)
            if d_x is not None and d_part is not None:
                d_x[part] = d_part
            stop -= segment.steps
        return None, d_x, *_d_state(sweep, before), *sweep.d_parameters


def _banks_of_pass(before: SABState, ran: Pass) -> list[Bank]:
    """Per layer every state that was remembered at some step of a pass."""
    if not ran.stored:
        return [_bank(layer) for layer in ran.after.layers]
    return [_bank(layer, stored) for layer, stored in zip(before.layers, ran.stored, strict=True)]


def _bank(layer: LayerState, *further: Departed) -> Bank:
    value = [layer.memory.value.detach(), *(part.value for part in further)]
    step = [layer.memory.ascending_steps, *(part.step for part in further)]
    return Bank(torch.cat(value, 1), torch.cat(step, 1)) if further else Bank(value[0], step[0])


def _places(bank: Bank, layer: LayerState) -> Tensor:
    """Where a layer's memories lie in a bank, (B, M)."""
    step = layer.memory.ascending_steps
    every = torch.arange(len(step), device=step.device)
    return bank.places(step.masked_fill(step == FAR, NOTHING).unsqueeze(0), every).squeeze(0)


def _arrived(
    network: Network, banks: list[Bank], state: SABState, d_state: Sequence[Tensor | None]
) -> tuple[list[Tensor], list[Extra]]:
    """The gradient of a state, given in the order of `flat`, None for zeros: that of h and of the further state.

    One of each per layer; that of the memories goes to the banks.
    """
    d_h: list[Tensor] = []
    d_extra: list[Extra] = []
    given = iter(d_state)
    for bank, layer in zip(banks, state.layers, strict=True):
        d_h.append(_or_zeros(next(given), layer.h))
        d_extra.append(tuple(_or_zeros(next(given), tensor) for tensor in layer.extra))
        d_memory = next(given)
        if d_memory is not None and network.rule.backtrack:
            bank.add(_places(bank, layer), d_memory)
    return d_h, d_extra


def _or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient


def _d_state(sweep: Sweep, before: SABState) -> Iterator[Tensor | None]:
    """The gradient of the state before a sweep's oldest segment, in the order of `flat`."""
    for bank, layer, d_h, d_extra in zip(sweep.banks, before.layers, sweep.d_h, sweep.d_extra, strict=True):
        yield d_h
        yield from d_extra
        yield bank.of(_places(bank, layer))


@dataclass(frozen=True)
class _Past:
    """The kept past of the state a call begins with."""

    network: Network
    kept: Kept
    state: SABState
    encode: Callable[[Source], Tensor] | None
    op: OpLayer | None

    @property
    def constant_to(self) -> Tensor | None:
        """The last stream step of each row that lies behind the horizon, (B,)."""
        horizon = self.network.rule.horizon
        return None if horizon is None else self.state.step - horizon

    def banks(self) -> list[Bank]:
        """What is remembered, and what has departed; this, and what lies behind the horizon, passes no credit on."""
        banks: list[Bank] = []
        for number, layer in enumerate(self.state.layers):
            value, step = layer.memory.value.detach(), layer.memory.ascending_steps
            gone = torch.zeros_like(step, dtype=torch.bool)
            if self.kept.departed:
                departed = self.kept.departed[number]
                value, step = torch.cat([value, departed.value], 1), torch.cat([step, departed.step], 1)
                gone = torch.cat([gone, torch.ones_like(departed.step, dtype=torch.bool)], 1)
            if self.constant_to is not None:
                gone = gone | (step <= self.constant_to.to(step.device).unsqueeze(1))
            banks.append(Bank(value, step, gone))
        return banks


def with_past(
    state: SABState,
    kept: Kept,
    network: Network,
    encode: Callable[[Source], Tensor] | None,
    op: OpLayer | None,
) -> SABState:
    """The same numbers, whose gradient goes to the parameters, by replay of the kept segments with today's weights.

    Args:
        encode: makes x (T, B, I) of a source once more, differentiably; None without an encoder.
        op: the network's one layer, where the op can compute it; None: run again in plain PyTorch.
    """
    if not kept.segments:
        return state
    past = _Past(network, kept, state, encode, op)
    results = cast("tuple[Tensor, ...]", _CreditToPast.apply(past, *flat(state), *network.parameters))
    return filled(state, results)


class _CreditToPast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, past: _Past, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.past = past
        ctx.set_materialize_grads(False)
        return tuple(tensor.detach() for tensor in flat(past.state))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d_state: Tensor | None) -> Gradients:  # pyright: ignore[reportIncompatibleMethodOverride]
        past = cast("_Past", ctx.past)
        cut_at = None if past.constant_to is None else past.constant_to + 1
        banks = past.banks()
        d_h, d_extra = _arrived(past.network, banks, past.state, d_state)
        none = [None] * len(flat(past.state))
        if past.op is not None:
            given = (past.op, past.kept.segments, banks[0], past.state.step, (d_h[0], d_extra[0]), cut_at)
            found = credit_past(*given, past.encode)
            if found is not None:
                return None, *none, *found
        sweep = Sweep(past.network, past.kept.segments, banks, past.state.step, d_h, d_extra, cut_at)
        inputs = _Inputs(past.encode, past.network.parameters)
        for segment in reversed(past.kept.segments):
            x = inputs.of(segment)
            inputs.add(segment, sweep.visit(segment, x, None, None, need_x=segment.source is not None))
        inputs.finish()
        both = zip(sweep.d_parameters, inputs.d_parameters, strict=True)
        return None, *none, *(total(*pair) for pair in both)


class _Inputs:
    """The inputs of past segments: as they were kept, or made again by the encoder, which then gets its gradient."""

    def __init__(self, encode: Callable[[Source], Tensor] | None, parameters: tuple[Tensor, ...]) -> None:
        self._encode, self._parameters = encode, parameters
        self._source: Source | None = None
        self._encoded: Tensor | None = None
        self._credit: Tensor | None = None
        self.d_parameters: list[Tensor | None] = [None] * len(parameters)

    def of(self, segment: Segment) -> Tensor:
        """A segment's input, (S, R, I)."""
        if segment.x is not None:
            return segment.x
        assert self._encode is not None and segment.source is not None and segment.column is not None
        if segment.source is not self._source:
            self.finish()
            self._source = segment.source
            with torch.enable_grad(), drawing_as(segment.source.random, segment.source.input.device):
                self._encoded = self._encode(segment.source)
        assert self._encoded is not None
        part = self._encoded[segment.start : segment.start + segment.steps]
        return part.detach()[:, segment.column.to(part.device)]

    def add(self, segment: Segment, d_x: Tensor | None) -> None:
        """Credit for a segment's input."""
        if d_x is None or self._encoded is None or segment.column is None:
            return
        if self._credit is None:
            self._credit = torch.zeros_like(self._encoded)
        self._credit[segment.start : segment.start + segment.steps, segment.column.to(d_x.device)] += d_x

    def finish(self) -> None:
        """Send the credit of the present source through the encoder."""
        if self._encoded is not None and self._credit is not None:
            found = gradients([self._encoded], list(self._parameters), [self._credit])
            self.d_parameters = [total(*pair) for pair in zip(self.d_parameters, found, strict=True)]
        self._source = self._encoded = self._credit = None
