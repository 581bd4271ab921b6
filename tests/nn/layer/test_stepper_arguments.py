"""What a stepper may be given: errors name the argument, and leave the streams as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.nn.samples import assert_same_state, draw, make

BAD: list[tuple[Callable[[Any, Tensor], object], str]] = [
    (lambda step, x: step(x[0].float()), "input must be torch.float64"),
    (lambda step, x: step(x[0, :, :2]), "input_size=3"),
    (lambda step, x: step(x[0, :2]), "x must have a row for each of the 3 streams"),
    (lambda step, x: step(x[0, 0]), "x must have a row for each of the 3 streams, batched"),
    (lambda step, x: step([0.0]), "x must be a Tensor, got list"),
    (lambda step, x: step(x[0], torch.ones(3)), "reset must be a bool tensor of shape"),
    (lambda step, x: step(x[0], True), "reset must be a bool tensor of shape"),
]


@pytest.mark.parametrize(("given", "message"), BAD)
def test_bad_arguments_are_named(given: Callable[[Any, Tensor], object], message: str) -> None:
    layer, x = make(k_top=2, k_att=1), draw(4, 3, 3)
    step = layer.stepper(layer(x)[1])
    before = step.state
    with pytest.raises(ValueError, match=message):
        given(step, x)
    assert_same_state(step.state, before)


def test_a_stepper_takes_no_state_of_another_layer() -> None:
    layer = make(k_top=2, k_att=1)
    with pytest.raises(ValueError, match="state must have 1 layers, got 2"):
        layer.stepper(make(num_layers=2)(draw(4, 3, 3))[1])
    with pytest.raises(ValueError, match="state must be a SABState or None, got tuple"):
        layer.stepper((torch.zeros(1, 3, 4),))  # pyright: ignore
    with pytest.raises(ValueError, match="before its first step"):
        _ = layer.stepper().state
