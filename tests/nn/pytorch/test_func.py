"""torch.func and forward-mode differentiation work with backend="auto" and the reference; others raise errors.

Shapes: T time, B batch, H hidden.
"""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# torch and lightning annotate their callback parameters only partly.

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from reminding import SAB
from tests.nn.pytorch.ways import Case, both_depths, cases, inputs, loss_of
from tests.nn.samples import CELLS, assert_same_gradients, chunks, draw, make, needs_op
from tests.tolerance import assert_equal

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # a warning from torch's own jvp
SETTINGS: dict[str, Any] = {"k_att": 2, "k_trunc": 3}
push: Any = jvp  # annotated as if it could return three
differentiate: Any = torch.autograd.grad  # annotated as if no gradient could be None
differentiable = pytest.mark.parametrize(
    "way", [{"backend": "reference", "engine": "autograd"}, {}], ids=["reference", "auto"]
)
every_k_top = pytest.mark.parametrize("k_top", [0, 2, None])
ON_OP = pytest.param({"backend": "cpu"}, marks=needs_op)
refusing = pytest.mark.parametrize("way", [ON_OP, {"engine": "replay"}], ids=["cpu", "replay"])


def numbers(case_options: dict[str, Any], **options: Any) -> SAB:
    return make(3, 4, **(SETTINGS | case_options | options))


def tangent_by_rows(layer: SAB, x: Tensor, v: Tensor) -> Tensor:
    """J v from reverse-mode derivatives of one output number after another, in plain PyTorch."""
    plain = numbers({"backend": "reference", "engine": "autograd"}, num_layers=layer.num_layers, k_top=layer.k_top)
    plain.load_state_dict(layer.state_dict())
    x = x.clone().requires_grad_()
    output, _ = plain(x)
    found = [(torch.autograd.grad(each, x, retain_graph=True)[0] * v).sum() for each in output.flatten()]
    return torch.stack(found).view_as(output)


@differentiable
@both_depths
@every_k_top
def test_jvp_is_the_product_with_the_jacobian(way: dict[str, Any], num_layers: int, k_top: int | None) -> None:
    layer, x, v = numbers(way, num_layers=num_layers, k_top=k_top), draw(6, 2, 3), draw(6, 2, 3, seed=2)
    want = tangent_by_rows(layer, x, v)
    output, tangent = push(lambda given: layer(given)[0], (x,), (v,))
    assert_equal(output, layer(x)[0], "output")
    assert_equal(tangent, want, "tangent")
    with forward_ad.dual_level():
        dual = layer(forward_ad.make_dual(x, v))[0]
        assert_equal(cast("Tensor", forward_ad.unpack_dual(dual).tangent), want, "tangent of a dual number")
    _, outer = push(lambda given: push(lambda inner: layer(inner)[0], (given,), (v,))[1], (x,), (v,))
    assert bool(outer.isfinite().all())
    assert_equal(layer(x)[0], output, "output after it")


@pytest.mark.parametrize("cell", CELLS)
@every_k_top
def test_jvp_in_float32_is_that_in_float64(cell: str, k_top: int | None) -> None:
    x, v = draw(6, 2, 3), draw(6, 2, 3, seed=2)
    _, want = push(lambda given: numbers({}, cell=cell, k_top=k_top)(given)[0], (x,), (v,))
    layer = numbers({}, cell=cell, k_top=k_top, dtype=torch.float32)
    _, tangent = push(lambda given: layer(given)[0], (x.float(),), (v.float(),))
    torch.testing.assert_close(tangent, want.float(), rtol=1e-4, atol=1e-5)


@differentiable
@both_depths
def test_jacobians_agree(way: dict[str, Any], num_layers: int) -> None:
    layer, x = numbers(way, num_layers=num_layers, k_top=2), draw(5, 2, 3)

    def last(given: Tensor) -> Tensor:
        return layer(given)[0][-1].sum(0)

    ordinary = cast("Tensor", torch.autograd.functional.jacobian(last, x))
    assert_equal(cast("Tensor", jacfwd(last)(x)), ordinary, "jacfwd")
    assert_equal(cast("Tensor", jacrev(last)(x)), ordinary, "jacrev")


@differentiable
@both_depths
def test_hessian_is_the_jacobian_of_the_gradient(way: dict[str, Any], num_layers: int) -> None:
    layer, x = numbers(way, num_layers=num_layers, k_top=2), draw(4, 1, 3)

    def loss(given: Tensor) -> Tensor:
        return loss_of(layer(given)[0])

    want = cast("Tensor", torch.autograd.functional.hessian(loss, x))
    assert bool((want != 0).any())
    assert_equal(cast("Tensor", hessian(loss)(x)), want, "hessian")


@given(case=cases.filter(lambda case: case.engine == "autograd" and case.backend == "reference"))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_functional_call_and_grad_take_the_given_weights(case: Case) -> None:
    layer, other = case.layer(), case.layer(backend="reference")
    given = {name: tensor.detach() * 0.7 + 0.1 for name, tensor in layer.named_parameters()}
    other.load_state_dict(given)
    want = differentiate(loss_of(other(inputs())[0]), list(other.parameters()), allow_unused=True)
    wanted = {
        name: torch.zeros_like(tensor) if gradient is None else gradient
        for (name, tensor), gradient in zip(given.items(), want, strict=True)
    }
    found = grad(lambda weights: loss_of(functional_call(layer, weights, (inputs(),))[0]))(given)
    assert_same_gradients(found, wanted)


@given(case=cases)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_functional_call_in_chunks(case: Case) -> None:
    """Computed weights, as in meta-learning, are used in the replay, in past calls and in modules."""
    layer, plain = case.layer(), case.plain()
    base = {name: (tensor.detach() * 0.7).requires_grad_() for name, tensor in layer.named_parameters()}

    def gradients(of: SAB, pieces: list[Tensor]) -> dict[str, Tensor]:
        total = {name: torch.zeros_like(tensor) for name, tensor in base.items()}
        state: Any = None
        start = 0
        for piece in pieces:
            given = {name: torch.tanh(tensor) for name, tensor in base.items()}
            output, state = functional_call(of, given, (piece, state))
            found = differentiate(loss_of(output, start), list(base.values()), allow_unused=True)
            start += len(piece)
            for name, gradient in zip(base, found, strict=True):
                total[name] += 0 if gradient is None else gradient
        return total

    want = gradients(plain, [inputs()])
    assert_same_gradients(gradients(layer, chunks(inputs(), case.size)), want)
    assert all(parameter.grad is None for parameter in layer.parameters())


@refusing
@pytest.mark.parametrize("transform", ["jvp", "jacfwd", "jacrev", "grad", "dual"])
def test_what_cannot_be_transformed_says_what_can(way: dict[str, Any], transform: str) -> None:
    layer, x = numbers(way, k_top=2), draw(4, 2, 3)

    def loss(given: Tensor) -> Tensor:
        return layer(given)[0].sum()

    calls = {
        "jvp": lambda: jvp(loss, (x,), (x,)),
        "jacfwd": lambda: jacfwd(loss)(x),
        "jacrev": lambda: jacrev(loss)(x),
        "grad": lambda: grad(loss)(x),
        "dual": lambda: loss(forward_ad.make_dual(x, x)),
    }
    level = forward_ad.dual_level() if transform == "dual" else nullcontext()
    with level, pytest.raises(ValueError, match=r"backend='reference' with engine='autograd'"):
        calls[transform]()
    loss(x).backward()  # unharmed


@pytest.mark.parametrize("way", [{}, {"backend": "reference", "engine": "autograd"}, ON_OP])
def test_vmap_says_what_to_do(way: dict[str, Any]) -> None:
    layer, x = numbers(way, k_top=2), draw(4, 2, 3)
    with pytest.raises(ValueError, match=r"vmap.*rows of the batch"):
        vmap(lambda given: layer(given)[0])(draw(2, 4, 2, 3))
    parameters = {name: torch.stack([tensor.detach()] * 2) for name, tensor in layer.named_parameters()}
    with pytest.raises(ValueError, match=r"vmap.*rows of the batch"):
        vmap(lambda given: functional_call(layer, given, (x,))[0])(parameters)
    given = dict(layer.named_parameters())
    with pytest.raises(ValueError, match=r"for gradients by sample, or several sets of weights, loop over them"):
        vmap(grad(lambda own, row: functional_call(layer, own, (row,))[0].sum()), in_dims=(None, 0))(
            given, draw(2, 4, 2, 3)
        )


@pytest.mark.parametrize("way", [{}, {"backend": "reference", "engine": "autograd"}])
def test_recording_a_call_as_a_graph_says_what_to_do(way: dict[str, Any]) -> None:
    layer, x = numbers(way, k_top=2), draw(4, 2, 3)
    with pytest.raises(RuntimeError, match=r"make_fx and torch\.func\.linearize cannot.*SequenceModule"):
        linearize(lambda given: layer(given)[0], x)
    with pytest.raises(RuntimeError, match=r"make_fx and torch\.func\.linearize cannot.*torch\.func\.jvp"):
        make_fx(lambda given: layer(given)[0])(x)
    assert layer(x)[0].isfinite().all()


def test_past_calls_under_a_transform_say_what_to_do() -> None:
    layer = numbers({"backend": "reference", "engine": "autograd"}, k_top=2)
    _, state = layer(inputs())
    with pytest.raises(ValueError, match=r"state has past calls.*state\.detach\(\)"):
        grad(lambda given: layer(given, state)[0].sum())(inputs())
    found = cast("Tensor", grad(lambda given: layer(given, state.detach())[0].sum())(inputs()))
    x = inputs().requires_grad_()
    (want,) = torch.autograd.grad(layer(x, state.detach())[0].sum(), x)
    assert_equal(found, want, "d_x")


def test_a_stateless_module_under_grad_sees_no_layer_state() -> None:
    """Two nested transforms of a model that contains the layer."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.readout = numbers({}, k_top=2), nn.Linear(4, 1, dtype=torch.float64)

        def forward(self, x: Tensor) -> Tensor:
            return self.readout(self.layer(x)[0][-1]).sum()

    model, x = Model(), draw(5, 2, 3)
    weights = {name: tensor.detach() for name, tensor in model.named_parameters()}

    def norm(given: dict[str, Tensor]) -> Tensor:
        d_x = grad(lambda z: cast("Tensor", functional_call(model, given, (z,))))(x)
        return cast("Tensor", d_x).pow(2).sum()

    got = cast("dict[str, Tensor]", grad(norm)(weights))
    leaf = x.clone().requires_grad_()
    (d_x,) = torch.autograd.grad(model(leaf), leaf, create_graph=True)
    want = differentiate(d_x.pow(2).sum(), list(model.parameters()), allow_unused=True)
    wanted = {
        name: torch.zeros_like(tensor) if gradient is None else gradient
        for (name, tensor), gradient in zip(model.named_parameters(), want, strict=True)
    }
    assert_same_gradients(got, wanted)
