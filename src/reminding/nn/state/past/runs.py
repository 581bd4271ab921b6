"""Runs of segments: what one pass leaves of consecutive segments, in one set of tensors for all of them.

A call's segments are cut from the same tensors. They stay together, so that the bookkeeping of all of them is done at
once. A run marks the segments, and their rows, that later credit can still reach.

Shapes: N segments of a run, B batch rows of the pass, R batch rows of the run, T time of the pass, S steps of the
run, I input, K ranks, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Self, cast

import torch
from torch import Tensor

from reminding.nn.parts.memory import NOTHING
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.tensors import HostRows, HostTimeRows, HostWhole, Lies, TensorGroup, TimeRows
from reminding.nn.state.past.segments import (
    SHORTEST,
    EncoderInput,
    EnteringStates,
    LayerSegment,
    Segment,
    SegmentLike,
)

Spans = Annotated[Tensor, Lies(2, host=True)]


@dataclass(frozen=True)
class LayerRun(TensorGroup):
    """One layer's part of a run: how its segments were entered, and what decided each recall, (S, R, K) or None."""

    entering: EnteringStates
    read: TimeRows | None


@dataclass(frozen=True)
class SegmentRun(SegmentLike):
    """Consecutive segments of the same rows, through all layers.

    Attributes:
        row, modes, dropout_scale, encoder_input, column, drawn_rows: as a segment has them.
        steps_done, start: as the first segment has them.
        steps: how many there are in all, S.
        begins, sizes: the step of the run at which each segment begins, and its number of steps, (N,) int64 each.
        span: the stream steps before and at the end of each segment, (2, N, R) int64; -1 where credit reaches it no
            more.
        count: how many segments of single rows are reached.
        x: the input (S, R, I); with an `encoder_input`, None.
        layers: each layer's part.
        dropout_masks: see `Segment`, (S, R, H) bool each; origin: see `Segment`.
    """

    row: HostRows
    steps_done: HostRows
    steps: int
    begins: HostWhole
    sizes: HostWhole
    span: Spans
    count: int
    x: TimeRows | None
    layers: tuple[LayerRun, ...]
    modes: HostWhole
    dropout_masks: tuple[TimeRows, ...] = ()
    dropout_scale: HostWhole | None = None
    encoder_input: EncoderInput | None = None
    start: int = 0
    column: HostRows | None = None
    drawn_rows: HostWhole | None = None
    origin: HostTimeRows | None = None

    @staticmethod
    def of(segment: Segment) -> SegmentRun:
        """One segment as a run."""
        layers = (LayerRun(EnteringStates.of([layer.entering]), layer.read) for layer in segment.layers)
        return SegmentRun(
            row=segment.row,
            steps_done=segment.steps_done,
            steps=segment.steps,
            begins=torch.zeros(1, dtype=torch.int64),
            sizes=torch.tensor([segment.steps]),
            span=torch.stack([segment.steps_done, segment.steps_done + segment.steps]).unsqueeze(1),
            count=segment.row.numel(),
            x=segment.x,
            layers=tuple(layers),
            modes=segment.modes,
            dropout_masks=segment.dropout_masks,
            dropout_scale=segment.dropout_scale,
            encoder_input=segment.encoder_input,
            start=segment.start,
            column=segment.column,
            drawn_rows=segment.drawn_rows,
            origin=segment.origin,
        )

    def __len__(self) -> int:
        return self.begins.shape[0]

    @property
    def reached(self) -> Tensor:
        """Which of the segments later credit can reach, (N, R) bool."""
        return self.span[1] >= 0

    @property
    def whole(self) -> bool:
        """Whether all of its segments are reached of all of its rows."""
        return self.count == len(self) * self.row.numel()

    @property
    def numbers(self) -> list[int]:
        """Those of its segments that are reached of any row; all, where it has no rows."""
        if self.whole:
            return list(range(len(self)))
        return cast("list[int]", self.reached.any(1).nonzero().squeeze(1).tolist())

    @property
    def segments(self) -> list[Segment]:
        """Its segments that are reached, oldest first, each with the rows of which it is."""
        return [self.segment(number) for number in self.numbers]

    def segment(self, number: int) -> Segment:
        """One of its segments, with the rows of which it is reached."""
        first, size = int(self.begins[number]), int(self.sizes[number])
        # Of one segment all is kept as it came, for the checks of files.
        last = None if len(self) == 1 else first + size
        segment = Segment(
            row=self.row,
            steps_done=self.steps_done + first,
            steps=size,
            x=None if self.x is None else self.x[first:last],
            layers=tuple(
                LayerSegment(layer.entering.at(number), None if layer.read is None else layer.read[first:last])
                for layer in self.layers
            ),
            modes=self.modes,
            dropout_masks=tuple(mask[first:last] for mask in self.dropout_masks),
            dropout_scale=self.dropout_scale,
            encoder_input=self.encoder_input,
            start=self.start + first,
            column=self.column,
            drawn_rows=self.drawn_rows,
            origin=None if self.origin is None else self.origin[first:last],
        )
        if self.whole:
            return segment
        reached = self.reached[number]
        return segment if bool(reached.all()) else segment.rows(reached.nonzero().squeeze(1))

    def part(self, first: int, last: int) -> SegmentRun:
        """Some of its segments: from the first of these numbers to before the last."""
        if (first, last) == (0, len(self)):
            return self
        ahead = int(self.begins[first])
        stop = int(self.begins[last - 1] + self.sizes[last - 1])
        span = self.span[:, first:last]
        return replace(
            self,
            steps_done=self.steps_done + ahead,
            steps=stop - ahead,
            begins=self.begins[first:last] - ahead,
            sizes=self.sizes[first:last],
            span=span,
            count=_count(span),
            x=None if self.x is None else self.x[ahead:stop],
            layers=tuple(
                LayerRun(layer.entering.part(first, last), None if layer.read is None else layer.read[ahead:stop])
                for layer in self.layers
            ),
            dropout_masks=tuple(mask[ahead:stop] for mask in self.dropout_masks),
            start=self.start + ahead,
            origin=None if self.origin is None else self.origin[ahead:stop],
        )

    def until(self, steps: int) -> SegmentRun:
        """Its first so many steps, at least one."""
        whole = self.part(0, int((self.begins < steps).sum()))
        sizes, span, gone = whole.sizes.clone(), whole.span.clone(), whole.steps - steps
        sizes[-1] -= gone
        span[1, -1] -= gone
        return replace(
            whole,
            steps=steps,
            sizes=sizes,
            span=span,
            x=None if whole.x is None else whole.x[:steps],
            layers=tuple(
                replace(each, read=None if each.read is None else each.read[:steps]) for each in whole.layers
            ),
            dropout_masks=tuple(mask[:steps] for mask in whole.dropout_masks),
            origin=None if whole.origin is None else whole.origin[:steps],
        )

    def rows(self, index: Tensor | slice) -> Self:
        """The part of some of its rows, given by their places within it; the encoder's input stays whole."""
        chosen = super().rows(index)
        return replace(chosen, count=_count(chosen.span))

    def reaching(self, reached: Tensor, count: int) -> SegmentRun:
        """The same run of which credit can reach these segments, (N, R), so many in all."""
        return replace(self, span=self.span.masked_fill(~reached, -1), count=count)

    @property
    def shared(self) -> tuple[Tensor, ...]:
        """Tensors that it may share with other runs, one for all that are cut alike."""
        last = self.layers[-1]
        cut = self.x if self.x is not None else last.read
        return (last.entering.h,) if cut is None else (cut, last.entering.h)

    @property
    def drawn(self) -> Tensor:
        """In which of its segments random numbers may be drawn, (N,) bool."""
        given = [layer.entering.generators for layer in self.layers]
        every = [[each is not None for each in layer] for layer in given if layer is not None]
        return torch.tensor(every).any(0) if every else torch.zeros(len(self), dtype=torch.bool)

    def compact(self) -> list[SegmentRun]:
        """What is reached of it, holding on to little besides.

        Where more than half of the block that all reached segments span is reached, it is the block, else a run for
        each segment.
        """
        numbers, rows = self.numbers, self.reached.any(0).nonzero().squeeze(1)
        first, last = numbers[0], numbers[-1] + 1
        if 2 * self.count < (last - first) * len(rows):
            return [SegmentRun.of(segment)._copied() for segment in self.segments]
        block = self.part(first, last)
        return [block._copied() if len(rows) == len(self.row) else block.rows(rows)._copied()]

    def _copied(self) -> Self:
        """The same, holding on to nothing but its own steps; the encoder's input is a copy already."""
        return self.beside_its_input(lambda run: run.map(torch.Tensor.clone))


def _count(span: Tensor) -> int:
    return int((span[1] >= 0).sum())


def compacted(runs: Sequence[SegmentRun]) -> list[SegmentRun]:
    """The same segments, holding on to little besides.

    Where less than half of what a run shares with others or holds itself is still reached, it is made smaller; but
    not before such runs hold a quarter of everything in vain, since what is reached of them is often given up soon.
    """
    kept: dict[int, float] = {}
    large: dict[int, int] = {}
    places: list[list[int]] = []
    for run in runs:
        share = run.count / max(len(run) * run.row.shape[0], 1)
        places.append([])
        for tensor in run.shared:
            whole = tensor.untyped_storage()
            place = whole.data_ptr()
            places[-1].append(place)
            kept[place] = kept.get(place, 0) + share * tensor.nbytes
            large[place] = whole.nbytes()
    loose = {place for place, size in large.items() if 2 * kept[place] < size}
    if 4 * sum(large[place] - kept[place] for place in loose) <= sum(large.values()):
        return list(runs)
    found: list[SegmentRun] = []
    for run, at in zip(runs, places, strict=True):
        found += [run] if loose.isdisjoint(at) else run.compact()
    return found


def joined(old: Sequence[SegmentRun], new: Sequence[SegmentRun], rule: Rule) -> list[SegmentRun]:
    """The runs of a stream and those of its next pass; a segment that their border has split is whole again."""
    if not old or not new or _cut_before(new[0], rule):
        return [*old, *new]
    (*older, before), (after, *newer) = old, new
    last = len(before) - 1
    one, other = before.segment(last), after.segment(0)
    if not _continues(one, other, rule):
        return [*old, *new]
    earlier = [before.part(0, last)] if last else []
    later = [after.part(1, len(after))] if len(after) > 1 else []
    return [*older, *earlier, SegmentRun.of(_whole(one, other)), *later, *newer]


def _cut_before(run: SegmentRun, rule: Rule) -> bool:
    """Whether the first of its rows is cut as it begins."""
    return rule.k_trunc is not None and len(run.row) > 0 and rule.cuts(int(run.steps_done[0]) + 1)


def _continues(before: Segment, after: Segment, rule: Rule) -> bool:
    if before.draws or after.draws or before.encoder_input is not None or not torch.equal(before.row, after.row):
        return False
    if not torch.equal(before.steps_done + before.steps, after.steps_done) or len(before.row) == 0:
        return False
    if not torch.equal(before.modes, after.modes) or not _drop_alike(before, after):
        return False
    noted = [[part.read is not None for part in each.layers] for each in (before, after)]
    if noted[0] != noted[1]:
        return False
    if rule.k_trunc is None:
        return before.steps + after.steps <= SHORTEST
    return not rule.cuts(int(after.steps_done[0]) + 1)


def _drop_alike(before: Segment, after: Segment) -> bool:
    """Whether dropout had one rate in both, and recurrent dropout the same masks, as in two stretches of one call."""
    scales = [None if each.dropout_scale is None else float(each.dropout_scale) for each in (before, after)]
    if scales[0] != scales[1]:
        return False
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
        origin=None
        if before.origin is None and after.origin is None
        else torch.cat([_origin(before), _origin(after)]),
    )


def _origin(segment: Segment) -> Tensor:
    """By which numbers a record of credit knows its steps, (S, R)."""
    if segment.origin is not None:
        return segment.origin
    return torch.full((segment.steps, len(segment.row)), NOTHING)
