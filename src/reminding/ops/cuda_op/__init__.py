"""The Triton op of one SAB layer: `layer` runs all time steps in one launch, and differentiates in one more.

The kernels are in triton/, which is imported when one is launched.
May import: `reminding.ops`, `ops.cpu_op`, `ops.cuda_op.triton`.
"""

from reminding.ops.cuda_op.able import (
    credits_past,
    drops_state,
    in_range,
    interpreted,
    lowers,
    missing,
    most_recalled,
    obstacle,
    passed_over,
    takes_lengths,
)
from reminding.ops.cuda_op.forward import layer
from reminding.ops.cuda_op.packing import searches
from reminding.ops.cuda_op.past import (
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
    "interpreted",
    "lay_out_past",
    "layer",
    "list_past",
    "lowers",
    "missing",
    "most_recalled",
    "obstacle",
    "passed_over",
    "reach_past",
    "replay_past",
    "searches",
    "takes_lengths",
]
