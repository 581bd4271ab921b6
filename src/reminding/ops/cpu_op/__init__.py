"""The CPU op of one SAB layer: `layer` runs all time steps in C++ and differentiates exactly.

The C++ loops (csrc/) fill tensors made here; each product over many steps is one large product outside of them.
May import: `reminding.ops`.
"""

from reminding.ops.cpu_op.able import credits_past, in_range, missing, obstacle, passed_over, searches
from reminding.ops.cpu_op.forward import layer
from reminding.ops.cpu_op.past import differentiate_past, gather_past, lay_out_past, reach_past, replay_past

__all__ = [
    "credits_past",
    "differentiate_past",
    "gather_past",
    "in_range",
    "lay_out_past",
    "layer",
    "missing",
    "obstacle",
    "passed_over",
    "reach_past",
    "replay_past",
    "searches",
]
