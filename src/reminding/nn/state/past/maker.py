"""The layer that made a state, to which the credit that waits in the state is sent.

It is known by weak references, so a state keeps no layer alive.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from operator import is_
from typing import Any

from torch import nn

from reminding.nn.parts.user_modules import parameters_of


class Maker:
    """A layer, its method `settle`, and the parameters that a call computed with.

    `torch.func.functional_call` runs a layer with other parameters than its own.
    """

    def __init__(self, layer: nn.Module, settle: Callable[[Any], None]) -> None:
        self._layer, self._settle = weakref.ref(layer), weakref.WeakMethod(settle)
        self._parameters = [weakref.ref(parameter) for parameter in parameters_of(layer)]

    @property
    def layer(self) -> nn.Module | None:
        """The layer; None where it is no longer there."""
        return self._layer()

    @property
    def settle(self) -> Callable[[Any], None] | None:
        """The method; None where the layer has other parameters than in the call, or is no longer there."""
        layer = self.layer
        if layer is None:
            return None
        now, then = parameters_of(layer), [parameter() for parameter in self._parameters]
        return self._settle() if len(now) == len(then) and all(map(is_, now, then)) else None
