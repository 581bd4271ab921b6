"""Segments: what is kept of a stretch of time, so that it can be run again when credit reaches it.

A segment is what is replayed at once: the steps between two cuts, or where nothing is cut some number of steps. In a
batch whose rows are cut at different steps the segments are the first row's; the others' cuts fall within them.

Shapes: B batch rows of the pass, R batch rows of the segment, T time of the pass, S steps of the segment, I input,
M memory slots, K ranks, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from reminding.nn.parts.generators import GeneratorStates, RowsOfPass
from reminding.nn.parts.memory import Memory
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.tensors import HostRows, HostTimeRows, HostWhole, Rows, TensorGroup, TimeRows, Whole

SHORTEST = 16
"""Steps that are replayed at once at least where nothing is cut; less would cost more in calls than it saves."""


@dataclass(frozen=True)
class EnteringState(TensorGroup):
    """The state in which a layer enters a segment: h (R, H) and the cell's further state, cut from any graph.

    Attributes:
        memory: which memories there are, without their values; only where what decided each recall is not noted.
        generators: the random number generators' states, for cells and scorers that draw numbers; None for built-in
            ones.
        factor: what recurrent dropout multiplied h by on its way into the cell, (R, H); None: nothing was dropped.
    """

    h: Rows
    cell_state: tuple[Rows, ...]
    memory: Memory | None
    generators: tuple[HostWhole, ...] | None
    factor: Rows | None = None


@dataclass(frozen=True)
class EnteringStates(TensorGroup):
    """The states in which a layer enters N segments of a run: see `EnteringState`.

    Attributes:
        h, cell_state: (N, R, ...) each; memory, generators: one for each segment, or None where no segment has any.
    """

    h: TimeRows
    cell_state: tuple[TimeRows, ...]
    memory: tuple[Memory, ...] | None = None
    generators: tuple[tuple[HostWhole, ...] | None, ...] | None = None
    factor: Rows | None = None

    @staticmethod
    def of(states: Sequence[EnteringState]) -> EnteringStates:
        """One state or more as one group."""
        memory = tuple(state.memory for state in states if state.memory is not None)
        generators = tuple(state.generators for state in states)
        return EnteringStates(
            h=torch.stack([state.h for state in states]),
            cell_state=tuple(map(torch.stack, zip(*(state.cell_state for state in states), strict=True))),
            memory=memory or None,
            generators=generators if any(each is not None for each in generators) else None,
            factor=states[0].factor,
        )

    def at(self, number: int) -> EnteringState:
        """The state in which one segment is entered."""
        return EnteringState(
            self.h[number],
            tuple(tensor[number] for tensor in self.cell_state),
            None if self.memory is None else self.memory[number],
            None if self.generators is None else self.generators[number],
            self.factor,
        )

    def part(self, first: int, last: int) -> EnteringStates:
        """Those of some consecutive segments."""
        return replace(
            self,
            h=self.h[first:last],
            cell_state=tuple(tensor[first:last] for tensor in self.cell_state),
            memory=None if self.memory is None else self.memory[first:last],
            generators=None if self.generators is None else self.generators[first:last],
        )


@dataclass(frozen=True)
class ReplayRecord:
    """What one layer's pass over time leaves for a replay.

    Attributes:
        entering: gives the states in which it entered the segments.
        read: gives the stream steps of the memories that decided each recall, best first, -1 where there are
            fewer, (T, B, K) int64; None where all memories did.
    """

    entering: Callable[[], EnteringStates]
    read: Callable[[], Tensor | None]


@dataclass(frozen=True)
class LayerSegment(TensorGroup):
    """One layer's part of a segment: how it was entered, and what decided each recall, (S, R, K) or None."""

    entering: EnteringState
    read: TimeRows | None


@dataclass(frozen=True)
class EncoderInput(TensorGroup):
    """An input as it came, a copy, for the encoder to make x (T, B, I) of again.

    Attributes:
        input: as it was given, or the data of a packed sequence; batch_sizes: that sequence's.
        generators: the random number generators' states before it was encoded, in evaluation too, where a part of an
            encoder may draw; None in files that do not say.
        modes: which of the user's modules were in training mode, (N,) bool; see `UserModules.modes`.
        lowered: an empty tensor of the type to which autocast lowered the encoder; None outside of autocast.
        batch_first: whether the layer read it as (B, T, ...), () bool; None in files that do not say.
    """

    input: Whole
    batch_sizes: HostWhole | None
    generators: tuple[HostWhole, ...] | None
    modes: HostWhole
    lowered: HostWhole | None = None
    batch_first: HostWhole | None = None

    @staticmethod
    def of(
        input: Tensor | PackedSequence,
        batch_first: bool,
        generators: GeneratorStates | None,
        modes: Tensor,
        precision: torch.dtype | None,
    ) -> EncoderInput:
        """Copied, since a stream's buffer may be filled anew while credit can still reach it.

        Args:
            precision: of the present autocast region; None outside of one.
        """
        lowered = None if precision is None else torch.empty(0, dtype=precision)
        packed = isinstance(input, PackedSequence)
        data, sizes = (input.data, input.batch_sizes) if packed else (input, None)
        first = torch.tensor(batch_first, device="cpu")
        return EncoderInput(data.detach().clone(), sizes, generators, modes, lowered, first)

    @property
    def given(self) -> Tensor | PackedSequence:
        """The input in the form it came."""
        return self.input if self.batch_sizes is None else PackedSequence(self.input, self.batch_sizes)

    def cleared(self, rows: Tensor | PackedSequence) -> EncoderInput:
        """The same with 0 for what is not finite in some rows.

        Args:
            rows: above 0 in these, in the input's form with one feature. An input of another length is cleared
                throughout.
        """
        chosen = (rows.data if isinstance(rows, PackedSequence) else rows).squeeze(-1) > 0
        lead = chosen.dim()
        if chosen.shape != self.input.shape[:lead]:
            chosen = chosen.new_ones(self.input.shape[:lead])
        lost = chosen.view(*chosen.shape, *[1] * (self.input.dim() - lead)) & ~self.input.isfinite()
        return replace(self, input=self.input.masked_fill(lost, 0))


class SegmentLike(TensorGroup):
    """What a segment and a run of segments have alike: `row`, `layers`, and an `encoder_input` that stays whole."""

    def rows(self, index: Tensor | slice) -> Self:
        """The part of some of its rows, given by their places within it; the encoder's input stays whole."""
        return self.beside_its_input(lambda part: part._rows(index))

    def _rows(self, index: Tensor | slice) -> Self:
        return super().rows(index)

    def beside_its_input(self, change: Callable[[Self], Self]) -> Self:
        """A function applied to all but the encoder's input."""
        segment = cast("Any", self)
        if segment.encoder_input is None:
            return change(self)
        changed = cast("Any", change(replace(segment, encoder_input=None)))
        return replace(changed, encoder_input=segment.encoder_input)

    def renumbered(self, row: Tensor) -> Self:
        """The same rows at other places of the batch."""
        segment = cast("Any", self)
        return replace(segment, row=row)

    def dropout_factor(self, layer: int, like: Tensor, usual: float) -> Tensor:
        """What dropout multiplied the input of a layer above the first by, (S, R, H).

        Args:
            like: a tensor of the wanted device and type.
            usual: the factor of what is let through, where the segment is from a file that does not say.
        """
        segment = cast("Any", self)
        scale = usual if segment.dropout_scale is None else float(segment.dropout_scale)
        return segment.dropout_masks[layer - 1].to(like) * scale

    @property
    def drops_state(self) -> bool:
        """Whether recurrent dropout was on."""
        segment = cast("Any", self)
        return any(layer.entering.factor is not None for layer in segment.layers)

    @property
    def draws(self) -> bool:
        """Whether random numbers may be drawn in it: such a segment is replayed whole."""
        segment = cast("Any", self)
        return any(layer.entering.generators is not None for layer in segment.layers)


@dataclass(frozen=True)
class Segment(SegmentLike):
    """A stretch of time of some rows of a batch, through all layers.

    Attributes:
        row: which rows of the batch, (R,) int64 on the host.
        steps_done: steps their streams had done before, (R,) int64 on the host.
        steps: how many steps it has, S.
        x: the input (S, R, I); with an `encoder_input`, None.
        layers: each layer's part.
        dropout_masks: between layers, which outputs dropout let through, (S, R, H) bool each; empty without dropout.
        dropout_scale: what these were multiplied by, () float64 on the host; None without dropout.
        modes: which of the user's modules were in training mode, (N,) bool; empty without such modules.
        encoder_input, start: the input the encoder makes x of, and the step at which x begins in it.
        column: which row of the pass each is, so of that input too, (R,) int64 on the host; None where neither an
            encoder nor random numbers ask for it.
        drawn_rows: how many rows the pass had, () int64 on the host, where random numbers were drawn for all of them;
            None elsewhere, and where the segment is from a file that does not say.
        origin: by which number a record of credit knows the row of the pass in which each step was run, (S, R) int64
            on the host; None where credit was not recorded then.
    """

    row: HostRows
    steps_done: HostRows
    steps: int
    x: TimeRows | None
    layers: tuple[LayerSegment, ...]
    modes: HostWhole
    dropout_masks: tuple[TimeRows, ...] = ()
    dropout_scale: HostWhole | None = None
    encoder_input: EncoderInput | None = None
    start: int = 0
    column: HostRows | None = None
    drawn_rows: HostWhole | None = None
    origin: HostTimeRows | None = None

    def pass_drawn_for(self, layer: int) -> RowsOfPass | None:
        """The rows for which a layer's cell may have drawn random numbers; None: it drew none, or for these alone."""
        if self.layers[layer].entering.generators is None or self.drawn_rows is None or self.column is None:
            return None
        count = int(self.drawn_rows)
        alone = torch.equal(self.column, torch.arange(count, device="cpu"))
        return None if alone else RowsOfPass(self.column, count)


def segment_starts(steps_done: Tensor, steps: int, rule: Rule) -> list[int]:
    """At which steps of a pass, counted from 0, segments begin: at the first and at the first row's cuts.

    Where nothing is ever cut a segment is about the root of the pass, so that neither the entering states nor one
    segment's graph take much memory.
    """
    if steps == 0:
        return []
    if rule.k_trunc is None:
        return list(range(0, steps, max(math.isqrt(steps), SHORTEST)))
    begun = int(steps_done[0]) if len(steps_done) else 0
    first = rule.k_trunc - (begun + (rule.semantics == "release")) % rule.k_trunc
    return [0, *range(first, steps, rule.k_trunc)]
