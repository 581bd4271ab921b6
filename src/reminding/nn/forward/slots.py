"""The memories of one layer's streams in slots, from call to call, and as the memory of a state.

Slots that are filled are never written again, unless they belong to one stepper alone: states share them, each with
its own window.

Shapes: B batch, M slots, H hidden, D score width.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from reminding.nn.forward.packed_weights import LayerWeights
from reminding.nn.parts.memory import Memory
from reminding.ops.contract import EVICT, OpRule
from reminding.ops.serving import Held, Server, Slots

LEAST_SPARE = 16
"""Slots to spare, at least, when memories are laid out."""


class Turn:
    """Which state may write behind the filled slots: the one that was last made. Others copy them first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0

    def take(self, number: int) -> int | None:
        """The next number, for the holder of the present one; None for all others."""
        with self._lock:
            if number != self._number:
                return None
            self._number += 1
            return self._number


@dataclass(frozen=True, eq=False)
class KeptMemory:
    """One layer's memories in slots, and the weights that made their keys.

    Attributes:
        server: the op that they are laid out for.
        free: slots behind every row's window, at least.
        turn, number: whose turn it is to write behind the window, and the number of this.
    """

    slots: Slots
    held: Held
    weights: LayerWeights
    server: Server
    free: int
    turn: Turn = field(default_factory=Turn)
    number: int = 0

    def less_free(self, taken: int) -> KeptMemory:
        """The same after so many slots may have been taken."""
        return replace(self, free=self.free - taken)


def load(memory: Memory, weights: LayerWeights, server: Server, room: int) -> KeptMemory:
    """Lay a memory out in slots, with keys, and with room for at least so many more."""
    rule = weights.op_rule
    filled = memory.rows(slice(None))
    spare = max(room, spare_slots(filled.slots, rule))
    wide = filled.padded(filled.slots + spare)
    received = wide.weight if rule.bounded else wide.weight[:, :0]
    keys, tops = server.prepare(filled.value.detach(), weights.scorer, rule)
    keys = torch.cat([keys, keys.new_zeros(len(keys), spare, keys.shape[2])], dim=1)
    window = torch.stack([torch.zeros_like(memory.count), memory.count], dim=1)
    value, step = wide.value.contiguous(), wide.step.contiguous()
    held = Held(window, tops, server.trees(keys, rule))
    return KeptMemory(Slots(value, step, received.contiguous(), keys), held, weights, server, spare)


def spare_slots(filled: int, rule: OpRule) -> int:
    """How many empty slots are laid out behind so many filled ones: enough that copies are rare."""
    return max(LEAST_SPARE, (rule.capacity // 2 + max(rule.capacity - filled, 0)) if rule.bounded else filled)


def with_room(kept: KeptMemory, room: int) -> KeptMemory:
    """The same memories with room for so many more; copied where there is too little."""
    if kept.free >= room:
        return kept
    window = kept.held.window
    free = kept.slots.step.shape[1] - int(window[:, 1].max()) if len(window) else room
    if free >= room:
        return replace(kept, free=free)
    return copied(kept, room)


def copied(kept: KeptMemory, room: int) -> KeptMemory:
    """The same memories in slots of their own, with room for at least so many more."""
    window = kept.held.window
    count = window[:, 1] - window[:, 0]
    width = int(count.max()) if len(count) else 0
    spare = max(room, spare_slots(width, kept.weights.op_rule))
    slots = Slots(*(_filled(tensor, window, width, spare) for tensor in kept.slots))
    window = torch.stack([torch.zeros_like(count), count], dim=1)
    held = Held(window, kept.held.tops.clone(), kept.server.trees(slots.keys, kept.weights.op_rule))
    return KeptMemory(slots, held, kept.weights, kept.server, spare)


def for_next_call(kept: KeptMemory, room: int) -> KeptMemory:
    """The memories for a call that must leave these as they are: the same slots for the first call, else copies."""
    rule = kept.weights.op_rule
    roomy = with_room(kept, room)
    if roomy.slots is not kept.slots:
        return roomy
    closes_gaps = room > 0 and rule.bounded and rule.evict != EVICT["fifo"]
    number = None if closes_gaps else kept.turn.take(kept.number)
    if number is None:
        return copied(kept, room)
    received = roomy.slots.received.clone() if rule.bounded else roomy.slots.received
    held = Held(roomy.held.window.clone(), roomy.held.tops.clone(), roomy.held.trees)
    slots = roomy.slots._replace(received=received)
    return replace(roomy, slots=slots, held=held, number=number)


def empty(kept: KeptMemory, mask: Tensor, begin: Tensor, zero_slot: bool) -> None:
    """Leave nothing in some rows, or the one vector of zeros that a stream begins with under "release"; in place.

    Args:
        mask: which rows, (B,) bool; begin: the slot at which each one's window begins then, (n,) int64, behind all
            slots that another state may look at.
    """
    slots, held, mine = kept.slots, kept.held, kept.weights
    held.window[mask] = torch.stack([begin, begin + int(zero_slot)], dim=1)
    held.tops[mask] = 0
    held.trees.forget(mask)
    if not zero_slot or mine.k_top == 0:
        return
    keys, tops = kept.server.prepare(slots.value.new_zeros(1, 1, slots.value.shape[2]), mine.scorer, mine.op_rule)
    row = mask.nonzero().squeeze(1)
    slots.value[row, begin], slots.step[row, begin], slots.keys[row, begin] = 0, 0, keys[0, 0]
    held.tops[mask] = tops
    if slots.received.shape[1]:
        slots.received[row, begin] = 0


def memory_of(kept: KeptMemory) -> Memory:
    """The memories as a state has them, made when they are looked at; the slots must not change until then."""
    return Memory.made_when_read(partial(snapshot, kept), kept)


def snapshot(kept: KeptMemory) -> Memory:
    """The memories as a state has them, copied."""
    window = kept.held.window
    count = window[:, 1] - window[:, 0]
    width = int(count.max()) if len(count) else 0
    value, step = (_filled(tensor, window, width, 0) for tensor in kept.slots[:2])
    bounded = kept.weights.op_rule.bounded
    weight = _filled(kept.slots.received, window, width, 0) if bounded else value.new_zeros(step.shape)
    return Memory(value, step, weight, count)


def _filled(whole: Tensor, window: Tensor, width: int, spare: int) -> Tensor:
    """The slots in each row's window, and zeros behind them up to width + spare, copied."""
    if whole.shape[1] == 0:
        return whole.new_zeros(whole.shape)
    first, end = window.unbind(1)
    to = whole.new_zeros(len(whole), width + spare, *whole.shape[2:])
    if len(window) and bool((window == window[0]).all()):
        to[:, :width] = whole[:, int(first[0]) : int(end[0])]
        return to
    for row in range(len(window)):
        start, stop = int(first[row]), int(end[row])
        to[row, : stop - start] = whole[row, start:stop]
    return to
