"""One call of a layer: which code runs each stretch of time, and what is kept for a replay.

Shapes: L layers, B batch, T time, I input, K recalled memories, H hidden.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from reminding.nn.credit.autograd import Pass, flat, replayed
from reminding.nn.credit.network import Network
from reminding.nn.forward import compiled, torch_kernels
from reminding.nn.forward.layer_call import LayerCall, LayerPass
from reminding.nn.forward.reference import unroll
from reminding.nn.layer.stretches import stack_layers
from reminding.nn.parts.outside import Watch
from reminding.nn.parts.rule import Rule
from reminding.nn.state.past.history import History, Lazy
from reminding.nn.state.past.passes import PassRecord, Pieces, cut
from reminding.nn.state.past.reachable import Evicted, stored_in
from reminding.nn.state.past.segments import EncoderInput, segment_starts
from reminding.nn.state.stream import Recall, SABState
from reminding.ops.backends import BACKENDS, REFERENCE, leave
from reminding.ops.untraced import own_precision


class OutOfRangeError(Exception):
    """Scores left the range in which the op is exact."""


@dataclass(frozen=True)
class Runner:
    """How the stretches of one call are run.

    Attributes:
        network: the layers, and the backend that is to run them.
        replay: whether segments are run again in the backward pass instead of keeping their graph.
        may_fall_back: whether another backend may be used where the chosen one cannot run a stretch.
        may_fuse: whether PyTorch's own recurrent kernels may be used where nothing is recalled.
        record: whether to note what was recalled.
        remember: whether to keep the stretches for credit from later calls.
        encoder_input: what the encoder made the input of; None without an encoder.
        dropout: probability of dropping outputs between layers; 0 unless training.
        defers: whether credit into past calls may wait for later calls to be sent on.
        factors: what recurrent dropout multiplies each layer's h by on its way into the cell, (B, H), for all rows of
            the call; () where it is off.
        watch: finds the tensors from outside that the user's cells and scorers compute with; None where no replay
            needs them.
    """

    network: Network
    replay: bool
    may_fall_back: bool
    may_fuse: bool
    record: bool
    remember: bool
    encoder_input: EncoderInput | None
    dropout: float
    defers: bool = False
    factors: tuple[Tensor, ...] = ()
    watch: Watch | None = None

    @property
    def keeps_graph(self) -> bool:
        """Whether plain PyTorch may run the call, or its recurrent kernels, whose graph autograd keeps."""
        fuses = self.may_fuse and not self.network.rule.remembers
        return fuses or (self.network.backend == REFERENCE and not self.replay)

    def in_precision(self, device: str) -> AbstractContextManager[Any]:
        """Where the call is run, on a kind of device: without autocast if its backend has no lower precision."""
        return nullcontext() if self.network.autocast is not None else own_precision(device)

    def takes_pieces(self, x: Tensor, state: SABState) -> bool:
        """Whether `run_pieces` serves for a call: with an op that takes lengths and graphs that autograd keeps."""
        network, rule = self.network, self.network.rule
        if network.backend == REFERENCE or network.note is not None or rule.k_top is None or self.keeps_graph:
            return False
        tensors = [tensor for layer in network.layers for tensor in layer.tensors]
        return BACKENDS[network.backend].op.takes_lengths([x, *flat(state), *tensors])

    def run(self, x: Tensor, state: SABState, start: int) -> tuple[Tensor, SABState, Recall | None]:
        """Run all layers over a stretch of time, (T, B, I), that begins at step `start` of the call."""
        try:
            return self._run(x, state, start)
        except OutOfRangeError:
            plain = replace(self, network=replace(self.network, backend=REFERENCE))
            return plain._run(x, state, start)

    def without_credit(self) -> Runner:
        """The same for streams that end within the call."""
        return replace(self, remember=False)

    def run_pieces(self, x: Tensor, state: SABState, pieces: Pieces) -> tuple[Tensor, SABState, Recall | None]:
        """Run all layers over rows of different lengths, (T, B, I), on an op that takes them.

        Raises:
            OutOfRangeError: the op cannot run it; `run` may.
        """
        ran = self._pass(x, state, self.network, begun=0, trace=self.remember, pieces=pieces)
        return ran.output, replace(ran.after, history=self._history(state, ran)), ran.recall

    def _run(self, x: Tensor, state: SABState, start: int) -> tuple[Tensor, SABState, Recall | None]:
        """`run` on the backend of the network.

        Raises:
            OutOfRangeError: the backend cannot run it; another must replay it from the start.
        """
        network, run = self.network, partial(self._pass, begun=start)
        by_segments = network.backend == REFERENCE or network.note is not None
        if self.replay and by_segments and not self._fuses(x, state) and len(x):
            ran = replayed(partial(run, trace=True), network, x, state, self.watch)
        else:
            ran = run(x, state, network, trace=self.remember)
        after = replace(ran.after, history=self._history(state, ran))
        return ran.output, after, ran.recall

    def _pass(
        self, x: Tensor, state: SABState, network: Network, begun: int, trace: bool, pieces: Pieces | None = None
    ) -> Pass:
        """All layers, one after the other."""
        lengths = None if pieces is None else pieces.steps
        encoded = self.encoder_input is not None
        given = x.detach().clone() if self.remember and not encoded else x.detach()
        steps_done, rule = state.step, network.rule
        starts = segment_starts(steps_done, len(x), rule) if trace else None
        passes: list[LayerPass] = []
        states: list[Tensor] = []
        masks: list[Tensor] = []
        for number, layer in enumerate(network.layers):
            if number > 0 and self.dropout > 0:
                masks.append(_let_through(x, self.dropout))
                x = x * masks[-1] * network.dropout_scale
            factor = self._factor(number, slice(x.shape[1]) if pieces is None else pieces.column)
            call = LayerCall(layer, rule, x, state.layers[number], steps_done, self.record, starts, factor, lengths)
            passes.append(self._layer(call))
            x = passes[-1].output
            states.append(passes[-1].stored.detach())
        layers = tuple(each.after for each in passes)
        after = replace(
            state, layers=layers, step=steps_done + (len(x) if lengths is None else lengths), history=History()
        )
        recalls = [each.recall for each in passes if each.recall is not None]
        recall = stack_layers(recalls) if recalls else None
        if starts is None:
            return Pass(x, after, recall)
        records = [each.replay for each in passes if each.replay is not None]
        origin = None if network.note is None else network.note.number(x.shape[1])
        scale = torch.tensor(network.dropout_scale, dtype=torch.float64) if masks else None
        modes = network.modules.modes
        record = PassRecord(
            given, self.encoder_input, begun, steps_done, records, modes, tuple(masks), scale, origin, pieces
        )
        stored = rule.remembers and (rule.capacity is not None or self.defers)
        return Pass(
            x,
            after,
            recall,
            partial(cut, record, starts),
            partial(_stored, states, steps_done, rule, lengths) if stored else None,
        )

    def _factor(self, layer: int, rows: slice | Tensor) -> Tensor | None:
        """What recurrent dropout multiplies a layer's h by in some rows of the call, (B, H); None: nothing."""
        return self.factors[layer][rows] if self.factors else None

    def _layer(self, call: LayerCall) -> LayerPass:
        """One layer on the fastest code that can run it."""
        backend = self.network.backend
        if self.may_fuse and torch_kernels.serves(call):
            return torch_kernels.unroll(call)
        if backend != REFERENCE:
            ran = compiled.unroll(call, backend, self.replay)
            if ran is not None:
                return ran
            leave(backend, "this input", automatic=self.may_fall_back)
            if self.replay or call.lengths is not None:
                raise OutOfRangeError
        return unroll(call)

    def _fuses(self, x: Tensor, state: SABState) -> bool:
        """Whether PyTorch's own kernels serve for this stretch."""
        first = self.network.layers[0]
        call = LayerCall(first, self.network.rule, x, state.layers[0], state.step, self.record, None)
        return self.may_fuse and not self.factors and torch_kernels.serves(call)

    def _history(self, before: SABState, ran: Pass) -> History:
        """The history after a stretch; what no later credit can reach is left out when it is put in order."""
        past = before.history.changed(rule=self.network.rule)  # one from a file has none
        if ran.runs is None or not self.remember:
            return past
        stored = ran.stored
        return past.followed_by(Lazy(ran.runs), Lazy(lambda: () if stored is None else stored()))

    def finished(self, after: SABState) -> SABState:
        """The state after all stretches; its history knows of a call that is not kept."""
        if self.remember:
            return after
        if self.network.rule.horizon == 0 and not after.history.waits:
            return replace(after, history=after.history.begun_anew(after.step))
        memories = [layer.memory for layer in after.without_graph().layers]
        return replace(after, history=after.history.passed_by(memories, after.step))


def _stored(states: list[Tensor], steps_done: Tensor, rule: Rule, lengths: Tensor | None) -> tuple[Evicted, ...]:
    """What each layer stored in memory in a pass, from its states that go there, (T, B, H)."""
    return tuple(stored_in(state, steps_done, rule, lengths) for state in states)


def draw_factors(state: SABState, p: float) -> tuple[Tensor, ...]:
    """What recurrent dropout multiplies h by on its way into the cells of a call, (B, H) each; () where p is 0.

    Args:
        p: the probability of dropping a feature.
    """
    if p == 0:
        return ()
    scale = 1 / (1 - p) if p < 1 else 0.0
    return tuple(_let_through(layer.h, p).to(layer.h.dtype) * scale for layer in state.layers)


def _let_through(like: Tensor, p: float) -> Tensor:
    """Which numbers of a tensor dropout lets through: each is dropped with probability p.

    Drawn in single precision at least: of the numbers from 0 to 1 that bfloat16 draws, 1 in 340 is below 0.001.
    """
    return torch.rand_like(like, dtype=torch.promote_types(like.dtype, torch.float32)) >= p
