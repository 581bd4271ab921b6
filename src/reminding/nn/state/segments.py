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

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from reminding.nn.parts.cells import Extra
from reminding.nn.parts.generators import Random
from reminding.nn.parts.memory import Memory
from reminding.nn.parts.rule import Rule

SHORTEST = 16
"""Steps that are replayed at once at least where nothing is cut; less would cost more in calls than it saves."""


@dataclass(frozen=True)
class Entry:
    """The state in which a layer enters a segment: h (R, H) and the cell's further state, cut from any graph.

    Attributes:
        memory: which memories there are, without their values; only where k_top is None.
        random: the random number generators' states, for cells and scorers that draw numbers; None for built-in ones.
    """

    h: Tensor
    extra: Extra
    memory: Memory | None
    random: Random | None

    def rows(self, index: Tensor) -> Entry:
        """The part of some rows."""
        return Entry(
            self.h[index],
            tuple(tensor[index] for tensor in self.extra),
            None if self.memory is None else self.memory.rows(index),
            self.random,
        )

    def map(self, change: Callable[[Tensor], Tensor]) -> Entry:
        """The same function applied to every tensor but those on the host."""
        extra = tuple(change(tensor) for tensor in self.extra)
        return Entry(change(self.h), extra, None if self.memory is None else self.memory.map(change), self.random)


@dataclass(frozen=True)
class Trace:
    """What one layer's pass over time leaves for a replay.

    Attributes:
        entries: gives how it entered each segment.
        read: gives the stream steps of the memories that decided each recall, best first, -1 where there are
            fewer, (T, B, K) int64; None where all memories did.
    """

    entries: Callable[[], list[Entry]]
    read: Callable[[], Tensor | None]


@dataclass(frozen=True)
class Passage:
    """One layer's part of a segment: how it was entered, and what decided each recall, (S, R, K) or None."""

    entry: Entry
    read: Tensor | None

    def rows(self, index: Tensor) -> Passage:
        """The part of some rows."""
        return Passage(self.entry.rows(index), None if self.read is None else self.read[:, index])

    def map(self, change: Callable[[Tensor], Tensor]) -> Passage:
        """The same function applied to every tensor but those on the host."""
        return Passage(self.entry.map(change), None if self.read is None else change(self.read))


@dataclass(frozen=True)
class Source:
    """An input as it came, a copy, for the encoder to make x (T, B, I) of again.

    Attributes:
        input: as it was given, or the data of a packed sequence; batch_sizes: that sequence's.
        random: the random number generators' states before it was encoded; None where nothing can be drawn.
    """

    input: Tensor
    batch_sizes: Tensor | None = None
    random: Random | None = None

    @staticmethod
    def of(input: Tensor | PackedSequence, random: Random | None) -> Source:
        """Copied, since a stream's buffer may be filled anew while credit can still reach it."""
        if isinstance(input, PackedSequence):
            return Source(input.data.detach().clone(), input.batch_sizes, random)
        return Source(input.detach().clone(), random=random)

    @property
    def given(self) -> Tensor | PackedSequence:
        """The input in the form it came."""
        return self.input if self.batch_sizes is None else PackedSequence(self.input, self.batch_sizes)


@dataclass(frozen=True)
class Segment:
    """A stretch of time of some rows of a batch, through all layers.

    Attributes:
        row: which rows of the batch, (R,) int64 on the host.
        taken: steps their streams had taken before, (R,) int64 on the host.
        steps: how many steps it has, S.
        x: the input (S, R, I); with a `source`, where there is an encoder, None.
        source, start, column: the input the encoder makes x of, the step at which x begins in it, and the
            column of each row in it, (R,) int64 on the host.
        layers: each layer's part.
        kept: between layers, which outputs dropout let through, (S, R, H) bool each; empty without dropout.
    """

    row: Tensor
    taken: Tensor
    steps: int
    x: Tensor | None
    layers: tuple[Passage, ...]
    kept: tuple[Tensor, ...] = ()
    source: Source | None = None
    start: int = 0
    column: Tensor | None = None

    def rows(self, index: Tensor) -> Segment:
        """The part of some of its rows, given by their places within it."""
        return replace(
            self,
            row=self.row[index],
            taken=self.taken[index],
            x=None if self.x is None else self.x[:, index],
            layers=tuple(layer.rows(index) for layer in self.layers),
            kept=tuple(mask[:, index] for mask in self.kept),
            column=None if self.column is None else self.column[index],
        )

    def renumbered(self, row: Tensor) -> Segment:
        """The same rows at other places of the batch."""
        return replace(self, row=row)

    def copied(self) -> Segment:
        """The same segment, holding on to nothing but its own steps."""
        return self.map(torch.Tensor.clone)

    def map(self, change: Callable[[Tensor], Tensor]) -> Segment:
        """The same function applied to every tensor but those on the host and the source."""
        return replace(
            self,
            x=None if self.x is None else change(self.x),
            layers=tuple(layer.map(change) for layer in self.layers),
            kept=tuple(change(mask) for mask in self.kept),
        )

    @property
    def draws(self) -> bool:
        """Whether random numbers may be drawn in it: then it is replayed whole."""
        return any(layer.entry.random is not None for layer in self.layers)


def segment_starts(taken: Tensor, steps: int, rule: Rule) -> list[int]:
    """At which steps of a pass, counted from 0, segments begin: at the first and at the first row's cuts.

    Where nothing is ever cut a segment is about the root of the pass, so that neither the entering states nor one
    segment's graph take much memory.
    """
    if steps == 0:
        return []
    if rule.k_trunc is None:
        return list(range(0, steps, max(math.isqrt(steps), SHORTEST)))
    begun = int(taken[0]) if len(taken) else 0
    first = next(t for t in range(1, rule.k_trunc + 1) if rule.cuts(begun + t + 1))
    return [0, *range(first, steps, rule.k_trunc)]


def joined(old: Sequence[Segment], new: Sequence[Segment], rule: Rule) -> list[Segment]:
    """The segments of a stream and those of its next pass; what the border between them has split is whole again."""
    if old and new and _continues(old[-1], new[0], rule):
        return [*old[:-1], _whole(old[-1], new[0]), *new[1:]]
    return [*old, *new]


def _continues(before: Segment, after: Segment, rule: Rule) -> bool:
    if before.draws or after.draws or before.source is not None or not torch.equal(before.row, after.row):
        return False
    if not torch.equal(before.taken + before.steps, after.taken) or len(before.row) == 0:
        return False
    if rule.k_trunc is None:
        return before.steps + after.steps <= SHORTEST
    return not rule.cuts(int(after.taken[0]) + 1)


def _whole(before: Segment, after: Segment) -> Segment:
    assert before.x is not None and after.x is not None
    layers = (
        Passage(one.entry, None if one.read is None or other.read is None else torch.cat([one.read, other.read]))
        for one, other in zip(before.layers, after.layers, strict=True)
    )
    return replace(
        before,
        steps=before.steps + after.steps,
        x=torch.cat([before.x, after.x]),
        layers=tuple(layers),
        kept=tuple(torch.cat(masks) for masks in zip(before.kept, after.kept, strict=True)),
    )


def cut(
    x: Tensor,
    source: Source | None,
    begun: int,
    taken: Tensor,
    traces: Sequence[Trace],
    starts: list[int],
    kept: tuple[Tensor, ...],
) -> list[Segment]:
    """The segments of one pass over time, oldest first.

    Args:
        x: input (T, B, I); source, begun: the input it was encoded from, and the step of it x begins at.
        taken: (B,); traces: one per layer; kept: dropout masks between layers, (T, B, H) each.
    """
    reads = [trace.read() for trace in traces]
    entries = [trace.entries() for trace in traces]
    column = torch.arange(x.shape[1])

    def segment(number: int, start: int, stop: int) -> Segment:
        passages = tuple(
            Passage(entered[number], None if read is None else read[start:stop])
            for entered, read in zip(entries, reads, strict=True)
        )
        return Segment(
            row=column,
            taken=taken + start,
            steps=stop - start,
            x=x[start:stop] if source is None else None,
            layers=passages,
            kept=tuple(mask[start:stop] for mask in kept),
            source=source,
            start=begun + start,
            column=None if source is None else column,
        )

    return [segment(number, *ends) for number, ends in enumerate(pairwise([*starts, len(x)]))]
