"""Credit that calls have sent to the state they began with, and that waits to be sent on into the calls before it.

Shapes: B batch rows, M memory slots, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

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


class Owed:
    """Credit that later calls have sent to one state, and that has not been sent on into the calls before it.

    It is filled by backward passes, which come after the states that follow have been given out: so these share it.

    Attributes:
        credit: None: none has come.
        settled: whether it was sent on; what comes later is sent on at once.
    """

    def __init__(self, credit: StateCredit | None = None) -> None:
        self.credit, self.settled = credit, False

    def add(self, credit: StateCredit) -> None:
        """Add what one backward pass has sent."""
        self.credit = credit if self.credit is None else self.credit.plus(credit)

    def take(self) -> StateCredit | None:
        """What has come, which counts as sent on from now."""
        credit, self.credit, self.settled = self.credit, None, True
        return credit


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
