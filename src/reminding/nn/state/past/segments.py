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
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from reminding.nn.parts.generators import GeneratorStates
from reminding.nn.parts.memory import Memory
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.tensors import HostRows, HostWhole, Rows, TensorGroup, TimeRows, Whole

SHORTEST = 16
"""Steps that are replayed at once at least where nothing is cut; less would cost more in calls than it saves."""


@dataclass(frozen=True)
class EnteringState(TensorGroup):
    """The state in which a layer enters a segment: h (R, H) and the cell's further state, cut from any graph.

    Attributes:
        memory: which memories there are, without their values; only where k_top is None.
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
class ReplayRecord:
    """What one layer's pass over time leaves for a replay.

    Attributes:
        entering: gives the state in which it entered each segment.
        read: gives the stream steps of the memories that decided each recall, best first, -1 where there are
            fewer, (T, B, K) int64; None where all memories did.
    """

    entering: Callable[[], list[EnteringState]]
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
        generators: the random number generators' states before it was encoded; None where nothing can be drawn.
        modes: which of the user's modules were in training mode, (N,) bool; see `UserModules.modes`.
    """

    input: Whole
    batch_sizes: HostWhole | None
    generators: tuple[HostWhole, ...] | None
    modes: HostWhole

    @staticmethod
    def of(input: Tensor | PackedSequence, generators: GeneratorStates | None, modes: Tensor) -> EncoderInput:
        """Copied, since a stream's buffer may be filled anew while credit can still reach it."""
        if isinstance(input, PackedSequence):
            return EncoderInput(input.data.detach().clone(), input.batch_sizes, generators, modes)
        return EncoderInput(input.detach().clone(), None, generators, modes)

    @property
    def given(self) -> Tensor | PackedSequence:
        """The input in the form it came."""
        return self.input if self.batch_sizes is None else PackedSequence(self.input, self.batch_sizes)


@dataclass(frozen=True)
class Segment(TensorGroup):
    """A stretch of time of some rows of a batch, through all layers.

    Attributes:
        row: which rows of the batch, (R,) int64 on the host.
        steps_done: steps their streams had done before, (R,) int64 on the host.
        steps: how many steps it has, S.
        x: the input (S, R, I); with an `encoder_input`, None.
        layers: each layer's part.
        dropout_masks: between layers, which outputs dropout let through, (S, R, H) bool each; empty without dropout.
        modes: which of the user's modules were in training mode, (N,) bool; empty without such modules.
        encoder_input, start, column: the input the encoder makes x of, the step at which x begins in it, and the
            column of each row in it, (R,) int64 on the host.
    """

    row: HostRows
    steps_done: HostRows
    steps: int
    x: TimeRows | None
    layers: tuple[LayerSegment, ...]
    modes: HostWhole
    dropout_masks: tuple[TimeRows, ...] = ()
    encoder_input: EncoderInput | None = None
    start: int = 0
    column: HostRows | None = None

    def rows(self, index: Tensor | slice) -> Self:
        """The part of some of its rows, given by their places within it; the encoder's input stays whole."""
        return replace(replace(self, encoder_input=None)._rows(index), encoder_input=self.encoder_input)

    def _rows(self, index: Tensor | slice) -> Self:
        return super().rows(index)

    def renumbered(self, row: Tensor) -> Segment:
        """The same rows at other places of the batch."""
        return replace(self, row=row)

    def copied(self) -> Segment:
        """The same segment, holding on to nothing but its own steps; the encoder's input is a copy already."""
        whole = replace(self, encoder_input=None).map(torch.Tensor.clone)
        return replace(whole, encoder_input=self.encoder_input)

    @property
    def shared(self) -> tuple[Tensor, ...]:
        """Tensors that it may share with the other segments of a pass, one for all that are cut alike."""
        last = self.layers[-1]
        cut = self.x if self.x is not None else last.read
        return (last.entering.h,) if cut is None else (cut, last.entering.h)

    @property
    def drops_state(self) -> bool:
        """Whether recurrent dropout was on."""
        return any(layer.entering.factor is not None for layer in self.layers)

    @property
    def draws(self) -> bool:
        """Whether random numbers may be drawn in it: then it is replayed whole."""
        return any(layer.entering.generators is not None for layer in self.layers)


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


def compacted(segments: Sequence[Segment]) -> list[Segment]:
    """The same segments, holding on to little besides their own steps.

    Those of one pass share its tensors. Where less than half of these is still needed, each gets a copy of its part.
    """
    kept: dict[int, int] = {}
    large: dict[int, int] = {}
    places: list[list[int]] = []
    for segment in segments:
        places.append([])
        for tensor in segment.shared:
            whole = tensor.untyped_storage()
            place = whole.data_ptr()
            places[-1].append(place)
            kept[place] = kept.get(place, 0) + tensor.nbytes
            large[place] = whole.nbytes()
    loose = {place for place, size in large.items() if 2 * kept[place] < size}
    return [
        segment.copied() if loose and not loose.isdisjoint(at) else segment
        for segment, at in zip(segments, places, strict=True)
    ]


def joined(old: Sequence[Segment], new: Sequence[Segment], rule: Rule) -> list[Segment]:
    """The segments of a stream and those of its next pass; what the border between them has split is whole again."""
    if old and new and _continues(old[-1], new[0], rule):
        return [*old[:-1], _whole(old[-1], new[0]), *new[1:]]
    return [*old, *new]


def _continues(before: Segment, after: Segment, rule: Rule) -> bool:
    if before.draws or after.draws or before.encoder_input is not None or not torch.equal(before.row, after.row):
        return False
    if not torch.equal(before.steps_done + before.steps, after.steps_done) or len(before.row) == 0:
        return False
    if not torch.equal(before.modes, after.modes) or not _drop_alike(before, after):
        return False
    if rule.k_trunc is None:
        return before.steps + after.steps <= SHORTEST
    return not rule.cuts(int(after.steps_done[0]) + 1)


def _drop_alike(before: Segment, after: Segment) -> bool:
    """Whether recurrent dropout had the same masks in both, as in two stretches of one call."""
    if not before.drops_state and not after.drops_state:
        return True
    pairs = [
        (one.entering.factor, other.entering.factor) for one, other in zip(before.layers, after.layers, strict=True)
    ]
    return all(one is not None and other is not None and torch.equal(one, other) for one, other in pairs)


def _whole(before: Segment, after: Segment) -> Segment:
    assert before.x is not None and after.x is not None
    layers = (
        LayerSegment(
            one.entering, None if one.read is None or other.read is None else torch.cat([one.read, other.read])
        )
        for one, other in zip(before.layers, after.layers, strict=True)
    )
    return replace(
        before,
        steps=before.steps + after.steps,
        x=torch.cat([before.x, after.x]),
        layers=tuple(layers),
        dropout_masks=tuple(torch.cat(each) for each in zip(before.dropout_masks, after.dropout_masks, strict=True)),
    )


@dataclass(frozen=True)
class PassRecord:
    """What a pass of all layers over a stretch of time leaves, for segments to be cut from.

    Attributes:
        x: input, (T, B, I).
        encoder_input, begun: the input it was encoded from, if any, and the step of it at which x begins.
        steps_done: steps that the rows' streams had done before, (B,).
        layers: each layer's record.
        modes: see `Segment`.
        dropout_masks: between layers, (T, B, H) bool each.
    """

    x: Tensor
    encoder_input: EncoderInput | None
    begun: int
    steps_done: Tensor
    layers: Sequence[ReplayRecord]
    modes: Tensor
    dropout_masks: tuple[Tensor, ...]


def cut(record: PassRecord, starts: list[int]) -> list[Segment]:
    """The segments of one pass over time, oldest first; starts: the step of the pass at which each begins."""
    if not starts:
        return []
    sizes = [stop - start for start, stop in pairwise([*starts, len(record.x)])]
    layers: list[list[LayerSegment]] = []
    for layer in record.layers:
        read = layer.read()
        parts = [None] * len(sizes) if read is None else _split(read, sizes)
        layers.append([LayerSegment(*each) for each in zip(layer.entering(), parts, strict=True)])
    masks = [_split(mask, sizes) for mask in record.dropout_masks]
    encoded, column = record.encoder_input is not None, torch.arange(record.x.shape[1])
    inputs = [None] * len(sizes) if encoded else _split(record.x, sizes)
    steps_done = (record.steps_done + torch.tensor(starts).unsqueeze(1)).unbind(0)
    return [
        Segment(
            row=column,
            steps_done=steps_done[number],
            steps=sizes[number],
            x=inputs[number],
            layers=tuple(layer[number] for layer in layers),
            modes=record.modes,
            dropout_masks=tuple(mask[number] for mask in masks),
            encoder_input=record.encoder_input,
            start=record.begun + start,
            column=column if encoded else None,
        )
        for number, start in enumerate(starts)
    ]


def _split(tensor: Tensor, sizes: list[int]) -> Sequence[Tensor]:
    split: Any = torch.split
    return split(tensor, sizes)
