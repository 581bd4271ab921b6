"""What credit reaches of past calls: found with integers, and gathered from their segments.

Shapes: B batch rows, P segments of single rows, L those that credit reaches, S steps of the longest of them, K ranks,
I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from reminding.nn.credit.bank import Bank
from reminding.nn.credit.sweep import gradients, total
from reminding.nn.parts.cells import Extra
from reminding.nn.parts.generators import drawing_as
from reminding.nn.state.segments import Segment, Source
from reminding.ops import cpu_op


class Rows:
    """The single rows of segments, row by row, each row's oldest first.

    Attributes:
        row, taken, steps: (P,), as a segment has them.
        number, member: which segment it belongs to, and as which of its rows, (P,).
        base, stride: where its first step lies among all steps of all segments, one behind the other as (S, R), and
            how far its steps lie apart, (P,).
    """

    def __init__(self, segments: Sequence[Segment]) -> None:
        rows = torch.tensor([len(segment.row) for segment in segments])
        steps = torch.tensor([segment.steps for segment in segments])
        number = torch.repeat_interleave(torch.arange(len(segments)), rows)
        member = torch.arange(len(number)) - (rows.cumsum(0) - rows)[number]
        row = torch.cat([segment.row for segment in segments])
        order = row.argsort(stable=True)  # the segments of each row come oldest first
        self.row, self.number, self.member = row[order], number[order], member[order]
        self.taken = torch.cat([segment.taken for segment in segments])[order]
        self.steps, self.stride = steps[self.number], rows[self.number]
        size = rows * steps
        self.base = (size.cumsum(0) - size)[self.number] + self.member

    def reached_by(self, bank: Bank, read: Tensor, carried: Tensor, reached: Tensor, rule: cpu_op.Rule) -> Tensor:
        """How many steps of each credit can have come to, (P,).

        Args:
            bank: with the credit that has come to memories; read: of all steps, (., K).
            carried: whether the state has any credit, (B,); reached: the stream step of that state, (B,).
        """
        until = torch.zeros(len(self.row), dtype=torch.int32)
        segments = [self.row, self.taken, self.steps, self.base, self.stride]
        memory = [bank.step.cpu(), bank.passes.cpu(), bank.credited.cpu().clone()]
        cpu_op.raw().reach_past(until, segments, read.unsqueeze(1).contiguous(), memory, carried, reached, list(rule))
        return until.long()


class Reached:
    """What credit reaches of past calls, run again: the entries of `Rows` with any step reached.

    Attributes:
        index: their places in `rows`, (L,); until: how many of their steps are reached, (L,).
        within: which of S steps those are, (S, L); step: the stream step of each, (S, L).
    """

    def __init__(self, rows: Rows, segments: Sequence[Segment], until: Tensor) -> None:
        self.index = until.nonzero().squeeze(1)
        self.until = until[self.index]
        self.row, self.taken = rows.row[self.index], rows.taken[self.index]
        self.number, self.member = rows.number[self.index], rows.member[self.index]
        ahead = torch.arange(int(self.until.max())).unsqueeze(1)
        self.within = ahead < self.until
        self.step = self.taken + ahead + 1
        self._ahead = torch.minimum(ahead, self.until - 1)
        self._rows, self._segments = rows, segments
        self.segments = cast("list[int]", self.number.unique().tolist())

    def steps_of(self, flat: Tensor) -> Tensor:
        """Of a tensor of all steps of all segments, (., ...), these: (S, L, ...); repeated where not reached."""
        base, stride = self._rows.base[self.index], self._rows.stride[self.index]
        return flat[base + self._ahead * stride]

    def entering(self) -> tuple[Tensor, Extra]:
        """The states in which the segments were entered, (L, H) each."""
        entries = [self._segments[number].layers[0].entry for number in self.segments]
        at = self._of_segments([len(entry.h) for entry in entries]) + self.member
        extra = tuple(torch.cat(parts)[at] for parts in zip(*(entry.extra for entry in entries), strict=True))
        return torch.cat([entry.h for entry in entries])[at], extra

    def kept_input(self) -> Tensor:
        """The input, (S, L, I), where there is no encoder."""
        held = [self._segments[number] for number in self.segments]
        x = torch.cat([segment.x.flatten(0, 1) for segment in held if segment.x is not None])
        base = self._of_segments([segment.steps * len(segment.row) for segment in held])
        return x[base + self._ahead * self._rows.stride[self.index] + self.member]

    def of_source(self, number: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Which entries belong to segments of one source; time (S, n) and column (n,) of their steps in it."""
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


@dataclass
class Inputs:
    """What went into the reached segments: as it was kept, or made again by the encoder.

    Attributes:
        x: (S, L, I).
        made: of each source, what the encoder made of it, and which entries, times and columns of it are in x.
    """

    x: Tensor
    made: list[tuple[Tensor, Tensor, Tensor, Tensor]]

    @staticmethod
    def of(reached: Reached, segments: Sequence[Segment], encode: Callable[[Source], Tensor] | None) -> Inputs:
        """Of the reached segments."""
        if encode is None:
            return Inputs(reached.kept_input(), [])
        numbers: dict[int, list[int]] = {}
        for number in reached.segments:
            numbers.setdefault(id(segments[number].source), []).append(number)
        made: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for held in numbers.values():
            source = cast("Source", segments[held[0]].source)
            with torch.enable_grad(), drawing_as(source.random, source.input.device):
                encoded = encode(source)
            made.append((encoded, *reached.of_source(held)))
        x = made[0][0].new_zeros(*reached.within.shape, made[0][0].shape[2])
        for encoded, mine, time, column in made:
            x[:, mine] = encoded.detach()[time, column]
        return Inputs(x, made)

    def d_parameters(self, d_x: Tensor, parameters: Sequence[Tensor]) -> list[Tensor | None]:
        """The encoder's gradient, from that of x, in the places of the parameters."""
        d_all: list[Tensor | None] = [None] * len(parameters)
        for encoded, mine, time, column in self.made:
            credit = torch.zeros_like(encoded).index_put(
                (time, column.expand_as(time)), d_x[:, mine], accumulate=True
            )
            found = gradients([encoded], list(parameters), [credit])
            d_all = [total(*pair) for pair in zip(d_all, found, strict=True)]
        return d_all
