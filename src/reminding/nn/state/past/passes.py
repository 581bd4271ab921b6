"""What a pass over time leaves, and the segments that are cut from it.

Shapes: B batch rows of the pass, T time of the pass, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from reminding.nn.state.past.runs import LayerRun, SegmentRun
from reminding.nn.state.past.segments import EncoderInput, ReplayRecord


@dataclass(frozen=True)
class Pieces:
    """Where in a call the rows of a pass are from, each a piece of the time of one of the call's rows.

    Attributes:
        column, begun: the row and the step of the call at which it begins; steps: how many it has, (B,) int64 each.
    """

    column: Tensor
    begun: Tensor
    steps: Tensor

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def last(self) -> Tensor:
        """Which are the last of their row, where all of a row lie behind one another, (B,) bool."""
        return torch.cat([self.column[1:] != self.column[:-1], torch.ones(1, dtype=torch.bool)])

    def rows(self, index: Tensor | slice) -> Pieces:
        """Some of them, by their places."""
        return Pieces(self.column[index], self.begun[index], self.steps[index])


@dataclass(frozen=True)
class PassRecord:
    """What a pass of all layers over a stretch of time leaves, for segments to be cut from.

    Attributes:
        x: input, (T, B, I).
        encoder_input, begun: the input it was encoded from, if any, and the step of it at which x begins.
        steps_done: steps that the rows' streams had done before, (B,).
        layers: each layer's record.
        modes: see `Segment`.
        dropout_masks: between layers, (T, B, H) bool each; dropout_scale: see `Segment`.
        origin: by which number a record of credit knows each row, (B,) int64; None where credit is not recorded.
        pieces: what the rows are where not all have all steps of one call, the longest first.
    """

    x: Tensor
    encoder_input: EncoderInput | None
    begun: int
    steps_done: Tensor
    layers: Sequence[ReplayRecord]
    modes: Tensor
    dropout_masks: tuple[Tensor, ...]
    dropout_scale: Tensor | None = None
    origin: Tensor | None = None
    pieces: Pieces | None = None


def cut(record: PassRecord, starts: list[int]) -> tuple[SegmentRun, ...]:
    """The segments of one pass over time, as one run, or one of all rows that begin and end alike; none of no steps.

    Args:
        starts: the step of the pass at which each begins.
    """
    if not starts:
        return ()
    steps, rows = record.x.shape[:2]
    begins, column = torch.tensor(starts), torch.arange(rows)
    ends = torch.tensor([*starts[1:], steps])
    encoded = record.encoder_input is not None
    layers = tuple(LayerRun(layer.entering(), layer.read()) for layer in record.layers)
    draws = any(layer.entering.generators is not None for layer in layers)
    run = SegmentRun(
        row=column,
        steps_done=record.steps_done,
        steps=steps,
        begins=begins,
        sizes=ends - begins,
        span=record.steps_done + torch.stack([begins, ends]).unsqueeze(2),
        count=len(starts) * rows,
        x=None if encoded else record.x,
        layers=layers,
        modes=record.modes,
        dropout_masks=record.dropout_masks,
        dropout_scale=record.dropout_scale,
        encoder_input=record.encoder_input,
        start=record.begun,
        column=column if encoded or draws else None,
        drawn_rows=torch.tensor(rows) if draws else None,
        origin=None if record.origin is None else record.origin.expand(steps, -1),
    )
    return (run,) if record.pieces is None else tuple(_by_length(run, record.pieces))


def _by_length(run: SegmentRun, pieces: Pieces) -> Iterator[SegmentRun]:
    """A run whose rows are pieces of a call: those that begin and end alike, without the steps that they have not."""
    alike = cast("Any", torch.stack([pieces.begun, pieces.steps]).unique)(dim=1, return_inverse=True)
    kinds, kind = cast("tuple[Tensor, Tensor]", alike)
    for number, (begun, steps) in enumerate(cast("list[tuple[int, int]]", kinds.t().tolist())):
        index = (kind == number).nonzero().squeeze(1)
        column = None if run.column is None else pieces.column[index]
        yield replace(run.rows(index).until(steps), start=begun, column=column)
