"""Modules: the SAB layer, its state, and the baselines it is compared with. `export` makes graphs of a trained layer.

Other rooms may import all of `nn`.
May import: `checks`, `nn.parts`, `nn.state`, `nn.layer`, `nn.credit`, `nn.baselines`, `reminding.ops`.
"""

from reminding.nn.baselines import (
    RTU,
    CarriedState,
    MinGRU,
    Transformer,
    full_attention,
    full_bptt,
    truncated_bptt,
)
from reminding.nn.credit.ledger import Credit
from reminding.nn.layer.sab import SAB
from reminding.nn.parts.memory import Memory
from reminding.nn.parts.scorers import Scorer
from reminding.nn.state.merging import merge_states
from reminding.nn.state.stream import Recall, SABState
from reminding.nn.tbptt import TruncatedBPTT, tbptt

__all__ = [
    "RTU",
    "SAB",
    "CarriedState",
    "Credit",
    "Memory",
    "MinGRU",
    "Recall",
    "SABState",
    "Scorer",
    "Transformer",
    "TruncatedBPTT",
    "full_attention",
    "full_bptt",
    "merge_states",
    "tbptt",
    "truncated_bptt",
]
