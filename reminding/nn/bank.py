"""The states that a replay may read or send credit to, found by the stream step they were stored at.

Shapes: B batch rows, R rows of a segment, S steps of a segment, N states of a row, H hidden.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reminding.nn.memory import NOTHING


class Bank:
    """Remembered states by the stream step they were stored at, and the credit that has come to each.

    Args:
        value: (B, N, H).
        step: (B, N) int64; FAR for padding, which may stand anywhere.
        constant: which of them pass no credit on, (B, N) bool; None: none.
    """

    def __init__(self, value: Tensor, step: Tensor, constant: Tensor | None = None) -> None:
        order = step.argsort(dim=1, stable=True)
        self._constant = None if constant is None else constant.gather(1, order).flatten()
        self._step = step.gather(1, order)
        self._value = value.detach().gather(1, order.unsqueeze(2).expand(-1, -1, value.shape[2])).flatten(0, 1)
        self._credit: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where the states are."""
        return self._value.device

    def zeros(self, *lead: int) -> Tensor:
        """No credit, for a number of states: (*lead, H)."""
        return self._value.new_zeros(*lead, self._value.shape[1])

    def places(self, step: Tensor, row: Tensor) -> Tensor:
        """Where states lie: stream steps (S, R, ...) of batch rows (R,) to places, NOTHING where absent."""
        if self._step.shape[1] == 0:
            return torch.full_like(step, NOTHING)
        by_row = step.movedim(1, 0)
        asked = by_row.reshape(len(row), -1).contiguous()
        known = self._step[row]
        at = torch.searchsorted(known, asked).clamp(max=known.shape[1] - 1)
        found = (known.gather(1, at) == asked) & (asked >= 0)
        place = torch.where(found, at + row.unsqueeze(1) * known.shape[1], NOTHING)
        return place.view(by_row.shape).movedim(0, 1)

    def at(self, place: Tensor) -> Tensor:
        """The states at places (...), (..., H); zeros where there is NOTHING."""
        return _at(self._value, place)

    def add(self, place: Tensor, credit: Tensor) -> None:
        """Credit (..., H) for states at places (...); none where there is NOTHING."""
        if self._credit is None:
            self._credit = torch.zeros_like(self._value)
        real = place >= 0
        self._credit.index_add_(0, place[real], credit[real])

    def of(self, place: Tensor) -> Tensor | None:
        """The credit that states at places pass on, (..., H), 0 where there is NOTHING; None where none has any."""
        if self._credit is None:
            return None
        constant = self.constant(place)
        return _at(self._credit, place if constant is None else place.masked_fill(constant, NOTHING))

    def constant(self, place: Tensor) -> Tensor | None:
        """Which of the states at places (...) pass no credit on; None where all do."""
        if self._constant is None:
            return None
        return (place < 0) | self._constant[place.clamp(min=0)] if len(self._constant) else place < 0


def _at(flat: Tensor, place: Tensor) -> Tensor:
    if len(flat) == 0:
        return flat.new_zeros(*place.shape, flat.shape[1])
    return torch.where((place >= 0).unsqueeze(-1), flat[place.clamp(min=0)], 0)
