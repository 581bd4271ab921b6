"""What credit reaches of past calls: found with integers, laid out in time, and gathered from their segments.

Shapes: B batch rows, P segments of single rows, L those that credit reaches, S steps of a segment; T times and R rows
of the layout, n steps laid out, K ranks, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from reminding.nn.credit.encoded import Encode, Encoded
from reminding.nn.credit.network import Network, leaves_of, totals
from reminding.nn.parts.cells import CellState
from reminding.nn.parts.memory import NOTHING
from reminding.nn.state.past.segments import EncoderInput, Segment
from reminding.ops.backends import Op
from reminding.ops.past_layout import PastLayout, PastRows, PastSegments


class SegmentRows:
    """The single rows of segments, row by row, each row's oldest first.

    Attributes:
        row, steps_done, steps: (P,), as a segment has them.
        number, member: which segment it belongs to, and as which of its rows, (P,).
        base, stride: where its first step lies among all steps of all segments, one behind the other as (S, R), and
            how far its steps lie apart, (P,).
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        rows = torch.tensor([segment.row.shape[0] for segment in segments])
        steps = torch.tensor([segment.steps for segment in segments])
        number = torch.repeat_interleave(torch.arange(len(segments)), rows)
        member = torch.arange(len(number)) - (rows.cumsum(0) - rows)[number]
        row = torch.cat([segment.row for segment in segments])
        order = row.argsort(stable=True)  # the segments of each row come oldest first
        self.row, self.number, self.member = row[order], number[order], member[order]
        self.steps_done = torch.cat([segment.steps_done for segment in segments])[order]
        self.steps, self.stride = steps[self.number], rows[self.number]
        size = rows * steps
        self.base = (size.cumsum(0) - size)[self.number] + self.member

    def of_layer(self, segments: Sequence[Segment], layer: int) -> PastSegments:
        """They, with what a layer has read, as an op takes them."""
        read = [cast("Tensor", segment.layers[layer].read).flatten(0, 1) for segment in segments]
        return PastSegments(self.row, self.steps_done, self.steps, self.base, self.stride, torch.cat(read).cpu())


@dataclass(frozen=True, eq=False)
class ReachedSteps:
    """What credit reaches of one layer in past calls.

    Attributes:
        op: whose layout it is.
        layer: its number.
        segments: of all layers; rows: their single rows; given: they, with what the layer has read.
        layout: how the steps are laid out in time.
    """

    op: Op
    layer: int
    segments: Sequence[Segment]
    rows: SegmentRows
    given: PastSegments
    layout: PastLayout

    @property
    def index(self) -> Tensor:
        """Which of `rows` any step is reached of, (L,)."""
        return self.layout.segment

    @property
    def count(self) -> Tensor:
        """How many steps of each, (L,)."""
        return self.layout.entries[2]

    @cached_property
    def row(self) -> Tensor:
        """The batch row of each, (L,)."""
        return self.rows.row[self.index]

    @cached_property
    def steps_done(self) -> Tensor:
        """How many steps each one's stream had done before, (L,)."""
        return self.rows.steps_done[self.index]

    @cached_property
    def held(self) -> list[int]:
        """The numbers of the segments that they are of."""
        return cast("list[int]", self._number.unique().tolist())

    @cached_property
    def _number(self) -> Tensor:
        return self.rows.number[self.index]

    @cached_property
    def _among_held(self) -> Tensor:
        """Which of `held` each is of, (L,)."""
        return torch.searchsorted(torch.tensor(self.held), self._number)

    @cached_property
    def _member(self) -> Tensor:
        return self.rows.member[self.index]

    def entering(self) -> tuple[Tensor, CellState]:
        """The states in which the segments were entered, (L, H) each."""
        states = [self.segments[number].layers[self.layer].entering for number in self.held]
        at = _begins([state.h.shape[0] for state in states])[self._among_held] + self._member
        further = zip(*(state.cell_state for state in states), strict=True)
        return torch.cat([state.h for state in states])[at], tuple(torch.cat(parts)[at] for parts in further)

    def kept_input(self) -> Tensor:
        """The input, (T, R, I), where there is no encoder."""
        held = [self.segments[number] for number in self.held]
        return self._gathered([segment.x for segment in held if segment.x is not None])

    def dropout_factor(self, layer: int, network: Network) -> Tensor | None:
        """What the input of a layer above the first was multiplied by, (T, R, H); None: by nothing."""
        held = [self.segments[number] for number in self.held]
        if not any(segment.dropout_masks for segment in held):
            return None
        like = network.tensors[0]
        factors = [
            segment.dropout_masks[layer - 1].to(like) * network.dropout_scale
            if segment.dropout_masks
            else like.new_ones(segment.steps, len(segment.row), segment.layers[layer - 1].entering.h.shape[1])
            for segment in held
        ]
        return self._gathered(factors)

    def _gathered(self, parts: Sequence[Tensor]) -> Tensor:
        """What the steps have of the held segments' tensors, (S, R, .) each: (T, R, .)."""
        rows = PastRows(self._among_held, self._member, self.rows.stride[self.index], self.count)
        return self.op.gather_past([part.flatten(0, 1) for part in parts], rows, self.layout)

    def taken_from(self, other: ReachedSteps, tensor: Tensor) -> Tensor:
        """What another layer's steps have, (T', R', H), laid out as these are, (T, R, H); 0 for steps it has not."""
        layout = other.layout
        at = torch.searchsorted(other.index, self.index).clamp(max=len(other.index) - 1)
        part = torch.where(other.index[at] == self.index, 0, NOTHING)
        count = torch.minimum(self.count, other.count[at])
        rows = PastRows(part, layout.first[at], torch.full_like(at, layout.shape[1]), count)
        return self.op.gather_past([tensor.flatten(0, 1)], rows, self.layout)

    def of_input(self, number: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Which entries belong to segments of one encoder input, (m,); the step and the column of each in it."""
        mine = torch.isin(self._number, torch.tensor(number)).nonzero().squeeze(1)
        place = {segment: at for at, segment in enumerate(number)}
        of = torch.tensor([place[segment] for segment in cast("list[int]", self._number[mine].tolist())])
        start = torch.tensor([self.segments[segment].start for segment in number])
        columns = [cast("Tensor", self.segments[segment].column) for segment in number]
        first = _begins([len(column) for column in columns])
        return mine, start[of], torch.cat(columns)[first[of] + self._member[mine]]

    def steps_of(self, entries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All steps of some entries, (n,) each: the entry, the step in its segment, and the flat place in (T, R)."""
        count = self.count[entries]
        which = torch.repeat_interleave(count)
        ahead = torch.arange(len(which)) - (count.cumsum(0) - count)[which]
        return which, ahead, self.layout.first[entries[which]] + ahead * self.layout.shape[1]


def _begins(sizes: Sequence[int]) -> Tensor:
    """Where each of some tensors of these sizes begins if they lie one behind the other."""
    return torch.tensor([0, *sizes[:-1]]).cumsum(0)


class PastInputs:
    """What went into the reached segments, (T, R, I): as it was kept, or made by the encoder once more.

    Args:
        encode: None: there is no encoder.
    """

    def __init__(self, steps: ReachedSteps, encode: Encode | None, network: Network) -> None:
        self._steps, self._encoded = steps, list[Encoded]()
        self._places: list[tuple[Tensor, Tensor, Tensor]] = []
        if encode is None:
            self.x = steps.kept_input()
            return
        numbers: dict[int, list[int]] = {}
        for number in steps.held:
            numbers.setdefault(id(steps.segments[number].encoder_input), []).append(number)
        leaves = leaves_of(network.tensors)
        for held in numbers.values():
            given = cast("EncoderInput", steps.segments[held[0]].encoder_input)
            self._encoded.append(Encoded(given, encode, network, leaves))
            self._places.append(steps.of_input(held))
        self.x = self._gathered()

    def _gathered(self) -> Tensor:
        part, base, stride = (torch.empty_like(self._steps.index) for _ in range(3))
        for number, (encoded, (mine, start, column)) in enumerate(zip(self._encoded, self._places, strict=True)):
            width = encoded.x.shape[1]
            part[mine], base[mine], stride[mine] = number, start * width + column, width
        flat = [encoded.x.flatten(0, 1) for encoded in self._encoded]
        return self._steps.op.gather_past(flat, PastRows(part, base, stride, self._steps.count), self._steps.layout)

    @property
    def encoded(self) -> bool:
        """Whether the encoder made them, so that their gradient is needed."""
        return bool(self._encoded)

    def d_tensors(self, d_x: Tensor | None, count: int) -> list[Tensor | None]:
        """The gradients of the network's tensors, of which there are so many, by way of the encoder.

        Args:
            d_x: (T, R, I).
        """
        d_all: list[Tensor | None] = [None] * count
        if d_x is None:
            return d_all
        for encoded, (mine, start, column) in zip(self._encoded, self._places, strict=True):
            which, ahead, place = self._steps.steps_of(mine)
            credit = d_x.flatten(0, 1)[place.to(d_x.device)]
            encoded.add((start[which] + ahead).unsqueeze(0), column[which], credit.unsqueeze(0))
            d_all = totals(d_all, encoded.d_tensors())
        return d_all
