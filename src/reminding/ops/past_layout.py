"""Segments of past calls, and how the steps of theirs that credit reaches are laid out in time.

Shapes: B batch rows, P segments of single rows, L those laid out, T times and R rows of the layout, N memories of a
row, K ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class PastRuns(NamedTuple):
    """Runs of segments of past calls: N consecutive segments of the same R rows each. All is on the host."""

    row: Sequence[Tensor]  # (R,) int64: the batch rows
    span: Sequence[
        Tensor
    ]  # (2, N, R) int64: the stream steps before and at the end of each segment; -1 if not reached
    begins: Sequence[Tensor]  # (N,) int64: the step of the run at which each segment begins
    sizes: Sequence[Tensor]  # (N,) int64: its number of steps
    steps: Sequence[int]  # of the whole run


class PastSegments(NamedTuple):
    """Segments of past calls, each of a single row of a batch: P of them, by row, each row's oldest first.

    Their steps lie among all steps of all segments, which need not be in this order. All is on the host.
    """

    row: Tensor  # (P,) int64
    steps_done: Tensor  # (P,) int64: the steps that the row's stream had done before
    steps: Tensor  # (P,) int64
    base: Tensor  # (P,) int64: where the first step lies
    stride: Tensor  # (P,) int64: how far apart the steps lie
    read: Tensor  # (., K) int64: the stream steps of the memories that decided each step's recall, -1 behind the last


class PastMemories(NamedTuple):
    """The memories that segments of past calls may have read or stored, on the host: N of each row of a batch."""

    step: Tensor  # (B, N) int64, ascending: the stream step each was stored at
    passes: Tensor  # (B, N) bool: whether it passes credit on
    credited: Tensor  # (B, N) bool: whether credit has come to it


class PastLayout(NamedTuple):
    """Steps of past calls laid out in time, on the host: a row's follow one another, and all rows end together."""

    segment: Tensor  # (L,) int64: which of the segments they are of
    row: Tensor  # (R,) int64: the batch rows that have any
    entries: Tensor  # (3, L) int64: the time and the row of each segment's first step, and its number of steps
    source: Tensor  # (T, R) int64: which of all steps lies there, -1 where none
    read: Tensor  # (T, R, K) int32: the slots that decided each recall; N and more for the states laid out
    stored: Tensor  # (T, R, 2) int32, see `contract.Past`
    cut: Tensor  # (T, R) bool, see `contract.Past`
    entry: Tensor  # (T, R) int32: which of the L segments begins, -1 where none does
    own: bool  # whether any step has read a state of its own segment

    @property
    def shape(self) -> tuple[int, int]:
        """Times and rows, (T, R)."""
        return self.source.shape[0], self.source.shape[1]

    @property
    def first(self) -> Tensor:
        """The place of each segment's first step in (T, R), flat, (L,)."""
        return self.entries[0] * self.source.shape[1] + self.entries[1]

    @property
    def last(self) -> Tensor:
        """The place of each segment's last step, (L,)."""
        return self.first + (self.entries[2] - 1) * self.source.shape[1]


class PastRows(NamedTuple):
    """Which rows of some tensors belong to the steps of each segment laid out, on the host."""

    part: Tensor  # (L,) int64: the tensor, -1 where there is none
    base: Tensor  # (L,) int64: the row of the first step
    stride: Tensor  # (L,) int64: how far apart the rows lie
    steps: Tensor  # (L,) int64: of how many of the steps there are any
