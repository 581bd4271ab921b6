"""The classes that a pickled state is made of, for loaders that take no others."""

from __future__ import annotations

from typing import Any

from reminding.nn.parts.memory import Memory
from reminding.nn.state.made_by import MadeBy
from reminding.nn.state.past.history import History, HistoryData, Lazy, PastCall
from reminding.nn.state.past.owed import LayerCredit, Owed, StateCredit
from reminding.nn.state.past.reachable import Evicted
from reminding.nn.state.past.runs import LayerRun, SegmentRun
from reminding.nn.state.past.segments import EncoderInput, EnteringStates
from reminding.nn.state.stream import LayerState, SABState

STATE_CLASSES: list[Any] = [
    SABState,
    LayerState,
    Memory,
    MadeBy,
    History,
    HistoryData,
    Lazy,
    PastCall,
    SegmentRun,
    LayerRun,
    EnteringStates,
    EncoderInput,
    Evicted,
    Owed,
    StateCredit,
    LayerCredit,
]
"""What `torch.serialization.safe_globals` takes for `torch.load` to read states with `weights_only=True`.

Reading them runs no code that the file brings. Their numbers are not checked: `SABState.check` does that.
"""
