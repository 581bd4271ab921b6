"""Credit into the past of a stream: kept by the state that it came to, and sent back through the calls before it.

Shapes: B batch, N streams, T time, I input, M memory slots, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from reminding.nn.credit.autograd import Gradients, add_to, credit_of, filled, flat, with_zeros
from reminding.nn.credit.bank import Bank, Borders
from reminding.nn.credit.encoded import Encode, Encoded
from reminding.nn.credit.network import Network, totals
from reminding.nn.credit.op_replay import ArrivedCredit
from reminding.nn.credit.op_sweep import credit_past
from reminding.nn.credit.sweep import Sweep
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.tensors import all_finite, by_row, counting_on_host
from reminding.nn.state.past.history import History, HistoryData, side_by_side
from reminding.nn.state.past.owed import Owed, StateCredit, credits_in, sent_on
from reminding.nn.state.past.segments import EncoderInput, Segment
from reminding.nn.state.stream import SABState
from reminding.ops import untraced
from reminding.ops.backends import leave
from reminding.ops.batched import arrives_batched, one_by_one


@dataclass(frozen=True)
class PastCredit:
    """The past of a stream, as credit is sent into it.

    Attributes:
        network: with the encoder's tensors, if there is one.
        encode: None without an encoder.
        on_op: whether the network's backend sends credit into past calls; else plain PyTorch does.
        may_fall_back: whether plain PyTorch may do so where the backend would not be exact.
    """

    network: Network
    history: History
    encode: Encode | None
    on_op: bool
    may_fall_back: bool

    @property
    def _constant_to(self) -> Tensor | None:
        """The last stream step of each stream that lies behind the horizon, (N,)."""
        horizon, begun = self.network.rule.horizon, self.history.begun
        return None if horizon is None or begun is None else begun - horizon

    def _bank(self, layer: int, like: Tensor) -> Bank:
        """All memories of a layer. Those evicted before the calls since credit was last sent, and those beyond the
        horizon, are constants.

        Args:
            like: a memory's value, (..., H).
        """
        evicted = [(torch.arange(len(part.step)), part) for part in self.history.evicted[layer : layer + 1]]
        parts = [*evicted, *self.history.remembered(layer, like)]
        value, step = side_by_side(parts, self.history.streams, like)
        gone: Tensor | None = None
        width = sum(part.step.shape[1] for _, part in evicted)
        if width:
            gone = torch.zeros_like(step, dtype=torch.bool)
            gone[:, :width] = True
        if self._constant_to is not None:
            beyond = step <= self._constant_to.to(step.device).unsqueeze(1)
            gone = beyond if gone is None else gone | beyond
        return Bank(value, step, gone)

    def send(self, credits: Sequence[StateCredit]) -> list[Tensor | None]:
        """The gradient of the network's tensors from the credit of some states, on the op if it serves.

        Raises:
            ValueError: the op would not be exact, and was asked for by name.
        """
        network, runs = self.network, self.history.runs
        if network.note is not None and self.history.stream is not None:
            network = replace(network, note=network.note.of_streams(self.history.stream))
        if not runs:
            return [None for _ in network.tensors]
        constant_to = self._constant_to
        cut_at = None if constant_to is None else constant_to + 1
        entering = [part.entering.h for part in runs[0].layers]
        credits = [credit.of_type(entering[0].dtype) for credit in credits]  # the state may have been converted since
        banks, borders = [self._bank(layer, h) for layer, h in enumerate(entering)], Borders(credits)
        add_to(banks, credits)
        if self.on_op and (network.op.drops_state() or not any(run.drops_state for run in runs)):
            found = credit_past(network, runs, ArrivedCredit(banks, borders, cut_at), self.encode)
            if found is not None:
                return found
            leave(network.backend, "the past calls that credit goes to", automatic=self.may_fall_back)
        segments = HistoryData(runs).segments
        sweep = Sweep(network, segments, banks, borders, self.history.streams, cut_at)
        inputs = _SegmentInputs(self.encode, sweep)
        for segment in reversed(segments):
            x = inputs.of(segment)
            inputs.add(segment, sweep.visit(segment, x, None, None, need_x=segment.encoder_input is not None))
        inputs.finish()
        return totals(sweep.d_tensors, inputs.d_tensors)

    def send_on(self, waiting: Sequence[Owed], further: Sequence[StateCredit] = ()) -> list[Tensor | None]:
        """`send` the credit that waits, which counts as sent on once nothing has failed.

        Args:
            further: credit that has just come.
        """
        found = self.send([*credits_in(waiting), *further])
        sent_on(waiting)
        return found


@dataclass(frozen=True)
class _Call:
    """A call as its state's credit is concerned.

    Attributes:
        past: of the state that it begins with.
        owed: where that state's credit waits.
        due: whether the call's backward pass sends on what waits.
    """

    past: PastCredit
    state: SABState
    owed: Owed
    due: bool

    @property
    def waits(self) -> bool:
        """Whether credit that arrives waits to be sent on, or is sent on with other credit that has waited."""
        return self.past.history.waits or (not self.due and bool(self.owed.waiting))


def with_past(state: SABState, past: PastCredit, owed: Owed, due: bool) -> SABState:
    """The same numbers, whose gradient goes to the network's tensors, by replay of the kept segments with them.

    Args:
        owed: where credit of the state waits until it is sent on.
        due: whether the backward pass sends on what the states before it, and it itself, are owed.
    """
    call = _Call(past, state, owed, due)
    results = cast("tuple[Tensor, ...]", _CreditToPast.apply(call, *flat(state), *past.network.tensors))
    return filled(state, results)


class _CreditToPast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.call = call
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*call.past.network.tensors)  # so that a change in between is noticed
        return tuple(tensor.detach() for tensor in flat(call.state))

    @staticmethod
    @untraced.backward
    def backward(ctx: Any, *d_state: Tensor | None) -> Gradients:  # pyright: ignore[reportIncompatibleMethodOverride]
        if torch.is_grad_enabled() and any(d is not None for d in d_state):
            raise RuntimeError(
                "second derivatives (create_graph=True) do not reach into past calls: pass state.detach() to the "
                "call whose loss is differentiated twice, or build the layer with horizon=0"
            )
        saved = cast("tuple[Tensor, ...]", ctx.saved_tensors)
        call = cast("_Call", ctx.call)
        if call.waits and any(map(arrives_batched, d_state)):
            raise RuntimeError(
                "batched gradients (is_grads_batched=True) cannot wait for the calls of credit_every: set "
                "layer.credit_every = 1, or pass state.detach() to the call that is differentiated"
            )
        wanted = cast("tuple[bool, ...]", ctx.needs_input_grad)

        def backward(d_state: Sequence[Tensor | None]) -> Gradients:
            found, none = _arrive(call, d_state), [None] * len(flat(call.state))
            if found is None:
                return (None, *none, *(None for _ in saved))
            return with_zeros((None, *none, *found), saved, wanted, call.past.network.modules.sparse)

        with counting_on_host():
            return tuple(one_by_one(backward, d_state))


def _arrive(call: _Call, d_state: Sequence[Tensor | None]) -> list[Tensor | None] | None:
    """Take the credit of a call's state; the gradient of the network's tensors if it is sent on now, or None."""
    past = call.past
    stream = past.history.stream
    assert stream is not None
    arrived = credit_of(call.state, stream, _of_finite_rows(d_state), past.network.rule.backtrack)
    if call.due:
        return past.send_on([*past.history.owing, call.owed], [arrived])
    call.owed.add(arrived)
    return past.send([arrived] * call.owed.times_sent) if call.owed.times_sent else None


def _of_finite_rows(d_state: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The gradient of a state, 0 in rows where any of it is not finite: the call itself gives NaN for these, once."""
    given = [d for d in d_state if d is not None]
    if all(all_finite(d) for d in given):
        return list(d_state)
    finite = torch.stack([by_row(d).isfinite().all(1) for d in given]).all(0)  # (B,)
    return [None if d is None else torch.where(finite.view(-1, *[1] * (d.dim() - 1)), d, 0) for d in d_state]


def counted(state: SABState, every: int) -> SABState:
    """A state before the first call, which counts as one of those whose credit is sent on together.

    Args:
        every: `credit_every`.
    """
    return state if every == 1 else replace(state, history=state.history.changed(owed=(Owed(),)))


def ordered(state: SABState, rule: Rule, every: int) -> History:
    """A state's history, put in order unless credit waits in it.

    Args:
        rule: of the layer that goes on from it; every: its `credit_every`.
    """
    history = state.history.changed(rule=rule)
    if history.owing and (history.waits or len(history.owed) < every):
        return history
    sent_on(history.owing)
    return history.in_order([layer.memory for layer in state.layers], state.step)


class _SegmentInputs:
    """The inputs of a sweep's segments, whose encoder inputs come one after the other."""

    def __init__(self, encode: Encode | None, sweep: Sweep) -> None:
        self._encode, self._sweep = encode, sweep
        self._given: EncoderInput | None = None
        self._encoded: Encoded | None = None
        self.d_tensors: list[Tensor | None] = [None for _ in sweep.leaves]

    def of(self, segment: Segment) -> Tensor:
        """A segment's input, (S, R, I)."""
        if segment.x is not None:
            return segment.x
        assert self._encode is not None and segment.encoder_input is not None
        if segment.encoder_input is not self._given:
            self.finish()
            self._given = segment.encoder_input
            self._encoded = Encoded(self._given, self._encode, self._sweep.network, self._sweep.leaves)
        assert self._encoded is not None
        return self._encoded.at(*_place_of(segment))

    def add(self, segment: Segment, d_x: Tensor | None) -> None:
        """Credit for a segment's input."""
        if d_x is not None and self._encoded is not None and segment.column is not None:
            self._encoded.add(*_place_of(segment), d_x)

    def finish(self) -> None:
        """Send the credit of the present encoder input through the encoder."""
        if self._encoded is not None:
            self.d_tensors = totals(self.d_tensors, self._encoded.d_tensors())
        self._given = self._encoded = None


def _place_of(segment: Segment) -> tuple[Tensor, Tensor]:
    """At which steps (S, 1) and columns (R,) of its encoder input a segment lies."""
    assert segment.column is not None
    return (segment.start + torch.arange(segment.steps)).unsqueeze(1), segment.column
