"""One call of a layer: which code runs each stretch of time, and what is kept for a replay.

Shapes: L layers, B batch, T time, I input, K recalled memories, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from reminding.nn.credit.autograd import Pass, replayed
from reminding.nn.credit.sweep import Network
from reminding.nn.forward import compiled, torch_kernels
from reminding.nn.forward.reference import unroll
from reminding.nn.layer.stretches import stack_layers
from reminding.nn.parts.bound import BoundLayer
from reminding.nn.parts.rule import Rule
from reminding.nn.state.history import Departed, History, Kept, departed, pruned, stored_in
from reminding.nn.state.segments import Segment, Source, Trace, cut, joined, segment_starts
from reminding.nn.state.stream import LayerState, Recall, SABState

REPLAY_FROM = 512
"""Steps from which engine="auto" runs segments again in the backward pass instead of keeping what they computed."""


@dataclass(frozen=True)
class Plan:
    """What would run an input: "cuda", "cpu", "reference", or "torch", PyTorch's own kernels; the engine; and why."""

    backend: str
    engine: str
    why: str


@dataclass(frozen=True)
class Runner:
    """How the stretches of one call are run.

    Attributes:
        backend: "reference", "cpu" or "cuda", the code that is to run them.
        replay: whether segments are run again in the backward pass instead of keeping their graph.
        free: whether other code may serve where it can do the same better: backend="auto".
        record: whether to note what was recalled.
        remember: whether to keep the stretches for credit from later calls.
        source: what the encoder made the input of; None without an encoder.
        dropout: probability of dropping outputs between layers; 0 unless training.
    """

    layers: tuple[BoundLayer, ...]
    network: Network
    normalizer: str
    backend: str
    replay: bool
    free: bool
    record: bool
    remember: bool
    source: Source | None
    dropout: float

    def run(self, x: Tensor, state: SABState, start: int) -> tuple[Tensor, SABState, Recall | None]:
        """Run all layers over a stretch of time, (T, B, I), that begins at step `start` of the call."""
        by_segments = self.backend == "reference" or self.network.note is not None
        if self.replay and by_segments and not self._fuses(x, state) and len(x):
            ran = replayed(partial(self._pass, begun=start, trace=True), self.network, x, state)
        else:
            ran = self._pass(x, state, begun=start, trace=self.remember)
        after = replace(ran.after, history=self._history(state, ran))
        return ran.output, after, ran.recall

    def _pass(self, x: Tensor, state: SABState, begun: int, trace: bool) -> Pass:
        """All layers, one after the other."""
        given = x.detach().clone() if self.remember and self.source is None else x.detach()
        taken, rule = state.step, self.network.rule
        starts = segment_starts(taken, len(x), rule) if trace else None
        after: list[LayerState] = []
        recalls: list[Recall] = []
        traces: list[Trace] = []
        stored: list[Departed] = []
        kept: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            if number > 0 and self.dropout > 0:
                kept.append(torch.rand_like(x) >= self.dropout)
                x = x * kept[-1] * self.network.kept_scale
            x, state_after, recall, left = self._layer(layer, x, state.layers[number], taken, starts)
            after.append(state_after)
            if recall is not None:
                recalls.append(recall)
            if left is not None:
                traces.append(left)
            if trace and rule.capacity is not None and rule.k_top != 0:
                stored.append(stored_in(x.detach(), taken, rule))
        output_state = replace(state, layers=tuple(after), step=taken + len(x), history=History())
        recall = stack_layers(recalls) if recalls else None
        if starts is None:
            return Pass(x, output_state, recall)
        segments = partial(cut, given, self.source, begun, taken, traces, starts, tuple(kept))
        return Pass(x, output_state, recall, segments, tuple(stored))

    def _layer(
        self, layer: BoundLayer, x: Tensor, state: LayerState, taken: Tensor, starts: list[int] | None
    ) -> tuple[Tensor, LayerState, Recall | None, Trace | None]:
        rule = self.network.rule
        if layer.cell_name is not None and self.free and torch_kernels.serves(rule, x, taken):
            return torch_kernels.unroll(x, state, taken, layer, rule, self.record, starts)
        if self.backend in compiled.OPS:
            given = (x, state, taken, layer, self.normalizer, rule)
            ran = compiled.unroll(self.backend, *given, self.replay, self.record, starts)
            if ran is not None:
                return ran
            if not self.free:
                raise ValueError(
                    "backend='cpu' cannot run this input: W1 m and W2 h_hat of its scores are beyond the op's "
                    "range; backend='auto' takes what can"
                )
        draws = layer.cell_name is None or layer.score_name is None
        return unroll(x, state, taken, layer.cell, layer.scorer, rule, self.record, starts, draws)

    def _fuses(self, x: Tensor, state: SABState) -> bool:
        return (
            self.free
            and self.layers[0].cell_name is not None
            and torch_kernels.serves(self.network.rule, x, state.step)
        )

    def _history(self, before: SABState, ran: Pass) -> History:
        """The history after a stretch; what no later credit can reach is left out."""
        old = before.history.kept
        if ran.segments is None or not self.remember:
            if not old.segments:
                return History()
            ran = replace(ran, segments=list[Segment])
        ran = replace(ran, after=ran.after.without_graph())
        return History(partial(_remembered, old, before.without_graph(), ran, self.network.rule))


def _remembered(old: Kept, before: SABState, ran: Pass, rule: Rule) -> Kept:
    """What is kept of a stream after one more pass."""
    assert ran.segments is not None
    memories = [layer.memory for layer in ran.after.layers]
    new = [segment.copied() for segment in ran.segments()]
    segments = pruned(joined(old.segments, new, rule), memories, ran.after.step, rule)
    if rule.capacity is None or not segments:
        return Kept(tuple(segments))
    gone: list[Departed] = []
    for number, layer in enumerate(before.layers):
        parts = [Departed(layer.memory.value, layer.memory.ascending_steps)]
        parts += [whole[number] for whole in (old.departed, ran.stored) if whole]
        gone.append(departed(parts, memories[number], segments, number, rule))
    return Kept(tuple(segments), tuple(gone))
