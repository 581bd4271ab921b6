"""Streams that belong to one stepper alone, and so are changed in place.

Shapes: L layers, B batch, I input, K recalled memories, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reminding.nn.forward.packed_weights import LayerWeights, Weights
from reminding.nn.forward.served import recalled, stacked
from reminding.nn.forward.slots import KeptMemory, empty, load, snapshot, with_room
from reminding.nn.state.stream import LayerState, Recall, SABState
from reminding.ops.serving import StreamState


@dataclass(eq=False)
class _LayerStreams:
    """One layer's part: h (B, H), c (B, H) or (B, 0), and the memories.

    Attributes:
        steps_with_room: so many more steps cannot fill the slots.
    """

    h: Tensor
    c: Tensor
    kept: KeptMemory
    steps_with_room: int = 0


class Streams:
    """The streams of a stepper.

    Args:
        state: what they go on from; it is copied.
    """

    def __init__(self, state: SABState, weights: Weights) -> None:
        if state.h.dtype != weights.like.dtype:  # that of the layer has changed
            state = state.to(weights.like.dtype)
        self._before, self._step, self._weights = state, state.step.clone(), weights
        with torch.inference_mode(False):
            self._layers = [
                _layer_streams(layer, mine, weights) for layer, mine in zip(state.layers, weights.layers, strict=True)
            ]

    @property
    def rows(self) -> int:
        """How many streams there are, B."""
        return len(self._step)

    @property
    def batched(self) -> bool:
        """Whether the input has a batch axis."""
        return self._before.batched

    def advance(self, x: Tensor, weights: Weights, record: bool) -> tuple[Tensor, Recall | None]:
        """Take one step: x (1, B, I), h of the last layer (1, B, H), and what was recalled if `record`."""
        if weights is not self._weights:
            self._use(weights)
        recalls: list[Recall] = []
        for streams, mine in zip(self._layers, weights.layers, strict=True):
            if streams.steps_with_room == 0:
                _make_room(streams, mine)
            streams.steps_with_room -= 1
            kept, given = streams.kept, StreamState(streams.h, streams.c, self._step)
            served = weights.server.serve(
                x, given, mine.packed, kept.slots, kept.held, streams.c, mine.op_rule, record
            )
            x = served.output
            streams.h = x[0]
            recalls += [recalled(served, weights)] if record else []
        self._step = self._step + 1
        self._layers[-1].h = x[0].clone()  # its output goes out
        return x, stacked(recalls) if record else None

    def restart(self, mask: Tensor) -> None:
        """Begin new streams in some rows, (B,) bool."""
        with torch.inference_mode(False):
            self._step = self._step.masked_fill(mask, 0)
            for streams in self._layers:
                streams.h = streams.h.masked_fill(mask.unsqueeze(1), 0)
                streams.c = streams.c.masked_fill(mask.unsqueeze(1), 0)
                empty(streams.kept, mask, torch.zeros_like(self._step[mask]), self._before.zero_slot)

    def state(self) -> SABState:
        """The state that they are in, copied."""
        layers = tuple(
            LayerState(streams.h.clone(), (streams.c.clone(),) if before.cell_state else (), snapshot(streams.kept))
            for streams, before in zip(self._layers, self._before.layers, strict=True)
        )
        flags = (self._before.batched, self._before.zero_slot)
        return SABState(layers, self._step.clone(), *flags, made_by=self._weights.made_by)

    def _use(self, weights: Weights) -> None:
        """Make all keys anew, with weights that have changed."""
        self.__init__(self.state(), weights)


def _layer_streams(before: LayerState, mine: LayerWeights, weights: Weights) -> _LayerStreams:
    h = before.h.detach().clone()
    c = before.cell_state[0].detach().clone() if before.cell_state else h[:, :0].clone()
    return _LayerStreams(h, c, load(before.memory, mine, weights.server, room=1))


def _make_room(streams: _LayerStreams, mine: LayerWeights) -> None:
    """See that there are slots for a while: where a row is full, the op moves its memories to the front itself."""
    if mine.op_rule.bounded:
        streams.steps_with_room = torch.iinfo(torch.int64).max
        return
    with torch.inference_mode(False):
        streams.kept = with_room(streams.kept.less_free(streams.kept.free), room=1)
    streams.steps_with_room = streams.kept.free
