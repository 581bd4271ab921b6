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
from reminding.nn.state.past.runs import SegmentRun
from reminding.nn.state.past.segments import EncoderInput
from reminding.ops.backends import Op
from reminding.ops.past_layout import PastLayout, PastRows, PastRuns, PastSegments


class SegmentRows:
    """The single rows of segments, row by row, each row's oldest first.

    Attributes:
        row, steps_done, steps: (P,), as a segment has them.
        run, member: which run it belongs to, and as which of its rows, (P,).
        ahead: how many steps of the run lie before it, (P,).
        base, stride: where its first step lies among all steps of all runs, one behind the other as (S, R), and
            how far its steps lie apart, (P,).
        entering: where the state that it begins with lies among those of all segments of all runs, (P,).
    """

    def __init__(self, op: Op, runs: Sequence[SegmentRun]) -> None:
        every = PastRuns(
            [run.row.contiguous() for run in runs],
            [run.span.contiguous() for run in runs],
            [run.begins.contiguous() for run in runs],
            [run.sizes.contiguous() for run in runs],
            [run.steps for run in runs],
        )
        found = op.list_past(every)
        self.row, self.steps_done, self.steps, self.run, self.member, self.ahead = found[:6]
        self.base, self.stride, self.entering = found[6:]

    def of_layer(self, runs: Sequence[SegmentRun], layer: int) -> PastSegments:
        """They, with what a layer has read, as an op takes them."""
        read = [cast("Tensor", run.layers[layer].read).flatten(0, 1) for run in runs]
        return PastSegments(self.row, self.steps_done, self.steps, self.base, self.stride, torch.cat(read).cpu())


def _before(sizes: Tensor) -> Tensor:
    """The sum of the sizes before each."""
    return sizes.cumsum(0) - sizes


@dataclass(frozen=True, eq=False)
class ReachedSteps:
    """What credit reaches of one layer in past calls.

    Attributes:
        op: whose layout it is.
        layer: its number.
        runs: of all layers; rows: their single rows; given: they, with what the layer has read.
        layout: how the steps are laid out in time.
    """

    op: Op
    layer: int
    runs: Sequence[SegmentRun]
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
        """The numbers of the runs that they are of."""
        return cast("list[int]", self._run.unique().tolist())

    @cached_property
    def _run(self) -> Tensor:
        return self.rows.run[self.index]

    @cached_property
    def _number(self) -> Tensor:
        """The place of each one's run among those held, (L,)."""
        return torch.searchsorted(torch.tensor(self.held), self._run)

    @cached_property
    def _member(self) -> Tensor:
        return self.rows.member[self.index]

    @cached_property
    def _stride(self) -> Tensor:
        return self.rows.stride[self.index]

    def entering(self) -> tuple[Tensor, CellState]:
        """The states in which the segments were entered, (L, H) each."""
        states = [run.layers[self.layer].entering for run in self.runs]
        at = self.rows.entering[self.index]
        further = zip(*(state.cell_state for state in states), strict=True)
        return _chosen([state.h for state in states], at), tuple(_chosen(parts, at) for parts in further)

    def kept_input(self) -> Tensor:
        """The input, (T, R, I), where there is no encoder."""
        return self._gathered([run.x for run in self.runs if run.x is not None], self._run)

    def dropout_factor(self, layer: int, network: Network) -> Tensor | None:
        """What the input of a layer above the first was multiplied by, (T, R, H); None: by nothing."""
        held = [self.runs[number] for number in self.held]
        if not any(run.dropout_masks for run in held):
            return None
        like = network.tensors[0]
        factors = [
            run.dropout_factor(layer, like, network.dropout_scale)
            if run.dropout_masks
            else like.new_ones(run.steps, len(run.row), run.layers[layer - 1].entering.h.shape[2])
            for run in held
        ]
        return self._gathered(factors, self._number)

    def state_factor(self, like: Tensor) -> Tensor | None:
        """What recurrent dropout multiplied h by on its way into the cell, (T, R, H); None: nothing was dropped.

        Args:
            like: a tensor of the type of states, (., H).
        """
        held = [self.runs[number] for number in self.held]
        factors = [run.layers[self.layer].entering.factor for run in held]
        if all(factor is None for factor in factors):
            return None
        parts = [
            like.new_ones(len(run.row), like.shape[1]) if factor is None else factor.to(like)
            for run, factor in zip(held, factors, strict=True)
        ]
        rows = PastRows(self._number, self._member, torch.zeros_like(self._member), self.count)  # a row for all steps
        return self.op.gather_past(parts, rows, self.layout)

    def _gathered(self, parts: Sequence[Tensor], part: Tensor) -> Tensor:
        """What the steps have of some runs' tensors, (S, R, .) each: (T, R, .).

        Args:
            part: the number of each entry's run among them, (L,).
        """
        first = self.rows.ahead[self.index] * self._stride + self._member
        rows = PastRows(part, first, self._stride, self.count)
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
        """Which entries belong to runs of one encoder input, (m,); the step and the column of each in it."""
        mine = torch.isin(self._run, torch.tensor(number)).nonzero().squeeze(1)
        place = {run: at for at, run in enumerate(number)}
        of = torch.tensor([place[run] for run in cast("list[int]", self._run[mine].tolist())])
        start = torch.tensor([self.runs[run].start for run in number])
        columns = [cast("Tensor", self.runs[run].column) for run in number]
        first = _before(torch.tensor([len(column) for column in columns]))
        ahead = self.rows.ahead[self.index][mine]
        return mine, start[of] + ahead, torch.cat(columns)[first[of] + self._member[mine]]

    def steps_of(self, entries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All steps of some entries, (n,) each: the entry, the step in its segment, and the flat place in (T, R)."""
        count = self.count[entries]
        which = torch.repeat_interleave(count)
        ahead = torch.arange(len(which)) - (count.cumsum(0) - count)[which]
        return which, ahead, self.layout.first[entries[which]] + ahead * self.layout.shape[1]


def _chosen(parts: Sequence[Tensor], at: Tensor) -> Tensor:
    """Rows of tensors (N, R, ...), one behind the other, (L, ...)."""
    return torch.cat([part.flatten(0, 1) for part in parts]).index_select(0, at.to(parts[0].device))


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
            numbers.setdefault(id(steps.runs[number].encoder_input), []).append(number)
        leaves = leaves_of(network.tensors)
        for held in numbers.values():
            given = cast("EncoderInput", steps.runs[held[0]].encoder_input)
            self._encoded.append(Encoded(given, encode, network, leaves))
            self._places.append(steps.of_input(held))
        self.x = self._gathered()

    def _gathered(self) -> Tensor:
        part, base, stride = (torch.empty_like(self._steps.index) for _ in range(3))
        for number, (encoded, (mine, start, column)) in enumerate(zip(self._encoded, self._places, strict=True)):
            encoded.check_size(start + self._steps.count[mine], column)
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
