"""The memory of one layer: the hidden states a network can be reminded of.

Shapes: B batch, M slots, H hidden, D score width.

How many slots a row has filled follows from its step count alone, never from the data. So `count`
stays on the host, and nothing here waits for an accelerator.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor

from reminding.nn.parts.tensors import HostRows, Rows, TensorGroup, counting_on_host, host_range
from reminding.ops import sparsify

NOTHING = sparsify.NOTHING
"""In the place of a stream step where no memory is meant; 0 is the zero vector of the release's memory."""
FAR = torch.iinfo(torch.int64).max
"""The stream step of padding where steps must ascend."""


@dataclass(eq=False)
class Memory(TensorGroup):
    """Stored hidden states of every batch row, oldest first. A value: each change makes a new one.

    Attributes:
        value: the hidden states ("microstates" in the paper), (B, M, H).
        step: the 1-based stream step each was stored at, (B, M) int64; 0 for padding and for the zero
            vector that the release's memory starts with.
        weight: recall weight each has received so far, (B, M); counted only where the capacity is
            bounded, since only eviction asks.
        count: filled slots per row, (B,) int64 on the host; slots behind them are padding.
        keys: what the scorer keeps per slot, (B, M, D); None outside a call, since weights may change.
    """

    value: Rows
    step: Rows
    weight: Rows
    count: HostRows
    keys: Rows | None = None
    kept: ClassVar[Any] = None
    """Where the slots are from which this memory was made, for the call after; of no other memory."""

    @classmethod
    def made_when_read(cls, make: Callable[[], Memory], kept: Any) -> Memory:
        """A memory that is made when it is first looked at; until then `kept` stands for it."""
        memory = object.__new__(cls)
        vars(memory).update(_make=make, kept=kept)
        return memory

    @property
    def is_as_kept(self) -> bool:
        """Whether it is still what `kept` stands for: not made yet, or not changed since."""
        made: tuple[tuple[str, Tensor, int], ...] = vars(self).get("_made", ())
        return all(getattr(self, name) is tensor and tensor._version == version for name, tensor, version in made)

    @property
    def counts_as_made(self) -> bool:
        """Whether `step` and `count` are as a call of a layer left them, so that they need no check."""
        own: tuple[tuple[str, Tensor, int], ...] = vars(self).get("_own", ())
        return bool(own) and all(getattr(self, at) is tensor and tensor._version == was for at, tensor, was in own)

    def __getattr__(self, name: str) -> Any:
        make = vars(self).get("_make")
        if make is None and name in vars(self):
            return vars(self)[name]  # another thread has made it meanwhile
        if make is None or name not in {field.name for field in fields(Memory)}:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        with torch.inference_mode(False), torch.no_grad(), counting_on_host():  # it must serve in any mode
            made = make()
        found = {field.name: getattr(made, field.name) for field in fields(made)}
        noted = found.items() if self.kept is not None else ()
        versions = tuple((at, tensor, tensor._version) for at, tensor in noted if tensor is not None)
        counts = (("step", made.step), ("count", made.count))
        counted = not any(tensor.is_inference() for _, tensor in counts)
        own = tuple((at, tensor, tensor._version) for at, tensor in counts) if counted else ()
        vars(self).update(found, _made=versions, _own=own, _make=None)
        return found[name]

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def slots(self) -> int:
        """How wide the memory is, padding included."""
        return self.value.shape[1]

    @property
    def padding(self) -> Tensor | None:
        """`count` where some row has padding, None where every slot is filled."""
        return None if bool((self.count == self.slots).all()) else self.count

    def without_values(self) -> Memory:
        """Which memories there are, not what they hold."""
        return replace(self, value=self.value.new_empty(*self.step.shape, 0), weight=self.weight.detach(), keys=None)

    @property
    def ascending_steps(self) -> Tensor:
        """The stream step of each memory, (B, M), ascending; FAR in the place of padding."""
        if self.padding is None:
            return self.step.contiguous()
        padding = host_range(self.slots) >= self.count.unsqueeze(1)
        return self.step.masked_fill(padding.to(self.step.device), FAR)

    def append(self, value: Tensor, key: Tensor, step: Tensor, rows: Tensor | None) -> Memory:
        """Store one hidden state behind the filled slots of the given rows.

        Args:
            value: (B, H); key: (B, D); step: the stream step of each row, (B,) int64.
            rows: which rows store, (B,) bool on the host; None: all.
        """
        assert self.keys is not None, "the keys are made when a call begins"
        if rows is None and self.padding is None:
            return replace(
                self,
                value=torch.cat([self.value, value.unsqueeze(1)], dim=1),
                step=torch.cat([self.step, step.unsqueeze(1)], dim=1),
                weight=torch.cat([self.weight, torch.zeros_like(self.weight[:, :1])], dim=1)
                if self.slots
                else self.weight.new_zeros(len(value), 1),
                keys=torch.cat([self.keys, key.unsqueeze(1)], dim=1),
                count=self.count + 1,
            )
        stores = torch.ones_like(self.count, dtype=torch.bool) if rows is None else rows
        count = self.count + stores
        wide = self.padded(int(count.max()))
        assert wide.keys is not None
        slot = host_range(wide.slots)
        place = (slot == self.count.unsqueeze(1)) & stores.unsqueeze(1)  # (B, M), one slot in rows that store
        place = place.to(value.device)
        return replace(
            wide,
            value=torch.where(place.unsqueeze(2), value.unsqueeze(1), wide.value),
            step=torch.where(place, step.unsqueeze(1), wide.step),
            weight=torch.where(place, 0.0, wide.weight),
            keys=torch.where(place.unsqueeze(2), key.unsqueeze(1), wide.keys),
            count=count,
        )

    def without(self, slot: Tensor, rows: Tensor) -> Memory:
        """Drop one slot of each given row and close the gap.

        Args:
            slot: which to drop, (B,) int64; looked at only in `rows`, (B,) bool on the host.
        """
        places = torch.arange(self.slots, device=slot.device)
        behind = (places >= slot.unsqueeze(1)) & rows.to(slot.device).unsqueeze(1)
        source = (places + behind).clamp(max=self.slots - 1)  # (B, M)
        return self.take(source, self.count - rows.to(self.count.dtype))

    def take(self, source: Tensor, count: Tensor) -> Memory:
        """The slots `source` names, (B, N) int64, in that order, the first `count` (B,) of them filled."""
        moved = {
            field.name: _take(getattr(self, field.name), source) for field in fields(self) if field.name != "count"
        }
        return replace(self, **moved, count=count)

    def padded(self, slots: int) -> Memory:
        """The same memory, at least `slots` wide."""
        missing = slots - self.slots
        if missing <= 0:
            return self
        grown = {
            field.name: _pad(getattr(self, field.name), missing) for field in fields(self) if field.name != "count"
        }
        return replace(self, **grown)

    def rows(self, index: Tensor | slice) -> Self:
        """The memory of some batch rows, no wider than they need."""
        count = self.count[index]
        width = int(count.max()) if count.numel() else 0
        kept = {
            field.name: None if (whole := getattr(self, field.name)) is None else whole[index][:, :width]
            for field in fields(self)
            if field.name != "count"
        }
        return replace(self, **kept, count=count)


def join(parts: list[Memory]) -> Memory:
    """Put the rows of several memories under one another; the narrower ones are padded."""
    width = max(part.slots for part in parts)
    wide = [part.padded(width) for part in parts]
    return Memory(
        value=torch.cat([part.value for part in wide]),
        step=torch.cat([part.step for part in wide]),
        weight=torch.cat([part.weight for part in wide]),
        count=torch.cat([part.count for part in wide]),
    )


def _take(whole: Tensor | None, source: Tensor) -> Tensor | None:
    if whole is None:
        return None
    index = source if whole.dim() == 2 else source.unsqueeze(2).expand(-1, -1, whole.shape[2])
    return whole.gather(1, index)


def _pad(whole: Tensor | None, missing: int) -> Tensor | None:
    if whole is None:
        return None
    return torch.cat([whole, whole.new_zeros(whole.shape[0], missing, *whole.shape[2:])], dim=1)


Evict = Callable[[Memory], Tensor]


def evict_oldest(memory: Memory) -> Tensor:
    """`evict="fifo"`: the oldest memory of each row goes, (B,).

    Args:
        memory: with B rows, all of whose slots hold a memory.
    """
    return torch.zeros(len(memory.count), dtype=torch.int64, device=memory.value.device)


def evict_least_recalled(memory: Memory) -> Tensor:
    """`evict="least_recalled"`: the slot with the smallest accumulated weight goes, the oldest of equals, (B,).

    [the relevancy screening of Kerg et al. 2020, Untangling tradeoffs between recurrence and
    self-attention in neural networks]

    Args:
        memory: with B rows, all of whose slots hold a memory.
    """
    return memory.weight.argmin(dim=1)


class Answered:
    """A user's rule of eviction with what it has answered, so that a second run finds the same memories.

    Asked again, the rule may answer otherwise: it may count its calls, say.
    """

    def __init__(self, evict: Evict) -> None:
        self._evict, self._answers = evict, list[Tensor]()

    def __call__(self, memory: Memory) -> Tensor:
        """Ask the rule."""
        slot = self._evict(memory)
        self._answers.append(deepcopy(slot))  # which the rule may use again
        return slot

    def again(self) -> Evict:
        """A rule that gives the same answers in their order."""
        answers = iter(self._answers)
        return lambda memory: next(answers)


EVICT: dict[str, Evict] = {"fifo": evict_oldest, "least_recalled": evict_least_recalled}


class StepCodes:
    """One number for a batch row and a stream step; of one row, the later step's is larger.

    Steps may be as large as int64 allows, in any number of rows: what counts is their rank among the known ones.

    Args:
        known: the steps that have a number, of any shape.
    """

    def __init__(self, known: Tensor) -> None:
        self._known = cast("Tensor", known.unique())

    def of(self, row: Tensor, step: Tensor) -> Tensor:
        """The numbers of rows and steps, which are broadcast; NOTHING for steps that are not known."""
        if len(self._known) == 0:
            return torch.full_like(row + step, NOTHING)
        rank = torch.searchsorted(self._known, step.contiguous()).clamp(max=len(self._known) - 1)
        return torch.where(self._known[rank] == step, row * len(self._known) + rank, NOTHING)
