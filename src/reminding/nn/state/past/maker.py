"""The layer that made a state, to which the credit that waits in the state is sent.

It is known by weak references, so a state keeps no layer alive.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from operator import is_
from typing import Any

import torch
from torch import nn

from reminding.nn.parts.user_modules import parameters_of


class Maker:
    """A layer, its method `settle`, and the parameters and modules that a call computed with.

    `torch.func.functional_call` runs a layer with other parameters than its own.

    Args:
        own: the user's cells, scorers and encoder.
    """

    def __init__(self, layer: nn.Module, settle: Callable[[Any], None], own: Iterable[nn.Module]) -> None:
        self._layer, self._settle = weakref.ref(layer), weakref.WeakMethod(settle)
        self._parameters = [weakref.ref(parameter) for parameter in parameters_of(layer)]
        self._own = [weakref.ref(module) for module in own]

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

    def exchanged(self, now: Maker) -> list[str]:
        """The classes of the user's modules that the same layer has now in the places of others."""
        if self.layer is None or self.layer is not now.layer:
            return []
        pairs = [(then(), module()) for then, module in zip(self._own, now._own, strict=False)]
        return [type(module).__name__ for then, module in pairs if then is not module]

    def after(self, then: Maker | None) -> Maker:
        """What the past of a state belongs to after a call of this.

        A call without gradient keeps nothing, so with other modules it leaves the past to those that it is of.

        Args:
            then: what it belonged to before.
        """
        return then if then is not None and not torch.is_grad_enabled() and then.exchanged(self) else self
