"""Which layers may be exported: those whose calls do what the exported module does."""

# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from reminding import SAB
from reminding.nn import MinGRU
from reminding.nn.export import SequenceModule, StepModule
from tests.nn.samples import make


class Doubling(SAB):
    """A layer whose calls do more than `SAB.forward`."""

    def forward(self, input: Any, *arguments: Any, **options: Any) -> Any:
        return super().forward(2 * input, *arguments, **options)


def attribute(layer: SAB) -> None:
    layer.forward = Doubling(3, 4).forward


@pytest.mark.parametrize("module", [StepModule, SequenceModule])
def test_a_layer_whose_calls_do_more_is_refused(module: type[StepModule | SequenceModule]) -> None:
    """The exported module would leave out what a subclass, an attribute or a hook adds."""
    with pytest.raises(ValueError, match="layer must have the forward of SAB to be exported, which Doubling"):
        module(Doubling(3, 4))
    changes: list[Callable[[SAB], object]] = [
        attribute,
        lambda layer: layer.register_forward_hook(lambda *given: (given[2][0] * 2, given[2][1])),
        lambda layer: layer.register_forward_pre_hook(lambda _, given: (given[0] * 2, *given[1:])),
    ]
    for change in changes:
        layer = make(k_top=2, k_att=1)
        change(layer)
        with pytest.raises(ValueError, match=r"layer must have .* to be exported"):
            module(layer)


@pytest.mark.parametrize("module", [StepModule, SequenceModule])
@pytest.mark.parametrize("other", [nn.LSTM(3, 4), MinGRU(3, 4), nn.Sequential(SAB(3, 4))])
def test_what_is_no_sab_is_refused_by_name(module: Any, other: nn.Module) -> None:
    """It was told that its class has no attribute 'rule'."""
    with pytest.raises(ValueError, match=f"^layer must be a SAB to be exported, got {type(other).__name__}$"):
        module(other)
