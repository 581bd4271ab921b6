"""The CPU op of one SAB layer: `layer` runs all time steps in C++ and differentiates exactly.

One call of the C++ side (csrc/) is a whole pass. Only a backward pass that makes gates again comes in groups of rows,
for each of which PyTorch computes the large products.
May import: `reminding.ops`.
"""

from reminding.ops.cpu_op.able import (
    credits_past,
    drops_state,
    in_range,
    lowers,
    missing,
    obstacle,
    passed_over,
    searches,
    takes_lengths,
)
from reminding.ops.cpu_op.forward import layer
from reminding.ops.cpu_op.past import (
    differentiate_past,
    gather_past,
    lay_out_past,
    list_past,
    reach_past,
    replay_past,
)

__all__ = [
    "credits_past",
    "differentiate_past",
    "drops_state",
    "gather_past",
    "in_range",
    "lay_out_past",
    "layer",
    "list_past",
    "lowers",
    "missing",
    "obstacle",
    "passed_over",
    "reach_past",
    "replay_past",
    "searches",
    "takes_lengths",
]
