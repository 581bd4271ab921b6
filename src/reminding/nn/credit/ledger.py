"""The credit that each remembered state received in backward passes, and the step through which it came.

Shapes: N entries, S steps, R rows, K memories that decided a recall, H hidden.
"""

from __future__ import annotations

import itertools
import secrets
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from reminding import checks
from reminding.nn.parts.memory import NOTHING

_NUMBERS = itertools.count(secrets.randbits(61))  # at random, since states go from process to process

MOST_APART = 1 << 14
"""So many entries may wait to be added to those of the same recalls, or as many as there are of these."""


class ReplayedRecalls(NamedTuple):
    """The recalls of one layer in a replayed segment, and the gradient that memories received through them.

    Attributes:
        layer: its number; row: of the batch, (R,); step: (S, R).
        memory_step: (S, R, K), 0 or less where nothing; weight: (S, R, K); received: (S, R, K, H).
        origin: by which number a `Credit` knows the row of the pass that each step was run in, (S, R); NOTHING where
            none does.
    """

    layer: int
    row: Tensor
    step: Tensor
    memory_step: Tensor
    weight: Tensor
    received: Tensor
    origin: Tensor


class _Parts(NamedTuple):
    """Gradients that came through recalls: what tells a recall from others, (N,) each; the weight; the gradient."""

    origin: Tensor
    layer: Tensor
    row: Tensor
    step: Tensor
    memory_step: Tensor
    weight: Tensor
    received: Tensor

    @property
    def recall(self) -> Tensor:
        """The number of the recall that each is of, (N,); equal recalls have equal numbers."""
        number = torch.zeros_like(self.origin)
        for column in self[:5]:
            values, place = _unique(column)
            number = _unique(number * len(values) + place)[1]
        return number

    def added_up(self) -> _Parts:
        """One for each recall: the sum of its gradients, and the weight of the last."""
        number = self.recall
        count = int(number.max()) + 1 if len(number) else 0
        last = number.new_zeros(count).scatter_reduce_(0, number, torch.arange(len(number)), "amax")
        received = self.received.new_zeros(count, self.received.shape[1]).index_add_(0, number, self.received)
        return _Parts._make([*(column[last] for column in self[:6]), received])


def _unique(column: Tensor) -> tuple[Tensor, Tensor]:
    return cast("Any", torch.unique)(column, return_inverse=True)


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

    The gradients that come through one recall are added as vectors, as those of a parameter are in its `grad`,
    however many calls the loss covers and however many backward passes are recorded: the amount is the length of
    their sum. So chunks of a stream have the entries of the whole while the weights do not change and no chunk's
    credit ends at an evicted memory or at the horizon. To tell losses apart, record each by itself. The vectors are
    held as long as this object: H numbers for each entry.

    Attributes:
        layer: from 0, (N,).
        row: of the batch as it was given to the call that took the step, (N,); for a call from before the recording,
            to the call whose backward pass reached it.
        step: stream step that recalled, counted from 1 as in `Recall.step`, (N,).
        memory_step: stream step at which the memory was stored, (N,).
        weight: of the recall, with the weights that the last backward pass used, (N,).
        amount: the Euclidean length of the gradient that reached the memory, in units of the loss over those of h,
            (N,).
    """

    def __init__(self) -> None:
        self._parts: list[_Parts] = []  # added up, then those that have come since
        self._listed: _Entries | None = None
        self._rows: dict[int, int] = {}

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
        """What each memory of a row received in all.

        Amounts of several recalls are added as lengths, so they never cancel.

        Args:
            row: of the batch, from 0; layer: from 0.

        Returns:
            the steps at which the memories were stored, ascending, (n,) int64, and the amounts, (n,); n memories
            received any.

        Raises:
            ValueError: row or layer is no integer of at least 0. Those that received nothing have n = 0.
        """
        row, layer = checks.at_least("row", row, 0), checks.at_least("layer", layer, 0)
        mine = (self.row == row) & (self.layer == layer)
        step = cast("Tensor", self.memory_step[mine].unique())
        place = torch.searchsorted(step, self.memory_step[mine])
        return step, self.amount.new_zeros(len(step)).index_add(0, place, self.amount[mine])

    def number(self, rows: Tensor) -> Tensor:
        """Numbers for the rows of a pass, (R,), by which their recalls are known again.

        Args:
            rows: which of the caller's batch they are, (R,).
        """
        given = [next(_NUMBERS) for _ in range(len(rows))]
        self._rows.update(zip(given, cast("list[int]", rows.tolist()), strict=True))
        return torch.tensor(given, dtype=torch.int64)

    def take(self, found: ReplayedRecalls) -> None:
        """Add what one replayed segment found."""
        memory_step = found.memory_step
        credited = (memory_step > 0) & (found.received != 0).any(3)  # the release's zero vector is no stored state
        each = (found.origin.unsqueeze(2), found.row.view(1, -1, 1), found.step.unsqueeze(2))
        origin, row, step = (tensor.expand(credited.shape).cpu()[credited.cpu()] for tensor in each)
        rest = (tensor[credited].cpu() for tensor in (memory_step, found.weight, found.received))
        self._parts.append(_Parts(origin, torch.full_like(row, found.layer), self._own(origin, row), step, *rest))
        self._listed = None
        if sum(len(part.row) for part in self._parts[1:]) > max(MOST_APART, len(self._parts[0].row)):
            self._add_up()

    def _own(self, origin: Tensor, row: Tensor) -> Tensor:
        """The rows (N,) of the calls that took the steps; `row`, where a call has not been recorded."""
        numbers, place = _unique(origin)
        own = [self._rows.get(number, NOTHING) for number in cast("list[int]", numbers.tolist())]
        known = torch.tensor(own, dtype=torch.int64)[place]
        return torch.where(known == NOTHING, row, known)

    def _add_up(self) -> _Parts:
        """Add up the gradients of each recall."""
        every = _Parts(*(torch.cat(tensors) for tensors in zip(*self._parts, strict=True)))
        self._parts = [every.added_up()]
        return self._parts[0]

    @property
    def _entries(self) -> _Entries:
        if not self._parts:
            none = torch.empty(0, dtype=torch.int64)
            return _Entries(none, none, none, none, torch.empty(0), torch.empty(0))
        if self._listed is None:
            every = self._add_up()
            amount = cast("Tensor", cast("Any", torch.linalg.vector_norm)(every.received, dim=1))
            order = amount.argsort(descending=True, stable=True)
            order = order[amount[order] != 0]
            self._listed = _Entries(*(tensor[order] for tensor in (*every[1:6], amount)))
        return self._listed


@dataclass(frozen=True)
class Noting:
    """What the passes and the replays of a call tell a `Credit`.

    Attributes:
        credit: it; order: the caller's numbers of the call's rows, (B,); None: as they are.
        stream: where segments have streams for rows, that of each of the call's rows, (B,); None: they have its rows.
    """

    credit: Credit
    order: Tensor | None = None
    stream: Tensor | None = None

    def number(self, rows: int) -> Tensor:
        """Numbers for the first rows of the call, so many, of which a pass is; (rows,)."""
        row = torch.arange(rows)
        return self.credit.number(row if self.order is None else self.order.cpu()[row])

    def of_streams(self, stream: Tensor | None) -> Noting:
        """The same for segments of the past, whose rows are streams."""
        return replace(self, stream=stream)

    def take(self, found: ReplayedRecalls) -> None:
        """Tell of a replayed segment, of the rows that the call has."""
        if self.stream is not None:
            same = found.row.unsqueeze(1) == self.stream
            known = same.any(1)
            there = known.to(found.received.device)
            found = ReplayedRecalls(
                layer=found.layer,
                row=same.int().argmax(1)[known],
                step=found.step[:, known],
                memory_step=found.memory_step[:, there],
                weight=found.weight[:, there],
                received=found.received[:, there],
                origin=found.origin[:, known],
            )
        row = found.row if self.order is None else self.order.cpu()[found.row]
        self.credit.take(found._replace(row=row))


def noting(credit: Credit | None, order: Tensor | None = None) -> Noting | None:
    """What tells a `Credit` of the caller's rows in this order, if any is recorded."""
    return None if credit is None else Noting(credit, order)
