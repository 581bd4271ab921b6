"""Credit that calls have sent to the state they began with, and that waits to be sent on into the calls before it.

Shapes: B batch rows, M memory slots, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from reminding.nn.parts.tensors import HostRows, Rows, TensorGroup


@dataclass(frozen=True)
class LayerCredit(TensorGroup):
    """The gradient of one layer's h (B, H), of its cell's further state, and of its memories (B, M, H).

    Attributes:
        memory: None for zeros.
        memory_step: the stream step of each memory, (B, M).
    """

    h: Rows
    cell_state: tuple[Rows, ...]
    memory: Rows | None
    memory_step: Rows

    def plus(self, other: LayerCredit) -> LayerCredit:
        """The sum of two."""
        further = tuple(one + two for one, two in zip(self.cell_state, other.cell_state, strict=True))
        memory = other.memory if self.memory is None else self.memory
        if self.memory is not None and other.memory is not None:
            memory = self.memory + other.memory
        return replace(self, h=self.h + other.h, cell_state=further, memory=memory)


@dataclass(frozen=True)
class StateCredit(TensorGroup):
    """The gradient that came to a state: that of one layer's h, further state and memories is one of `layers` each.

    Attributes:
        stream: which stream each row of the state was of, (B,) int64 on the host; see `History`.
        step: the stream step of each row, (B,) int64 on the host.
    """

    stream: HostRows
    step: HostRows
    layers: tuple[LayerCredit, ...]

    def plus(self, other: StateCredit) -> StateCredit:
        """The sum of two gradients of the same state."""
        return replace(self, layers=tuple(one.plus(two) for one, two in zip(self.layers, other.layers, strict=True)))

    def of_type(self, kind: torch.dtype) -> StateCredit:
        """The same in another floating-point type."""
        return self.map(lambda tensor: tensor.to(kind) if tensor.is_floating_point() else tensor)


@dataclass
class _Copies:
    """What an `Owed` and its copies have in common: who the copies are, and how many of all were sent on."""

    known: list[ReferenceType[Owed]] = field(default_factory=list["ReferenceType[Owed]"])
    sent: int = 0


class Owed:
    """Credit that later calls have sent to one state, and that has not been sent on into the calls before it.

    It is filled by backward passes, which come after the states that follow have been given out: so these share it.

    Attributes:
        settled: whether it was sent on; what comes later is sent on at once, see `times_sent`.
        due: whether the backward pass of the call sends it on, with all that waited before.
    """

    def __init__(self, credit: StateCredit | None = None, due: bool = False) -> None:
        self._credit, self.settled, self.due = credit, False, due
        self._copies = _Copies()

    @property
    def credit(self) -> StateCredit | None:
        """What has come; None: nothing."""
        return self._credit

    @property
    def times_sent(self) -> int:
        """How many of it and its copies were sent on: as often, what comes now is to be sent on at once."""
        return self._copies.sent

    @property
    def waiting(self) -> list[Owed]:
        """Those of it and its copies that were not sent on."""
        copies = [each() for each in self._copies.known]
        every = (self, *(copy for copy in copies if copy is not self and copy is not None))
        return [owed for owed in every if not owed.settled]

    def add(self, credit: StateCredit) -> None:
        """Add what one backward pass has sent, to what waits of copies too."""
        for owed in self.waiting:
            owed._credit = credit if owed._credit is None else owed._credit.plus(credit)

    def copied(self) -> Owed:
        """The same credit for a copy of the states, which sends it on by itself; itself if it was sent on."""
        if self.settled:
            return self
        copy = Owed(None if self.credit is None else self.credit.map(Tensor.clone))
        self._copies.known = [each for each in self._copies.known if each() is not None] + [ref(copy)]
        copy._copies = self._copies  # those of a copy are copies of the first, whose call goes on sending
        return copy

    def of_type(self, like: Tensor) -> Owed:
        """The same credit in the type of a tensor, as of a state that was converted; itself if it has that."""
        if self.credit is None or self.credit.layers[0].h.dtype == like.dtype:
            return self
        copy = self.copied()
        copy._credit = self.credit.of_type(like.dtype)
        return copy

    def alone(self) -> Owed:
        """The same credit, which holds on to nothing else."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"credit": self.credit, "settled": self.settled}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self.__init__(kept["credit"])
        self.settled = kept["settled"]

    def sent(self) -> None:
        """Count what has come as sent on."""
        self._copies.sent += not self.settled
        self._credit, self.settled = None, True


def credits_in(waiting: Sequence[Owed]) -> list[StateCredit]:
    """The credit that waits, of the states that have any."""
    return [owed.credit for owed in waiting if owed.credit is not None]


def sent_on(waiting: Sequence[Owed]) -> None:
    """Count what the states are owed as sent on."""
    for owed in waiting:
        owed.sent()


def check_once(stream: Tensor, owing: Sequence[Owed]) -> Tensor:
    """The streams of some rows, (R,), none of which goes two ways while credit waits, since that is kept by stream.

    Raises:
        ValueError: one is there twice.
    """
    if owing and len(set(cast("list[int]", stream.tolist()))) < len(stream):
        raise ValueError(
            "index must have no row twice where credit waits for several calls: build the layer with credit_every=1, "
            "or take the rows of state.detach()"
        )
    return stream
