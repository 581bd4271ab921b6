"""The states that a replay may read or send credit to, found by the stream step they were stored at.

Shapes: B batch rows, R rows of a segment, S steps of a segment, N states of a row, H hidden, E states between calls,
P segments of single rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from reminding.nn.parts.memory import FAR, NOTHING, StepCodes
from reminding.nn.parts.tensors import by_row
from reminding.nn.state.past.owed import StateCredit
from reminding.ops.past_layout import PastMemories


@dataclass(frozen=True)
class ReadPlaces:
    """Where the states lie that recorded recalls read; NOTHING where there is none.

    Attributes:
        own: which of them are states of the recall's own segment, by their step in it, from 0, (S, R, K).
        place: where the others lie in a bank, (S, R, K).
        filled: how many each recall read, (S, R).
    """

    own: Tensor
    place: Tensor
    filled: Tensor


class Bank:
    """Remembered states by the stream step they were stored at, and the credit that has come to each.

    A place is a state's number in all rows one after the other, oldest first.

    Args:
        value: (B, N, H).
        step: (B, N) int64; FAR for padding, which may stand anywhere.
        constant: which of them pass no credit on, (B, N) bool; None: none.
    """

    def __init__(self, value: Tensor, step: Tensor, constant: Tensor | None = None) -> None:
        value = value.detach()
        if bool((step[:, 1:] < step[:, :-1]).any()):
            order = step.argsort(dim=1, stable=True)
            value, step = value.gather(1, order.unsqueeze(2).expand(-1, -1, value.shape[2])), step.gather(1, order)
            constant = None if constant is None else constant.gather(1, order)
        self._constant = None if constant is None else constant.flatten()
        self._value = value.flatten(0, 1)
        self.step = step  # (B, N), ascending
        self._credit: Tensor | None = None
        self._reached = torch.zeros(len(self._value), dtype=torch.bool, device=value.device)

    @cached_property
    def _coder(self) -> StepCodes:
        return StepCodes(self.step)

    @cached_property
    def _codes(self) -> Tensor:
        """The code of each state, ascending."""
        row = torch.arange(len(self.step), device=self.step.device).unsqueeze(1)
        return self._coder.of(row, self.step).flatten()

    @property
    def device(self) -> torch.device:
        """Where the states are."""
        return self._value.device

    def zeros(self, *lead: int) -> Tensor:
        """No credit, for a number of states: (*lead, H)."""
        return self._value.new_zeros(*lead, self._value.shape[1])

    def places(self, step: Tensor, row: Tensor) -> Tensor:
        """Where states lie: stream steps (S, R, ...) of batch rows (R,) to places, NOTHING where absent.

        They may be on the host where the states are not, and the places are where they are.
        """
        if len(self._codes) == 0:
            return torch.full_like(step, NOTHING)
        device = self._codes.device
        asked = self._coder.of(row.to(device).view(1, -1, *[1] * (step.dim() - 2)), step.to(device))
        at = torch.searchsorted(self._codes, asked).clamp(max=len(self._codes) - 1)
        found = torch.where(self._codes[at] == asked, at, NOTHING).to(step.device)
        return found.masked_fill(step < 0, NOTHING)

    def read_places(self, read: Tensor, row: Tensor, steps_done: Tensor) -> ReadPlaces:
        """Where the states lie that recorded recalls of a segment read.

        Args:
            read: their stream steps, (S, R, K), NOTHING where there are fewer.
            row: which rows of the batch the segment's are, (R,); steps_done: what they had done before it, (R,).
        """
        own = read - steps_done.to(read.device).unsqueeze(1) - 1
        own = torch.where(own >= 0, own, NOTHING)
        place = self.places(torch.where(own >= 0, NOTHING, read), row)
        return ReadPlaces(own, place, (read >= 0).sum(2))

    def at(self, place: Tensor) -> Tensor:
        """The states at places (...), (..., H); zeros where there is NOTHING."""
        return _at(self._value, place)

    def add_memories(self, row: Tensor, step: Tensor, credit: Tensor) -> None:
        """Credit (R, M, H) for the states that rows (R,) stored at ascending stream steps (R, M), FAR for padding."""
        step, credit = step.to(self.device), credit.to(self._value)
        first = self._column_of(row, step)
        if first is None:
            rows = row.to(self.device).repeat_interleave(step.shape[1])
            place = self.places(step.masked_fill(step == FAR, NOTHING).view(1, -1), rows).squeeze(0)
            self.add(place, credit.flatten(0, 1))
            return
        last, shape = first + step.shape[1], self.step.shape
        self._received().view(*shape, -1)[:, first:last] += credit
        self._reached.view(shape)[:, first:last] |= _any_nonzero(credit)

    def _column_of(self, row: Tensor, step: Tensor) -> int | None:
        """The column at which these steps (R, M) of rows (R,) begin, if they are consecutive ones of all rows."""
        if step.numel() == 0 or len(row) != len(self.step) or not torch.equal(row, torch.arange(len(row))):
            return None
        first = int(torch.searchsorted(self.step[0], step[0, 0]))
        return first if torch.equal(self.step[:, first : first + step.shape[1]], step) else None

    def _received(self) -> Tensor:
        """The credit of each state so far, (B * N, H), to be added to."""
        if self._credit is None:
            self._credit = torch.zeros_like(self._value)
        return self._credit

    def add(self, place: Tensor, credit: Tensor) -> None:
        """Credit (..., H) for states at places (...); none where there is NOTHING."""
        real = place >= 0
        if place.dim() > 1 or not bool(real.all()):
            place, credit = place[real], credit[real]
        self._received().index_add_(0, place, credit)
        self._reached[place[_any_nonzero(credit)]] = True

    @property
    def states(self) -> Tensor:
        """All of them, each row's oldest first, (B, N, H)."""
        return self._value.view(*self.step.shape, self._value.shape[1])

    @property
    def credit(self) -> Tensor | None:
        """The credit that has come to each, (B, N, H); None where none has."""
        return None if self._credit is None else self._credit.view_as(self.states)

    @property
    def credited(self) -> Tensor:
        """Which of them credit has come to, (B, N) bool."""
        return self._reached.view_as(self.step)

    @property
    def memories(self) -> PastMemories:
        """When each was stored, which of them pass credit on, and which it has come to, as an op takes them."""
        constant = self._constant
        passes = torch.ones_like(self.step, dtype=torch.bool) if constant is None else ~constant.view_as(self.step)
        return PastMemories(self.step.cpu().contiguous(), passes.cpu(), self.credited.cpu())

    def reached(self, place: Tensor) -> bool:
        """Whether credit has come to any of the states at places."""
        if self._credit is None or len(self._reached) == 0:
            return False
        return bool((self._reached[place.clamp(min=0)] & (place >= 0)).any())

    def of(self, place: Tensor) -> Tensor | None:
        """The credit that states at places pass on, (..., H), 0 where there is NOTHING; None where none has any."""
        if self._credit is None:
            return None
        return _at(self._credit, place.masked_fill(self.constant(place), NOTHING))

    def constant(self, place: Tensor) -> Tensor:
        """Which of the states at places (...) pass no credit on; what is not here was evicted, and passes none."""
        if self._constant is None or len(self._constant) == 0:
            return place < 0
        return (place < 0) | self._constant[place.clamp(min=0)].to(place.device)


def _any_nonzero(credit: Tensor) -> Tensor:
    """As (credit != 0).any(-1), in a sixth of the time; of NaN the largest is NaN, which is not 0 either."""
    return credit.abs().amax(-1) != 0


def _at(flat: Tensor, place: Tensor) -> Tensor:
    if len(flat) == 0:
        return flat.new_zeros(*place.shape, flat.shape[1])
    place = place.to(flat.device)
    return torch.where((place >= 0).unsqueeze(-1), flat[place.clamp(min=0)], 0)


def _under(parts: Sequence[Tensor]) -> Tensor:
    """Tensors under one another."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


DState = tuple[Tensor, ...]
"""The gradient of one layer's h and of its cell's further state, (E, ...) each."""


class Borders:
    """The states between calls that any credit has come to.

    Args:
        credits: what came to the state that each call began with, or ended in.

    Attributes:
        row, step: the stream of each, and the steps it had done, (E,) int64 on the host.
        d_state: per layer its gradient.
    """

    def __init__(self, credits: Sequence[StateCredit]) -> None:
        row, step = _under([credit.stream for credit in credits]), _under([credit.step for credit in credits])
        every: list[DState] = []
        for peers in zip(*(credit.layers for credit in credits), strict=True):
            like = peers[-1].h
            parts = zip(*((layer.h, *layer.cell_state) for layer in peers), strict=True)
            every.append(tuple(_under([part.to(like) for part in tensors]) for tensors in parts))
        live = torch.stack([_any_nonzero(by_row(tensor)) for layer in every for tensor in layer]).any(0).cpu()
        if not bool(live.all()):
            row, step = row[live], step[live]
            every = [tuple(tensor[live.to(tensor.device)] for tensor in layer) for layer in every]
        self.row, self.step, self.d_state = row, step, every

    def __len__(self) -> int:
        return len(self.row)

    def at(self, row: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Which of them are of these streams at these steps, (R,) each: their numbers, and the places in (R,)."""
        if len(self) == 0:
            return self.row, self.row
        same = (self.row.unsqueeze(1) == row) & (self.step.unsqueeze(1) == step)
        number, place = same.nonzero(as_tuple=True)
        return number, place

    def among(self, row: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """The same for streams in ascending order, each one's steps in ascending order, (P,)."""
        if len(self) == 0 or len(row) == 0:
            return self.row[:0], self.row[:0]
        coder = StepCodes(step)
        known, asked = coder.of(row, step), coder.of(self.row, self.step)
        place = torch.searchsorted(known, asked).clamp(max=len(known) - 1)
        number = (known[place] == asked).nonzero().squeeze(1)
        return number, place[number]
