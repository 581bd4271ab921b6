"""What a stream carries from call to call: `SABState`, the history of its past calls, and both as files.

These are values: nothing here computes a step, and nothing changes a state in place.
May import: `disk`, `nn.parts`, `nn.state.past`.
"""

from reminding.nn.state.pytree import register
from reminding.nn.state.stream import LayerState, Recall, SABState

register()

__all__ = ["LayerState", "Recall", "SABState"]
