"""Details that callers of `nn.LSTM` rely on: names, arguments that must be off, and attributes.

Shapes: T time, B batch, I input, H hidden, L layers.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from reminding import SAB
from tests.nn.samples import CELLS, TORCH_LAYERS, draw, make
from tests.tolerance import assert_equal


def torch_layer(cell: str, **options: Any) -> nn.RNNBase:
    """PyTorch's layer of the same name, whose annotation hides its sizes."""
    layer: Any = TORCH_LAYERS[cell]
    return layer(3, 4, 2, **options)


@pytest.mark.parametrize("cell", CELLS)
def test_the_state_goes_by_the_name_of_hx_too(cell: str) -> None:
    layer = make(cell=cell, k_top=2, k_att=2)
    x, h, c = draw(7, 2, 3), draw(1, 2, 4, seed=2), draw(1, 2, 4, seed=3)
    start: Any = (h, c) if cell == "lstm" else h
    output, state = layer(x, hx=start)
    assert_equal(output, layer(x, start)[0], "output from tensors")
    assert_equal(layer(x, hx=state)[0], layer(x, state)[0], "output from a state")
    assert_equal(layer(x, hx=None)[0], layer(x)[0], "output from nothing")
    recalled = layer(x, hx=state, reset=torch.tensor([True, False]), return_recall=True)
    assert_equal(recalled[0][:, 0], layer(x)[0][:, 0], "output of a row that was reset")


def test_both_names_at_once_are_refused() -> None:
    layer = make()
    x = draw(3, 2, 3)
    _, state = layer(x)
    with pytest.raises(ValueError, match="state and hx are two names of one argument, got both"):
        layer(x, state, hx=state)
    with pytest.raises(ValueError, match="state and hx are two names of one argument, got both"):
        layer(x, state=state, hx=(state.h, state.c))


@pytest.mark.parametrize("cell", CELLS)
def test_what_is_off_in_an_lstm_may_be_said_to_be_off(cell: str) -> None:
    options: dict[str, Any] = {"bidirectional": False} | ({"proj_size": 0} if cell == "lstm" else {})
    layer, like = SAB(3, 4, 2, cell=cell, **options), torch_layer(cell, **options)
    for name in ("bidirectional", "proj_size", "input_size", "hidden_size", "num_layers", "bias", "batch_first"):
        assert getattr(layer, name) == getattr(like, name), name


def test_two_directions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"bidirectional must be False, got True: .* future"):
        SAB(3, 4, bidirectional=True)


def test_what_is_advised_in_their_place_is_two_directions() -> None:
    """Two layers, one of which reads the input backwards. Without memory they equal nn.LSTM's two directions."""
    want = nn.LSTM(3, 4, bidirectional=True, dtype=torch.float64)
    layers: list[SAB] = []
    for suffix in ("", "_reverse"):
        layers.append(SAB(3, 4, k_top=0, k_trunc=None, dtype=torch.float64))
        layers[-1].load_state_dict(
            {name: want.get_parameter(name + suffix) for name, _ in layers[-1].named_parameters()}
        )
    x = draw(7, 2, 3)
    output = torch.cat([layers[0](x)[0], layers[1](x.flip(0))[0].flip(0)], dim=2)
    assert_equal(output, want(x)[0], "output")


@pytest.mark.parametrize(("value", "told"), [(2, "proj_size must be 0, got 2"), (-1, "proj_size must be an integer")])
def test_a_projection_is_refused(value: int, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        SAB(3, 4, proj_size=value)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bias", [True, False])
def test_all_weights_are_those_of_the_cells(cell: str, bias: bool) -> None:
    layer, like = SAB(3, 4, 2, cell=cell, bias=bias), torch_layer(cell, bias=bias)
    names: dict[int, str] = {id(parameter): name for name, parameter in layer.named_parameters()}
    names |= {id(parameter): name for name, parameter in like.named_parameters()}

    def named(module: Any) -> list[list[str]]:
        return [[names[id(weight)] for weight in weights] for weights in module.all_weights]

    assert named(layer) == named(like)
    for got, want in zip(layer.all_weights, like.all_weights, strict=True):
        assert [weight.shape for weight in got] == [weight.shape for weight in want]


def test_code_that_draws_weights_by_all_weights_draws_the_layers() -> None:
    layer = SAB(3, 4, 2)
    for weights in layer.all_weights:
        for weight in weights:
            nn.init.constant_(weight, 0.5)
    assert all(bool((w == 0.5).all()) == ("score" not in name) for name, w in layer.named_parameters())


def test_cells_of_ones_own_have_no_all_weights() -> None:
    layer = SAB(3, 4, cell=nn.LSTMCell(3, 4))
    assert not hasattr(layer, "all_weights")


def test_flattening_changes_nothing() -> None:
    layer = make()
    before = {name: parameter.data_ptr() for name, parameter in layer.named_parameters()}
    assert layer.flatten_parameters() is None  # pyright: ignore[reportFunctionMemberAccess]
    assert {name: parameter.data_ptr() for name, parameter in layer.named_parameters()} == before


@pytest.mark.parametrize("cell", CELLS)
def test_a_state_is_no_tuple_and_says_where_its_parts_are(cell: str) -> None:
    """`hidden[0]` is h of an nn.LSTM and the first layer's h of an nn.GRU: neither is guessed."""
    _, state = make(cell=cell)(draw(4, 2, 3))
    for index in (0, -1):
        with pytest.raises(TypeError, match=r"no items: h and c are state\.h and state\.c.*state\.rows"):
            state[index]


@pytest.mark.parametrize("index", [1, torch.tensor(1), torch.tensor([[0, 1], [1, 0]])], ids=str)
def test_rows_that_are_no_list_are_refused(index: Any) -> None:
    """A table of rows made a state that no call takes, and a number ended in an error of indices."""
    _, state = make()(draw(4, 2, 3))
    with pytest.raises(ValueError, match="index must choose a list of rows: a slice, or a tensor of one axis; got"):
        state.rows(index)
    assert state.rows(torch.tensor([1])).batch_size == 1


def test_a_layer_shows_what_an_lstm_shows() -> None:
    options: dict[str, Any] = {"num_layers": 2, "bias": False, "dropout": 0.3, "batch_first": True}
    for setting in repr(nn.LSTM(3, 4, **options))[len("LSTM(") : -1].split(", "):
        assert setting in repr(SAB(3, 4, **options))
