"""What a stepper may be given: errors name the argument, and leave the streams as they were."""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# torch annotates its callback parameters only partly.

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.hooks import RemovableHandle

from reminding import SAB
from tests.nn.samples import assert_same_state, draw, make

BAD: list[tuple[Callable[[Any, Tensor], object], str]] = [
    (lambda step, x: step(x[0].float()), "x must be torch.float64"),
    (lambda step, x: step(x[0, :, :2]), "x must have input_size=3"),
    (lambda step, x: step(x), r"x must have shape \(B, I\) or, unbatched, \(I,\); got \(4, 3, 3\)"),
    (lambda step, x: step(x[0, 0, 0]), r"x must have shape \(B, I\) or, unbatched, \(I,\); got \(\)"),
    (lambda step, x: step(x[0].float().to_mkldnn()), r"input must be a dense Tensor.*to_dense"),
    (lambda step, x: step(x[0, :2]), "x must have a row for each of the 3 streams"),
    (lambda step, x: step(x[0, 0]), "x must have a row for each of the 3 streams, batched"),
    (lambda step, x: step([0.0]), "x must be a Tensor, got list"),
    (lambda step, x: step(x[0], torch.ones(3)), "reset must be a bool tensor of shape"),
    (lambda step, x: step(x[0], True), "reset must be a bool tensor of shape"),
]


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize(("given", "message"), BAD)
def test_bad_arguments_are_named(given: Callable[[Any, Tensor], object], message: str, backend: str) -> None:
    layer, x = make(k_top=2, k_att=1, backend=backend), draw(4, 3, 3)
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


class Scaled(SAB):
    """A layer whose calls do more than `SAB.forward`."""

    def forward(self, input: Any, *arguments: Any, **options: Any) -> Any:
        return super().forward(2 * input, *arguments, **options)


def by_steps(layer: SAB, x: Tensor) -> Tensor:
    step = layer.stepper()
    return torch.stack([step(each) for each in x])


class Shifted(SAB):
    """A layer whose calls take an input and a state alone."""

    def forward(self, input: Any, state: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        output, state = super().forward(input, state)
        return output + 1, state


def test_a_stepper_asks_a_subclass_for_no_more_than_it_was_asked_for() -> None:
    layer, x = Shifted(3, 4, k_top=2, k_att=1).double(), draw(5, 2, 3)
    torch.testing.assert_close(by_steps(layer, x), layer(x)[0])


def test_a_stepper_calls_what_a_call_of_the_layer_calls() -> None:
    x = draw(5, 2, 3)
    layer = Scaled(3, 4, k_top=2, k_att=1).double()
    torch.testing.assert_close(by_steps(layer, x), layer(x)[0])
    plain = make(k_top=2, k_att=1)
    forward = plain.forward
    plain.forward = lambda input, *arguments, **options: forward(input / 2, *arguments, **options)  # pyright: ignore
    torch.testing.assert_close(by_steps(plain, x), plain(x)[0])
    hooked, seen = make(k_top=2, k_att=1), list[Any]()
    with contextlib.closing(Removed(register_module_forward_hook(lambda module, *_: seen.append(module)))):
        by_steps(hooked, x)
    assert seen.count(hooked) == 5


class Removed(NamedTuple):
    """A hook that goes at the end."""

    handle: RemovableHandle

    def close(self) -> None:
        self.handle.remove()


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"num_layers": 2}], ids=str)
def test_a_stepper_takes_inputs_however_they_lie_in_memory(options: dict[str, Any]) -> None:
    layer, x = make(k_top=2, k_att=1, **options), draw(2, 5, 3)
    rows = x[0, :1].expand(2, 3)
    wanted = by_steps(layer, x.transpose(0, 1).contiguous())
    assert not x[:, 0].is_contiguous()
    torch.testing.assert_close(by_steps(layer, x.transpose(0, 1)), wanted)
    torch.testing.assert_close(layer.stepper()(rows), layer.stepper()(rows.clone()))
    strided = torch.stack([x[0], x[1]], dim=2)[..., 0]  # (5, 3), each row with a stride of 2
    torch.testing.assert_close(by_steps(layer, strided), by_steps(layer, x[0].clone()))
