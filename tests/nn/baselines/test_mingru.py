"""The minimal GRU: its equations by a loop, and the parallel scan.

Shapes: T time, B batch, H hidden.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reminding.nn import MinGRU
from reminding.nn.baselines.scan import linear_scan
from tests.nn.baselines.makers import baseline
from tests.nn.samples import assert_same_gradients, draw, gradients
from tests.tolerance import assert_equal


def looped(keep: Tensor, add: Tensor, start: Tensor) -> Tensor:
    states: list[Tensor] = []
    for factor, term in zip(keep, add, strict=True):
        start = factor * start + term
        states.append(start)
    return torch.stack(states)


@settings(max_examples=30, deadline=None)
@given(steps=st.integers(1, 40), complex_numbers=st.booleans(), seed=st.integers(0, 9))
def test_a_scan_is_the_loop_with_its_gradients(steps: int, complex_numbers: bool, seed: int) -> None:
    shape = (steps, 2, 3, 2) if complex_numbers else (steps, 2, 3)
    real = [draw(*shape, seed=seed + 10 * i) for i in range(3)]
    real[0][steps // 2, 0] = 0  # a new stream
    numbers = [torch.view_as_complex(each) if complex_numbers else each for each in real]
    given = [numbers[0], numbers[1], numbers[2][0]]
    results: list[list[Tensor]] = []
    for recurrence in (linear_scan, looped):
        keep, add, start = (each.clone().requires_grad_() for each in given)
        h = recurrence(keep, add, start)
        found = torch.autograd.grad((h * numbers[2]).abs().square().sum(), [keep, add, start])
        results.append([h, *found])
    for name, got, want in zip(("h", "keep", "add", "start"), *results, strict=True):
        if complex_numbers:
            got, want = torch.view_as_real(got), torch.view_as_real(want)
        assert_equal(got, want, name)


def test_the_derivatives_of_a_scan_are_those_of_finite_differences() -> None:
    keep, add, start = draw(5, 2), draw(5, 2, seed=2), draw(2, seed=3)
    inputs: Any = tuple(each.requires_grad_() for each in (keep, add, start))
    assert torch.autograd.gradcheck(linear_scan, inputs)
    assert torch.autograd.gradgradcheck(linear_scan, inputs)


def test_a_scan_over_no_step() -> None:
    assert linear_scan(draw(0, 2), draw(0, 2), draw(2)).shape == (0, 2)


@pytest.mark.parametrize("steps", [1, 2, 63])
def test_the_equations(steps: int) -> None:
    """h_t = (1 - z_t) h_{t-1} + z_t g(candidate), layer upon layer, with a stream that begins anew in the midst."""
    layer = baseline(MinGRU, num_layers=2)
    assert isinstance(layer, MinGRU)
    x = draw(steps, 2, 3).requires_grad_()
    begins = torch.zeros(steps, 2, dtype=torch.bool)
    begins[steps // 2, 1] = True
    y: Tensor = x
    for projection in layer.maps:
        h, outputs = torch.zeros(2, 4, dtype=torch.float64), list[Tensor]()
        for t in range(steps):
            h = torch.where(begins[t].unsqueeze(1), 0.0, h)
            mapped = projection(y[t])
            gate, candidate = torch.sigmoid(mapped[:, :4]), mapped[:, 4:]
            shifted = torch.where(candidate >= 0, candidate + 0.5, torch.sigmoid(candidate))
            h = (1 - gate) * h + gate * shifted
            outputs.append(h)
        y = torch.stack(outputs)
    output, state = layer(x, reset=begins)
    assert_equal(output, y, "output")
    assert_equal(state.tensors["h1"], y[-1], "state")
    weight = draw(steps, 2, 4, seed=5)
    got, want = (gradients(layer, (each * weight).sum(), x=x) for each in (output, y))
    assert_same_gradients(got, want)


def test_credit_ends_at_the_border_of_two_calls() -> None:
    layer = baseline(MinGRU)
    first, second = draw(6, 2, 3).requires_grad_(), draw(6, 2, 3, seed=2).requires_grad_()
    _, state = layer(first)
    found = gradients(layer, layer(second, state)[0].sum(), first=first, second=second)
    assert not found["first"].any()
    assert found["second"].any()


def test_dropout_is_between_layers_and_for_training() -> None:
    layer = baseline(MinGRU, num_layers=2, dropout=0.5)
    x = draw(9, 2, 3)
    assert torch.equal(layer(x)[0], layer(x)[0])
    layer.train()
    assert not torch.allclose(layer(x)[0], layer(x)[0])
    single = baseline(MinGRU, dropout=0.5).train()
    assert torch.equal(single(x)[0], single(x)[0])
