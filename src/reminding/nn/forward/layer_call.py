"""What a way of running one layer over a stretch of time is given, and what it returns.

Shapes: B batch, T time, I input, K recalled memories, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from reminding.nn.parts.bound import BoundLayer
from reminding.nn.parts.rule import Rule
from reminding.nn.state.past.segments import ReplayRecord
from reminding.nn.state.stream import LayerState, Recall


@dataclass(frozen=True)
class LayerCall:
    """One layer to be run over a stretch of time.

    Attributes:
        x: input, (T, B, I).
        state: the layer's state before it.
        steps_done: steps each row's stream has done before, (B,) int64 on the host.
        record: whether to note what was recalled.
        starts: the steps, counted from 0, at which segments begin that a replay may have to go through again;
            None: there will be no replay.
        factor: what recurrent dropout multiplies h by on its way into the cell, (B, H); None: nothing is dropped.
        lengths: how many of the T steps each row has, the longest first, (B,) int64 on the host; None: all. Only an
            op that `takes_lengths` runs such a call.
    """

    layer: BoundLayer
    rule: Rule
    x: Tensor
    state: LayerState
    steps_done: Tensor
    record: bool
    starts: list[int] | None
    factor: Tensor | None = None
    lengths: Tensor | None = None

    @property
    def steps(self) -> int | Tensor:
        """How many steps are done: the same of all rows, or of each row, (B,)."""
        return len(self.x) if self.lengths is None else self.lengths

    @property
    def draws(self) -> bool:
        """Whether cell or scorer may draw random numbers, which a replay would have to draw again."""
        return self.layer.cell_name is None or self.layer.score_name is None


class LayerPass(NamedTuple):
    """What came of it."""

    output: Tensor  # (T, B, H)
    after: LayerState
    recall: Recall | None  # time-major, if asked for
    replay: ReplayRecord | None  # what a replay needs, if there may be one
    stored: Tensor  # (T, B, H), what goes to memory at the steps that store
