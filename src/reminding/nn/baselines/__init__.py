"""What SAB is compared with, behind the same interface: `output, state[, recall] = layer(input, state)`.

May import: `checks`, `disk`, `nn.layer`, `nn.state`, `nn.parts`.
"""

from reminding.nn.baselines.carried import CarriedState
from reminding.nn.baselines.lstm import full_attention, full_bptt, truncated_bptt
from reminding.nn.baselines.mingru import MinGRU
from reminding.nn.baselines.rtu import RTU
from reminding.nn.baselines.transformer import Transformer, TransformerState

__all__ = [
    "RTU",
    "CarriedState",
    "MinGRU",
    "Transformer",
    "TransformerState",
    "full_attention",
    "full_bptt",
    "truncated_bptt",
]
