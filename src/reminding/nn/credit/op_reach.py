"""What credit reaches of past calls: found with integers, and gathered from their segments.

Shapes: B batch rows, P segments of single rows, L those that credit reaches, S steps of the longest of them, K ranks,
I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from reminding.nn.credit.bank import Bank
from reminding.nn.credit.encoded import Encode, Encoded
from reminding.nn.credit.network import Network, leaves_of, totals
from reminding.nn.parts.cells import CellState
from reminding.nn.state.past.segments import EncoderInput, Segment
from reminding.ops.backends import Op
from reminding.ops.contract import OpRule


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

    def reached_by(self, op: Op, bank: Bank, read: Tensor, arrived: Tensor, rule: OpRule) -> Tensor:
        """How many steps of each credit can have come to, (P,).

        Args:
            bank: with the credit that has come to memories; read: of all steps, (., K).
            arrived: how many it has come to from the layer above, or all where it ends in a state with credit, (P,).
        """
        segments = [self.row, self.steps_done, self.steps, self.base, self.stride]
        memory = [bank.step.cpu(), bank.passes.cpu(), bank.credited.cpu().clone()]
        return op.reach_past(segments, read, memory, arrived, rule)


class ReachedSteps:
    """What credit reaches of one layer in past calls: the entries of `SegmentRows` with any step reached.

    Args:
        count: how many steps of each entry are reached, (P,); read: the stream steps that the layer has read, of all
            steps of all segments, one behind the other, (., K).

    Attributes:
        layer: its number.
        index: their places in `rows`, (L,); count: how many of their steps are reached, (L,).
        within: which of S steps those are, (S, L); step: the stream step of each, (S, L).
    """

    def __init__(
        self, rows: SegmentRows, segments: Sequence[Segment], count: Tensor, layer: int, read: Tensor
    ) -> None:
        self.layer = layer
        self.index = count.nonzero().squeeze(1)
        self.count = count[self.index]
        self.row, self.steps_done = rows.row[self.index], rows.steps_done[self.index]
        self.number, self.member = rows.number[self.index], rows.member[self.index]
        ahead = torch.arange(int(self.count.max())).unsqueeze(1)
        self.within = ahead < self.count
        self.step = self.steps_done + ahead + 1
        self._ahead = torch.minimum(ahead, self.count - 1)
        self._rows, self._segments, self._read = rows, segments, read
        self.segments = cast("list[int]", self.number.unique().tolist())

    @property
    def read(self) -> Tensor:
        """The stream steps that each step has read, (S, L, K); repeated where not reached."""
        base, stride = self._rows.base[self.index], self._rows.stride[self.index]
        return self._read[base + self._ahead * stride]

    def of(self, other: ReachedSteps) -> Tensor:
        """Which of these entries another layer's are, of which each is one of these, too."""
        return torch.searchsorted(self.index, other.index)

    def new_steps(self, like: Tensor) -> Tensor:
        """Zeros for each step, (S, L, H)."""
        return like.new_zeros(*self.within.shape, like.shape[2])

    def entering(self) -> tuple[Tensor, CellState]:
        """The states in which the segments were entered, (L, H) each."""
        states = [self._segments[number].layers[self.layer].entering for number in self.segments]
        at = self._of_segments([state.h.shape[0] for state in states]) + self.member
        further = zip(*(state.cell_state for state in states), strict=True)
        return torch.cat([state.h for state in states])[at], tuple(torch.cat(parts)[at] for parts in further)

    def kept_input(self) -> Tensor:
        """The input, (S, L, I), where there is no encoder."""
        held = [self._segments[number] for number in self.segments]
        return self._gathered([segment.x for segment in held if segment.x is not None])

    def dropout_factor(self, layer: int, network: Network) -> Tensor | float:
        """What the input of a layer above the first was multiplied by, (S, L, H)."""
        held = [self._segments[number] for number in self.segments]
        if not any(segment.dropout_masks for segment in held):
            return 1.0
        like = network.tensors[0]
        factors = [
            segment.dropout_masks[layer - 1].to(like) * network.dropout_scale
            if segment.dropout_masks
            else like.new_ones(segment.steps, len(segment.row), segment.layers[layer - 1].entering.h.shape[1])
            for segment in held
        ]
        return self._gathered(factors)

    def _gathered(self, parts: Sequence[Tensor]) -> Tensor:
        """What the steps have of the reached segments' tensors, (S, R, .) each: (S, L, .)."""
        base = self._of_segments([part.shape[0] * part.shape[1] for part in parts])
        flat = torch.cat([part.flatten(0, 1) for part in parts])
        return flat[base + self._ahead * self._rows.stride[self.index] + self.member]

    def of_input(self, number: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Which entries belong to segments of one encoder input; time (S, n) and column (n,) of their steps in it."""
        mine = torch.isin(self.number, torch.tensor(number)).nonzero().squeeze(1)
        place = {segment: at for at, segment in enumerate(number)}
        of = torch.tensor([place[segment] for segment in cast("list[int]", self.number[mine].tolist())])
        start = torch.tensor([self._segments[segment].start for segment in number])
        columns = [cast("Tensor", self._segments[segment].column) for segment in number]
        first = torch.tensor([0, *(len(column) for column in columns[:-1])]).cumsum(0)
        return mine, start[of] + self._ahead[:, mine], torch.cat(columns)[first[of] + self.member[mine]]

    def _of_segments(self, sizes: list[int]) -> Tensor:
        """Where each entry's segment begins, if the reached ones lie one behind the other with such sizes, (L,)."""
        begin = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        return begin[torch.searchsorted(torch.tensor(self.segments), self.number)]


class TimeLayout:
    """Reached steps laid out in time: each row's one behind the other, so that all end together.

    Attributes:
        reached: the steps.
        steps: T; row: the batch rows that have any, (R,); place: where each step lies in (T, R), flat, (n,).
        column: which of these rows each entry belongs to, (L,).
        time: where each step lies in time, (S, L).
        first, follows: whether it is its row's first, and whether it goes on where the one before it ended, (L,).
    """

    def __init__(self, reached: ReachedSteps) -> None:
        self.reached = reached
        self.row = cast("Tensor", reached.row.unique())
        self.column = torch.searchsorted(self.row, reached.row)
        behind = reached.count.cumsum(0)
        total = torch.zeros(len(self.row), dtype=torch.int64).scatter_add(0, self.column, reached.count)
        end = total.cumsum(0)[self.column]
        self.steps = int(total.max())
        self._shape = tuple(reached.within.shape)
        self._source = reached.within.flatten().nonzero().squeeze(1)  # (n,) into (S, L)
        ahead = torch.arange(len(reached.within)).unsqueeze(1)
        self.time = self.steps - (end - behind + reached.count) + ahead
        self.place = (self.time * len(self.row) + self.column).flatten()[self._source]
        self.first = torch.ones_like(self.column, dtype=torch.bool)
        self.first[1:] = self.column[1:] != self.column[:-1]
        self.follows = ~self.first
        self.follows[1:] &= (reached.steps_done + reached.count)[:-1] == reached.steps_done[1:]

    def of(self, tensor: Tensor, nothing: float = 0) -> Tensor:
        """(S, L, ...) to (T, R, ...)."""
        shape = (self.steps, len(self.row), *tensor.shape[2:])
        flat = tensor.new_full((shape[0] * shape[1], *shape[2:]), nothing)
        chosen = tensor.flatten(0, 1).index_select(0, self._source.to(tensor.device))
        return flat.index_copy_(0, self.place.to(tensor.device), chosen).view(shape)

    def back(self, tensor: Tensor) -> Tensor:
        """(T, R, ...) to (S, L, ...), 0 where not reached."""
        steps, entries = self._shape
        flat = tensor.new_zeros(steps * entries, *tensor.shape[2:])
        chosen = tensor.flatten(0, 1).index_select(0, self.place.to(tensor.device))
        flat.index_copy_(0, self._source.to(tensor.device), chosen)
        return flat.view(steps, entries, *tensor.shape[2:])


class PastInputs:
    """What went into the reached segments, (S, L, I): as it was kept, or made by the encoder once more.

    Args:
        encode: None: there is no encoder.
    """

    def __init__(
        self, steps: ReachedSteps, segments: Sequence[Segment], encode: Encode | None, network: Network
    ) -> None:
        self._parts: list[tuple[Encoded, tuple[Tensor, Tensor, Tensor]]] = []
        if encode is None:
            self.x = steps.kept_input()
            return
        numbers: dict[int, list[int]] = {}
        for number in steps.segments:
            numbers.setdefault(id(segments[number].encoder_input), []).append(number)
        leaves = leaves_of(network.tensors)
        for held in numbers.values():
            encoded = Encoded(cast("EncoderInput", segments[held[0]].encoder_input), encode, network, leaves)
            self._parts.append((encoded, steps.of_input(held)))
        like = network.tensors[0]
        self.x = like.new_zeros(*steps.within.shape, self._parts[0][0].size)
        for encoded, (mine, time, column) in self._parts:
            self.x[:, mine] = encoded.at(time, column)

    @property
    def encoded(self) -> bool:
        """Whether the encoder made them, so that their gradient is needed."""
        return bool(self._parts)

    def d_tensors(self, d_x: Tensor | None, count: int) -> list[Tensor | None]:
        """The gradients of the network's tensors, of which there are so many, by way of the encoder."""
        d_all: list[Tensor | None] = [None] * count
        for encoded, (mine, time, column) in self._parts if d_x is not None else ():
            encoded.add(time, column, cast("Tensor", d_x)[:, mine])
            d_all = totals(d_all, encoded.d_tensors())
        return d_all
