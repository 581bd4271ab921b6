"""A layer computes with the parameters that it has at the time of the call.

Shapes: B batch, T time, I input.
"""

from __future__ import annotations

import copy
import gc
import weakref

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from reminding import SAB
from tests.nn.samples import draw, make
from tests.tolerance import assert_equal


def doubled(layer: SAB) -> dict[str, Tensor]:
    return {name: 2 * parameter.detach() for name, parameter in layer.named_parameters()}


def test_a_parameter_that_takes_the_place_of_another_is_computed_with() -> None:
    layer, other, x = make(k_top=2), make(k_top=2), draw(7, 2, 3)
    layer(x)
    other.load_state_dict(doubled(layer))
    for name, tensor in doubled(layer).items():
        setattr(layer, name, nn.Parameter(tensor))
    assert_equal(layer(x)[0], other(x)[0], "output")


def test_tensors_of_a_functional_call_are_computed_with_and_not_kept() -> None:
    layer, other, x = make(k_top=2), make(k_top=2), draw(7, 2, 3)
    layer(x)
    own = {name: tensor.requires_grad_() for name, tensor in doubled(layer).items()}
    other.load_state_dict(own)
    output = torch.func.functional_call(layer, own, (x,))[0]
    assert_equal(output, other(x)[0], "output")
    held = [weakref.ref(tensor) for tensor in own.values()]
    del own, output
    gc.collect()
    assert all(tensor() is None for tensor in held)


def test_a_parametrization_is_computed_anew() -> None:
    class Halved(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight / 2

    layer, other, x = make(k_top=2), make(k_top=2), draw(7, 2, 3)
    layer(x)
    other.load_state_dict(layer.state_dict())
    with torch.no_grad():
        other.get_parameter("weight_hh_l0").div_(2)
    parametrize.register_parametrization(layer, "weight_hh_l0", Halved())
    assert_equal(layer(x)[0], other(x)[0], "output")
    parametrize.remove_parametrizations(layer, "weight_hh_l0", leave_parametrized=False)
    with torch.no_grad():
        other.get_parameter("weight_hh_l0").mul_(2)
    assert_equal(layer(x)[0], other(x)[0], "output")


def test_a_copy_has_parameters_of_its_own() -> None:
    layer, x = make(k_top=2), draw(7, 2, 3)
    before = layer(x)[0].detach()
    other = copy.deepcopy(layer)
    other(x)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    assert_equal(other(x)[0], before, "output")
    assert not layer(x)[0].any()
