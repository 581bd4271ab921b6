"""What becomes of a layer between calls: its weights, however they are edited, its type, and its settings.

Shapes: T time, B batch, H hidden.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reminding import SAB
from tests.nn.pytorch.modules import Score
from tests.nn.samples import draw, make
from tests.tolerance import assert_equal


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"k_top": 0}, {"k_top": None}], ids=str)
def test_a_layer_may_change_its_type(kind: torch.dtype, options: dict[str, Any]) -> None:
    layer, x = make(**{"k_top": 2, "k_att": 1, **options}, dtype=torch.float32), draw(8, 2, 3, dtype=torch.float32)
    step = layer.stepper()
    for x_t in x[:4]:
        step(x_t)
    layer.to(kind)
    want, _ = layer(x[4:].to(kind), step.state.to(kind))
    found = torch.stack([step(x_t.to(kind)) for x_t in x[4:]])
    torch.testing.assert_close(found, want)


@pytest.mark.parametrize("size", [16, 128])
def test_an_edit_of_one_row_or_column_through_data_is_used_from_the_next_step_on(size: int) -> None:
    """Nothing but the numbers tells it: version, object and place stay."""
    layer, x = make(8, size, k_top=2, k_att=2).eval(), draw(60, 1, 8)
    step, state = layer.stepper(), layer(x[:1])[1].detach()
    step(x[0])
    for t, x_t in enumerate(x[1:]):
        if t >= 20:
            weights = layer.get_parameter("weight_hh_l0").data
            (weights[:, t % size] if t % 2 else weights[t % (4 * size)]).zero_()
        with torch.no_grad():
            want = copy.deepcopy(layer)(x_t.unsqueeze(0), state.detach())[0][0]
            called, state = layer(x_t.unsqueeze(0), state)
            assert_equal(step(x_t), want, f"step {t} of a stepper")
            assert_equal(called[0], want, f"step {t}, called")


FIXED = {
    "hidden_size": 5,
    "k_top": 1,
    "k_att": 1,
    "horizon": 0,
    "capacity": 3,
    "recall_scale": 0.5,
    "semantics": "release",
    "normalizer": "softmax1",
    "backtrack": False,
    "score_size": 2,
    "bidirectional": True,
}


@pytest.mark.parametrize("name", FIXED)
def test_a_setting_that_no_call_would_follow_cannot_be_changed(name: str) -> None:
    layer = make()
    shown = repr(layer)
    with pytest.raises(AttributeError, match=rf"^{name} of a layer cannot be changed.*{name}={FIXED[name]!r}"):
        setattr(layer, name, FIXED[name])
    with pytest.raises(AttributeError, match=f"^{name} of"):
        setattr(copy.deepcopy(layer), name, FIXED[name])
    assert repr(layer) == shown


@pytest.mark.parametrize(
    ("name", "value"),
    [("engine", "replays"), ("backend", "gpu"), ("credit_every", 0), ("memory_device", "attic"), ("dropout", 1.5)],
)
def test_a_setting_that_may_be_changed_is_checked(name: str, value: object) -> None:
    layer = make(num_layers=2)
    before = getattr(layer, name)
    with pytest.raises(ValueError, match=name):
        setattr(layer, name, value)
    assert getattr(layer, name) == before


def test_recurrent_dropout_is_refused_for_a_gru_cell_later_too() -> None:
    layer = SAB(3, 4, cell=nn.GRUCell(3, 4))
    with pytest.raises(ValueError, match="recurrent_dropout must be 0"):
        layer.recurrent_dropout = 0.5


def test_past_calls_of_an_encoder_of_more_modules_are_refused() -> None:
    encoder = nn.Sequential(nn.Linear(3, 3, dtype=torch.float64), nn.Tanh())
    layer = make(encoder=encoder, k_trunc=3)
    _, state = layer(draw(6, 2, 3))
    del encoder[1]
    output, _ = layer(draw(6, 2, 3), state)
    with pytest.raises(ValueError, match=r"had 3 modules in all, and now have 2.*state.detach\(\) goes on"):
        output.sum().backward()


@pytest.mark.parametrize("name", ["encoder", "cell", "score"])
def test_past_calls_of_a_module_that_was_exchanged_are_refused(name: str) -> None:
    """They would be run through the new one, whose gradient would be that of calls that it never took."""

    def made() -> nn.Module:
        own = {"encoder": nn.Linear(3, 3), "cell": nn.GRUCell(3, 4), "score": Score(lambda h: h)}[name]
        return own.double()

    options: dict[str, Any] = {name: made(), "k_trunc": 3, "k_top": 2}
    layer, chunk = make(credit_every=3, **options), draw(6, 2, 3)

    def put(module: nn.Module) -> None:
        if name == "encoder":
            layer.encoder = module
        else:
            getattr(layer, {"cell": "cells", "score": "scorers"}[name])[0] = module

    _, state = layer(chunk)
    output, state = layer(chunk, state)
    output.sum().backward()
    other = made()
    put(other)
    said = rf"calls of another {type(other).__name__} than .*state.detach\(\) goes on"
    with pytest.raises(ValueError, match=said):
        layer(chunk, state)
    with pytest.raises(ValueError, match=said):
        layer.settle(state)
    layer(chunk, state.detach())[0].sum().backward()
    with torch.no_grad():
        _, after = layer(chunk, state)
    with pytest.raises(ValueError, match=said):
        layer(chunk, after)
    put(options[name])
    layer(chunk, after)[0].sum().backward()
    layer.settle(after)


@pytest.mark.parametrize("way", ["changed", "another layer"])
def test_past_calls_are_encoded_in_the_layout_in_which_they_came(way: str) -> None:
    """With as many rows as steps no shape tells the layouts apart."""

    def gradients(first: bool, later: bool) -> dict[str, Tensor]:
        layer = make(encoder=nn.Linear(3, 3, dtype=torch.float64), k_trunc=3, batch_first=first)
        made = copy.deepcopy(layer.state_dict())
        begun, rest = draw(6, 6, 3), draw(6, 6, 3, seed=1)
        _, state = layer(begun.transpose(0, 1) if first else begun)
        if way == "changed":
            layer.batch_first = later
        else:
            layer = make(encoder=nn.Linear(3, 3, dtype=torch.float64), k_trunc=3, batch_first=later)
            layer.load_state_dict(made)
        output, _ = layer(rest.transpose(0, 1) if later else rest, state)
        output.square().sum().backward()
        return {name: parameter.grad for name, parameter in layer.named_parameters() if parameter.grad is not None}

    wanted = gradients(False, False)
    for layouts in ((False, True), (True, False), (True, True)):
        for name, found in gradients(*layouts).items():
            assert_equal(found, wanted[name], f"{name}, {layouts}")
