"""Second derivatives: gradient penalties and Hessian-vector products equal those of plain PyTorch.

Shapes: T time, B batch, H hidden.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from reminding import SAB
from tests.nn.pytorch.ways import every_way, inputs, loss_of
from tests.nn.samples import BUILT, assert_same_gradients, draw, gradients, make
from tests.tolerance import assert_equal

differentiate: Any = torch.autograd.grad  # annotated as if no gradient could be None


@dataclass(frozen=True)
class Twice:
    """A layer to differentiate twice, its backend and engine, and what the loss depends on."""

    backend: str
    engine: str
    options: tuple[tuple[str, Any], ...]
    own: str | None
    of: str
    resets: bool
    starts: bool

    def layer(self, **way: Any) -> SAB:
        options: dict[str, Any] = dict(self.options) | way
        deep = options.get("num_layers", 1)
        if self.own == "cell":
            options["cell"] = [nn.GRUCell(4 if layer else 3, 4) for layer in range(deep)]
        if self.own == "encoder":
            options["encoder"] = nn.Sequential(nn.Linear(3, 3, dtype=torch.float64), nn.Tanh())
        return make(3, 4, **options)


settings_of_a_layer = st.fixed_dictionaries(
    {
        "cell": st.sampled_from(["lstm", "gru", "rnn"]),
        "num_layers": st.sampled_from([1, 2]),
        "score": st.sampled_from(["additive", "dot", "separable"]),
        "normalizer": st.sampled_from(["softmax", "softmax1", "threshold"]),
        "semantics": st.sampled_from(["paper", "release"]),
        "k_top": st.sampled_from([2, 1, 0, None]),
        "k_att": st.sampled_from([1, 2]),
        "k_trunc": st.sampled_from([4, None]),
        "capacity": st.sampled_from([None, 3]),
        "evict": st.sampled_from(["fifo", "least_recalled"]),
        "recall_scale": st.sampled_from([1.0, 0.8]),
        "backtrack": st.sampled_from([True, False]),
        "null_score": st.sampled_from([None, 0.5]),
        "summary_gate": st.sampled_from([None, 0.1]),
        "stored": st.sampled_from(["h", "proposal"]),
    }
)


def runs(case: Twice) -> bool:
    """Whether such a layer exists."""
    options = dict(case.options)
    if options["semantics"] == "release" and options["normalizer"] != "threshold":
        return False
    if options["null_score"] is not None and options["normalizer"] != "softmax1":
        return False
    if options["k_top"] is None and options["capacity"] is not None and options["evict"] != "fifo":
        return case.backend == "reference"
    return case.own != "cell" or case.backend == "reference"


twice = st.builds(
    Twice,
    backend=st.sampled_from(BUILT[::-1]),
    engine=st.sampled_from(["autograd", "replay"]),
    options=settings_of_a_layer.map(lambda options: tuple(options.items())),
    own=st.sampled_from([None, "encoder", "cell"]),
    of=st.sampled_from(["everything", "output", "memory", "state", "summary"]),
    resets=st.booleans(),
    starts=st.booleans(),
).filter(runs)


def loss_in(layer: SAB, case: Twice, x: Tensor, h: Tensor) -> Tensor:
    """A loss of the results that the case names."""
    reset = torch.zeros(len(x), x.shape[1], dtype=torch.bool)
    if case.resets:
        reset[4, 1] = reset[5, 0] = True
    two = layer.cell == "lstm"
    start = ((h, h.tanh()) if two else h) if case.starts else None
    output, state, recall = layer(x, start, reset=reset, return_recall=True)
    parts = {
        "output": loss_of(output),
        "memory": state.memory.pow(3).sum(),
        "state": state.h.pow(3).sum() + (state.c.pow(3).sum() if two else 0),
        "summary": recall.summary.pow(3).sum(),
    }
    return cast("Tensor", sum(parts.values())) if case.of == "everything" else parts[case.of]


def penalty(layer: SAB, case: Twice) -> dict[str, Tensor]:
    """The gradient of a squared gradient, the latter with respect to the input, the initial state and a weight."""
    x, h = inputs(9).requires_grad_(), draw(layer.num_layers, 3, 4, seed=8).requires_grad_()
    weight = next(parameter for name, parameter in layer.named_parameters() if "weight" in name)
    loss = loss_in(layer, case, x, h)
    if not loss.requires_grad:
        return {
            name: torch.zeros_like(tensor)
            for name, tensor in {**dict(layer.named_parameters()), "x": x, "h": h}.items()
        }
    found = differentiate(loss, [x, h, weight], create_graph=True, allow_unused=True)
    squares = [gradient.pow(2).sum() for gradient in found if gradient is not None]
    total = cast("Tensor", sum(squares)) + loss
    return gradients(layer, total, x=x, h=h)


def check(case: Twice) -> None:
    layer = case.layer(backend=case.backend, engine=case.engine)
    plain = case.layer(backend="reference", engine="autograd")
    want = penalty(plain, case)
    # The release's raw scores can grow without bound.
    assume(all(float(gradient.abs().max()) < 1e8 for gradient in want.values()))
    found = penalty(layer, case)
    try:
        assert_same_gradients(found, want)
    except AssertionError:
        assume(well_conditioned(case, want))
        raise


def well_conditioned(case: Twice, want: dict[str, Tensor]) -> bool:
    """Whether plain PyTorch itself gives the same when the weights change in their last digits.

    The threshold divides by the sum of what stands above it, twice over in second derivatives; where two scores are
    nearly equal, rounding decides the result.
    """
    nudged = case.layer(backend="reference", engine="autograd")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in nudged.parameters():
            parameter *= 1 + 4e-16 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype).sign()
    changed = penalty(nudged, case)
    return all(
        float((changed[name] - value).abs().max()) < 1e-10 * max(float(value.abs().max()), 1e-3)
        for name, value in want.items()
    )


LEAST_RECALLED = tuple({"k_top": 2, "k_att": 1, "k_trunc": 4, "capacity": 3, "evict": "least_recalled"}.items())


@given(case=twice)
@example(case=Twice(BUILT[-1], "autograd", LEAST_RECALLED, own=None, of="everything", resets=True, starts=False))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_gradient_penalty(case: Twice) -> None:
    check(case)


@pytest.mark.slow
@given(case=twice)
@settings(max_examples=1500, deadline=None, derandomize=True)
def test_gradient_penalty_everywhere(case: Twice) -> None:
    check(case)


@every_way
@pytest.mark.parametrize("num_layers", [1, 2])
def test_product_with_the_hessian(way: dict[str, Any], num_layers: int) -> None:
    """For all parameters, compared with the difference of two gradients."""
    layer = make(3, 4, num_layers, k_top=None, k_trunc=None, k_att=2, **way)
    parameters = list(layer.parameters())
    v = [draw(*parameter.shape, seed=7) for parameter in parameters]

    def gradient(create_graph: bool) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss_of(layer(inputs(6))[0]), parameters, create_graph=create_graph)

    first = gradient(create_graph=True)
    products = torch.autograd.grad(first, parameters, v)
    step = 1e-5
    sides: list[tuple[Tensor, ...]] = []
    for sign in (1, -1):
        with torch.no_grad():
            for parameter, direction in zip(parameters, v, strict=True):
                parameter.add_(sign * step * direction)
        sides.append(gradient(create_graph=False))
        with torch.no_grad():
            for parameter, direction in zip(parameters, v, strict=True):
                parameter.sub_(sign * step * direction)
    for product, ahead, behind in zip(products, *sides, strict=True):
        torch.testing.assert_close(product, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-5)


@every_way
def test_second_derivatives_into_past_calls_say_what_to_do(way: dict[str, Any]) -> None:
    layer = make(3, 4, k_top=2, k_trunc=5, **way)
    plain = make(3, 4, k_top=2, k_trunc=5, backend="reference", engine="autograd")
    whole = inputs(24).requires_grad_()
    later = loss_of(plain(whole)[0][12:])
    (d_whole,) = torch.autograd.grad(later, whole, create_graph=True)
    want = d_whole[12:].detach()

    _, state = layer(inputs(24)[:12])
    x = inputs(24)[12:].requires_grad_()
    loss = loss_of(layer(x, state)[0])
    (d_x,) = torch.autograd.grad(loss, x, create_graph=True)  # which needs no gradient of past calls
    assert_equal(d_x, want, "d_x")
    loss = loss_of(layer(x, state)[0])
    with pytest.raises(RuntimeError, match=r"create_graph.*state\.detach\(\)"):
        torch.autograd.grad(loss, layer.get_parameter("weight_hh_l0"), create_graph=True)
    layer.zero_grad()
    (d_x,) = torch.autograd.grad(loss_of(layer(x, state.detach())[0]), x, create_graph=True)
    d_x.pow(2).sum().backward()
    assert layer.get_parameter("weight_hh_l0").grad is not None
