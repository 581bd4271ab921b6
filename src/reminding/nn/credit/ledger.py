"""The credit that each remembered state received in backward passes, and the step through which it came.

Shapes: N entries, S steps, R rows, K memories that decided a recall.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor


class _Entries(NamedTuple):
    layer: Tensor
    row: Tensor
    step: Tensor
    memory_step: Tensor
    weight: Tensor
    amount: Tensor


class Credit:
    """The credit that memories received: an entry for each recall that passed any on, the largest first.

    `SAB.credit` fills it. An entry says: when the stream of `row` took its `step`, the state it had stored at
    `memory_step` received a gradient of length `amount` through being recalled, or compared, by that step.
    With threshold weights the state that set the threshold has an entry too, of weight 0.

    Attributes, each (N,):
        layer: from 0; row: of the batch as it was given.
        step, memory_step: stream steps, counted from 1 as in `Recall.step`.
        weight: the recall weight, with the weights that the backward pass used.
        amount: the Euclidean length of the gradient that reached the memory, in units of the loss over those of h.
    """

    def __init__(self) -> None:
        self._parts: list[_Entries] = []

    def __len__(self) -> int:
        return len(self.amount)

    @property
    def layer(self) -> Tensor:
        """Number of the layer, (N,) int64."""
        return self._entries.layer

    @property
    def row(self) -> Tensor:
        """Row of the batch, (N,) int64."""
        return self._entries.row

    @property
    def step(self) -> Tensor:
        """Stream step that recalled, (N,) int64."""
        return self._entries.step

    @property
    def memory_step(self) -> Tensor:
        """Stream step at which the memory was stored, (N,) int64."""
        return self._entries.memory_step

    @property
    def weight(self) -> Tensor:
        """Recall weight, (N,)."""
        return self._entries.weight

    @property
    def amount(self) -> Tensor:
        """Length of the gradient that the memory received through this recall, (N,)."""
        return self._entries.amount

    def received(self, row: int = 0, layer: int = 0) -> tuple[Tensor, Tensor]:
        """What each memory of a row received in all: the steps at which they were stored, ascending, and the amounts.

        Amounts of several recalls are added as lengths, so they never cancel.
        """
        mine = (self.row == row) & (self.layer == layer)
        step = cast("Tensor", self.memory_step[mine].unique())
        place = torch.searchsorted(step, self.memory_step[mine])
        return step, self.amount.new_zeros(len(step)).index_add(0, place, self.amount[mine])

    def take(
        self,
        order: Tensor | None,
        layer: int,
        row: Tensor,
        step: Tensor,
        memory_step: Tensor,
        weight: Tensor,
        amount: Tensor,
    ) -> None:
        """Add what one replayed segment found.

        Args:
            order: the caller's numbers of the rows, (B,); None: as they are.
            row: (R,); step: (S, R); memory_step: (S, R, K), 0 or less where nothing; weight, amount: (S, R, K).
        """
        credited = (memory_step > 0) & (amount != 0)  # the release's zero vector is no stored state
        row = row if order is None else order.cpu()[row]
        rows, steps = row.view(1, -1, 1).expand_as(credited), step.unsqueeze(2).expand_as(credited)
        found = [tensor.cpu()[credited.cpu()] for tensor in (rows, steps, memory_step, weight, amount)]
        self._parts.append(_Entries(torch.full_like(found[0], layer), *found))

    @property
    def _entries(self) -> _Entries:
        if not self._parts:
            none = torch.empty(0, dtype=torch.int64)
            self._parts = [_Entries(none, none, none, none, torch.empty(0), torch.empty(0))]
        if len(self._parts) > 1 or not bool((self._parts[0].amount.diff() <= 0).all()):
            joined = _Entries(*(torch.cat(tensors) for tensors in zip(*self._parts, strict=True)))
            order = joined.amount.argsort(descending=True, stable=True)
            self._parts = [_Entries(*(tensor[order] for tensor in joined))]
        return self._parts[0]
