"""Weights that are computed from parameters: every way to chunk gives the gradient of one call.

Shapes: H hidden.
"""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# torch and lightning annotate their callback parameters only partly.

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from reminding import SAB
from tests.nn.pytorch.ways import Case, cases, check_chunks, inputs, trained
from tests.nn.samples import assert_same_gradients, chunks

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
Change = Callable[[nn.Module, str], object]


class Doubled(nn.Module):
    """A user's parametrization with a parameter of its own."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full_like(like, 2.0))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.scale + weight.mean()


def parametrize_by_own(module: nn.Module, name: str) -> None:
    parametrize.register_parametrization(module, name, Doubled(getattr(module, name)))


def prune_half(module: nn.Module, name: str) -> None:
    prune.l1_unstructured(module, name, 0.5)


def compute_outside(module: nn.Module, name: str) -> None:
    """WeightDrop and hypernetworks do this: parameters have other names, and weights are set before each call."""
    raw = cast("nn.Parameter", getattr(module, name))
    delattr(module, name)
    module.register_parameter(f"{name}_raw", nn.Parameter(raw.detach().clone()))

    def set_weight(*_: Any) -> None:
        setattr(module, name, torch.tanh(getattr(module, f"{name}_raw")) * 1.5)

    set_weight()
    module.register_forward_pre_hook(set_weight)


CHANGES: dict[str, Change] = {
    "parametrizations.weight_norm": parametrizations.weight_norm,
    "weight_norm": nn.utils.weight_norm,
    "own parametrization": parametrize_by_own,
    "prune": prune_half,
    "set before a call": compute_outside,
}
every_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())


def weights_of(layer: SAB) -> list[tuple[nn.Module, str]]:
    """Some matrices of each part of a layer, with the modules that hold them."""
    found: list[tuple[nn.Module, str]] = []
    own = ["weight_hh_l0", f"weight_ih_l{layer.num_layers - 1}", "score_memory_l0"]
    found += [(layer, name) for name in own if hasattr(layer, name)]
    for cell in getattr(layer, "cells", []):
        found.append((cell, "weight_hh"))
    if layer.encoder is not None:
        found.append((layer.encoder, "weight"))
    return found


def check_change(case: Case, change: Change) -> None:
    def changed(layer: SAB) -> None:
        for module, name in weights_of(layer):
            change(module, name)

    check_chunks(case, changed)


@every_change
@given(case=cases)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_made_weights_take_the_gradient_of_one_call(change: Change, case: Case) -> None:
    check_change(case, change)


@pytest.mark.slow
@given(change=st.sampled_from(list(CHANGES.values())), case=cases)
@settings(max_examples=600, deadline=None, derandomize=True)
def test_made_weights_take_the_gradient_of_one_call_everywhere(change: Change, case: Case) -> None:
    check_change(case, change)


@given(case=cases)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_spectral_norm_in_eval_mode_takes_the_gradient_of_one_call(case: Case) -> None:
    def change(layer: SAB) -> None:
        for module, name in weights_of(layer):
            torch.manual_seed(3)
            parametrizations.spectral_norm(module, name)
        layer.eval()

    check_chunks(case, change)


@given(case=cases, old=st.booleans())
@settings(max_examples=10, deadline=None, derandomize=True)
def test_spectral_norm_iterates_once_a_call(case: Case, old: bool) -> None:
    layers = [case.layer(), case.plain()]
    norm = nn.utils.spectral_norm if old else parametrizations.spectral_norm
    for layer in layers:
        for name in ("weight_hh_l0", "score_memory_l0"):
            if hasattr(layer, name):
                torch.manual_seed(3)
                norm(layer, name)
    gradients = [trained(layer, [inputs()]) for layer in layers]
    assert_same_gradients(*gradients)
    got, want = (dict(layer.named_buffers()) for layer in layers)
    for name, buffer in want.items():
        torch.testing.assert_close(got[name], buffer, rtol=1e-12, atol=1e-12)
    before = {name: buffer.clone() for name, buffer in layers[1].named_buffers()}
    trained(layers[0], chunks(inputs(), 4))
    trained(layers[1], [inputs()] * 3)
    for name, buffer in layers[1].named_buffers():
        torch.testing.assert_close(got[name], buffer, rtol=1e-12, atol=1e-12)
        assert "weight_" in name or buffer.numel() == 1 or not torch.equal(buffer, before[name])


class Flat(nn.Module):
    """A layer whose weights are views of one flat parameter of this module, set before each call, as FSDP1 does.

    The layer and its modules have no parameters left.
    """

    def __init__(self, layer: SAB) -> None:
        super().__init__()
        self._owners = [
            (module, name, parameter.shape)
            for module in layer.modules()
            for name, parameter in module.named_parameters(recurse=False)
        ]
        parameters = [getattr(module, name).detach().flatten() for module, name, _ in self._owners]
        self.flat = nn.Parameter(torch.cat(parameters))
        for module, name, _ in self._owners:
            delattr(module, name)
        self.layer = layer

    def forward(self, *arguments: Any) -> Any:
        parts = self.flat.split([shape.numel() for *_, shape in self._owners])
        for (module, name, shape), part in zip(self._owners, parts, strict=True):
            setattr(module, name, part.view(shape))
        return self.layer(*arguments)


@given(case=cases)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_views_of_a_flat_parameter_set_as_attributes(case: Case) -> None:
    got = trained(Flat(case.layer()), chunks(inputs(), case.size))
    assert_same_gradients(got, trained(Flat(case.plain()), [inputs()]))


def tie_inside(layer: SAB) -> None:
    if hasattr(layer, "bias_ih_l0"):
        layer.bias_ih_l0 = layer.bias_hh_l0
    if hasattr(layer, "score_memory_l0"):
        layer.score_memory_l0 = layer.score_query_l0
    for cell in getattr(layer, "cells", []):
        cell.bias_ih = cell.bias_hh


def tie_between_layers(layer: SAB) -> None:
    tie_inside(layer)
    if layer.num_layers == 1:
        return
    for name in ("weight_hh", "bias_hh", "score_query", "score_out"):
        if hasattr(layer, f"{name}_l0"):
            setattr(layer, f"{name}_l1", getattr(layer, f"{name}_l0"))
    cells = list(getattr(layer, "cells", []))
    for cell in cells[1:]:
        cell.weight_hh = cells[0].weight_hh


@pytest.mark.parametrize("tie", [tie_inside, tie_between_layers])
@given(case=cases)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_tied_weights_take_the_sum(tie: Callable[[SAB], None], case: Case) -> None:
    check_chunks(case, tie)


@given(case=cases)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_tied_weights_equal_the_sum_over_untied_ones(case: Case) -> None:
    tied, untied = case.layer(), case.plain()
    tie_inside(tied)
    with torch.no_grad():
        for name in ("bias_ih_l0", "score_memory_l0"):
            if hasattr(untied, name):
                other = {"bias_ih_l0": "bias_hh_l0", "score_memory_l0": "score_query_l0"}[name]
                getattr(untied, name).copy_(getattr(untied, other))
        for cell in cast("list[nn.LSTMCell]", list(getattr(untied, "cells", []))):
            cell.bias_ih.copy_(cell.bias_hh)
    got = trained(tied, chunks(inputs(), case.size))
    want = trained(untied, [inputs()])
    pairs = {"bias_hh_l0": "bias_ih_l0", "score_query_l0": "score_memory_l0", "bias_ih": "bias_hh"}
    summed = dict(want)
    for one, other in pairs.items():
        for name in [name for name in want if name.endswith(one)]:
            peer = name.removesuffix(one) + other
            total = want[name] + want[peer]
            summed[name] = summed[peer] = total
    assert_same_gradients(got, {name: summed[name] for name in got})
