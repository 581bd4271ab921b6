"""Several gradients at once: torch.autograd.grad(..., is_grads_batched=True), and vectorized Jacobians.

Shapes: T time, B batch, I input, H hidden, N gradients.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
import torch.autograd.functional as functional
from torch import Tensor, vmap

from reminding import SAB
from tests.nn.pytorch.ways import every_way
from tests.nn.samples import chunks, draw, make
from tests.tolerance import assert_equal

jacobian: Any = cast("Any", functional).jacobian
differentiate: Any = torch.autograd.grad  # annotated as if no gradient could be None
SETTINGS: dict[str, Any] = {"k_top": 2, "k_att": 1, "k_trunc": 3}
IN_ONE, IN_CALLS = 9, 4


def last_of(layer: SAB, x: Tensor, size: int) -> tuple[Tensor, Any]:
    """The sum over rows of a stream's last output, (H,), read in calls of so many steps; and the state after it."""
    state: Any = None
    output = x
    for part in chunks(x, size):
        output, state = layer(part, state)
    return output[-1].sum(0), state


@pytest.mark.parametrize("size", [IN_ONE, IN_CALLS])
@pytest.mark.parametrize("num_layers", [1, 2])
@every_way
def test_gradients_in_one_pass_are_those_of_a_pass_each(way: dict[str, Any], num_layers: int, size: int) -> None:
    layer, x = make(num_layers=num_layers, **SETTINGS, **way), draw(9, 2, 3).requires_grad_()
    wanted = [x, *layer.parameters()]
    output, _ = last_of(layer, x, size)
    each = [differentiate(number, wanted, retain_graph=True) for number in output.unbind()]
    many = draw(5, 4, seed=4)
    found = differentiate(output, wanted, many, is_grads_batched=True)
    for number, gradient in enumerate(found):
        rows = torch.stack([one[number] for one in each])
        assert_equal(gradient, torch.einsum("nk,k...->n...", many, rows), f"gradient {number}")


@every_way
def test_a_vectorized_jacobian_is_the_other(way: dict[str, Any]) -> None:
    layer, x = make(**SETTINGS, **way), draw(9, 2, 3)

    def last(given: Tensor) -> Tensor:
        return last_of(layer, given, IN_ONE)[0]

    assert_equal(jacobian(last, x, vectorize=True), jacobian(last, x), "Jacobian")


@every_way
def test_batched_gradients_do_not_wait(way: dict[str, Any]) -> None:
    layer, x = make(**SETTINGS, **way, credit_every=4), draw(9, 2, 3)
    output, _ = last_of(layer, x, IN_CALLS)
    with pytest.raises(RuntimeError, match=r"is_grads_batched=True\) cannot wait.*credit_every = 1"):
        differentiate(output, list(layer.parameters()), torch.eye(4).double(), is_grads_batched=True)


@every_way
def test_vmap_around_a_backward_pass_says_what_to_do(way: dict[str, Any]) -> None:
    layer, x = make(**SETTINGS, **way), draw(9, 2, 3).requires_grad_()
    output, _ = last_of(layer, x, IN_ONE)

    def gradient(d: Tensor) -> Tensor:
        return differentiate(output, x, d, retain_graph=True)[0]

    if way == {"backend": "reference", "engine": "autograd"}:
        each = [gradient(d) for d in torch.eye(4).double()]
        assert_equal(vmap(gradient)(torch.eye(4).double()), torch.stack(each), "gradients")
        return
    with pytest.raises(RuntimeError, match=r"torch.vmap.*is_grads_batched=True.*backend='reference'"):
        vmap(gradient)(torch.eye(4).double())
