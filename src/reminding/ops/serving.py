"""The contract of serving: streams whose memories an op keeps from call to call, so that a step costs a step.

A whole pass makes the keys of all memories and copies them; here they are made once, when a memory is stored.

Shapes: B batch, T time, I input, H hidden, D score width (1 where the score is keyless), M slots, K k_top.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from reminding.ops.contract import OpRule

Packed = tuple[Tensor | None, ...]
"""The weights of a layer in the form that an op reads."""


class Slots(NamedTuple):
    """Memories in slots, of which a row's window says which are filled. A call writes to slots behind the window."""

    value: Tensor  # (B, M, H)
    step: Tensor  # (B, M) int64: the stream step each was stored at
    received: Tensor  # (B, M): recall weight each has received; (B, 0) without capacity
    keys: Tensor  # (B, M, D), as the op compares them


class Trees(NamedTuple):
    """What an op needs to find the best memories without scoring all of them; without elements where it scores all.

    Its values are the op's own; they belong to the slots, not to a window.
    """

    points: Tensor  # (B, nodes, ...)
    links: Tensor  # (B, ...) int32
    notes: Tensor  # (B, 4) int64; notes[:, 0] = -1: build the row's tree anew

    def forget(self, rows: Tensor) -> None:
        """Have the trees of some rows, (B,) bool, built anew."""
        self.notes[rows, 0] = -1


class Held(NamedTuple):
    """What a call knows of the slots, and leaves for the next one, in place."""

    window: Tensor  # (B, 2) int64: the first filled slot, and the one behind the last
    tops: Tensor  # (B, D + 1), (B, 1) where the score is keyless: bounds of the keys
    trees: Trees


class StreamState(NamedTuple):
    """The state of streams besides their memories."""

    h: Tensor  # (B, H)
    c: Tensor  # (B, H), (B, 0) unless LSTM; a call may write the new one here
    step: Tensor  # (B,) int64


class Served(NamedTuple):
    """What a call returns; all but output and c are None unless asked for."""

    output: Tensor  # (T, B, H)
    summary: Tensor | None  # (T, B, H)
    c: Tensor  # (B, H)
    weights: Tensor | None  # (T, B, K), largest first
    steps: Tensor | None  # (T, B, K) int64: when each recalled memory was stored, 0 where none


class Server(Protocol):
    """What a backend offers that serves streams."""

    def pack(self, recurrent: Sequence[Tensor | None], scorer: Sequence[Tensor], rule: OpRule) -> Packed:
        """The weights in the op's form; see `LayerInput`."""
        ...

    def prepare(self, value: Tensor, scorer: Sequence[Tensor], rule: OpRule) -> tuple[Tensor, Tensor]:
        """The keys (B, M, D) of memories (B, M, H), and `Held.tops` of them."""
        ...

    def trees(self, keys: Tensor, rule: OpRule) -> Trees:
        """Trees over the slots of keys (B, M, D), not built yet."""
        ...

    def serve(
        self,
        x: Tensor,
        state: StreamState,
        packed: Packed,
        slots: Slots,
        held: Held,
        c: Tensor,
        rule: OpRule,
        record: bool,
    ) -> Served:
        """Run T steps on from a state; slots and held are changed in place, c (B, H) is written."""
        ...

    def fingerprint(self, weights: Sequence[Tensor]) -> int:
        """A number that changes with the numbers in the weights."""
        ...
