"""Users' cells: PyTorch's, and their own in every form that the layer accepts.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from reminding import SAB, SABState
from tests.nn.samples import assert_same_gradients, assert_same_recall, chunks, draw, gradients, make, spread
from tests.tolerance import assert_equal

OPTIONS: dict[str, Any] = {"k_top": 2, "k_att": 2, "k_trunc": 3}
Form = Callable[[Any, Any], Any]


class Wrapped(nn.Module):
    """An LSTM cell that returns its result in a given form."""

    def __init__(self, form: Form, cell: nn.Module | None = None, **further: Any) -> None:
        super().__init__()
        self.inner = nn.LSTMCell(3, 4) if cell is None else cell
        self.form = form
        for name, value in further.items():
            setattr(self, name, value)

    def forward(self, x: Tensor, state: Any) -> Any:
        return self.form(x, (self.inner, state))


def pair_form(x: Tensor, given: Any) -> Any:
    return given[0](x, given[1])


def nested_form(x: Tensor, given: Any) -> Any:
    h, c = given[0](x, given[1])
    return h, (h, c)


def single_tuple_form(x: Tensor, given: Any) -> Any:
    h, c = given[0](x, given[1])
    return h, (c,)


def bare_form(x: Tensor, given: Any) -> Any:
    """A cell without further state, which returns h only."""
    return given[0](x, given[1])


def h_twice_form(x: Tensor, given: Any) -> Any:
    h = given[0](x, given[1])
    return h, h


class TwoCounters(nn.Module):
    """A GRU with two further state tensors: one per feature, and one per row with another shape."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.inner = nn.GRUCell(3, 4)
        self.state_shapes = ((4,), (2, 3))
        self.whole = whole

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor, Tensor]) -> Any:
        h, slow, table = state
        h = self.inner(x, h + 0.1 * slow)
        slow, table = 0.9 * slow + 0.1 * h, table + x.unsqueeze(1)
        return h, ((h, slow, table) if self.whole else (slow, table))


def built_in(cell: str, **options: Any) -> SAB:
    return make(cell=cell, **OPTIONS, **options)


def with_weights_of(layer: SAB, module: nn.Module, inner: nn.Module, **options: Any) -> SAB:
    """The same layer around a user's module, whose inner cell has the weights of the built-in one."""
    weights = dict(layer.state_dict())
    inner.double().load_state_dict({name: weights[f"{name}_l0"] for name, _ in inner.named_parameters()})
    other = SAB(3, 4, cell=module, dtype=torch.float64, **OPTIONS, **options)
    other.load_state_dict({name: w for name, w in weights.items() if name.startswith("score")}, strict=False)
    return other


def check_equal(layer: SAB, other: SAB, inner: nn.Module) -> None:
    x = draw(11, 2, 3).requires_grad_()
    output, state, recall = layer(x, return_recall=True)
    y, after, read = other(x, return_recall=True)
    assert_equal(y, output, "output")
    assert_same_recall(read, recall)
    assert_equal(after.h, state.h, "h")
    assert_equal(other(x, after)[0], layer(x, state)[0], "the next chunk")
    wanted, got = gradients(layer, output.pow(2).sum(), x=x), gradients(other, y.pow(2).sum(), x=x)
    names = {id(p): name for name, p in other.named_parameters()}
    for name, parameter in inner.named_parameters():
        assert_equal(got[names[id(parameter)]], wanted[f"{name}_l0"], f"gradient of {name}")
    for name in ("x", "score_memory_l0", "score_query_l0", "score_out_l0"):
        assert_equal(got[name], wanted[name], f"gradient of {name}")


@pytest.mark.parametrize(
    ("cell", "module"), [("lstm", nn.LSTMCell), ("gru", nn.GRUCell), ("rnn", nn.RNNCell)], ids=lambda v: str(v)
)
def test_pytorchs_cells_equal_the_built_in_ones(cell: str, module: type[nn.Module]) -> None:
    layer, inner = built_in(cell), module(3, 4)
    check_equal(layer, with_weights_of(layer, inner, inner), inner)


class Forgets(nn.LSTMCell):
    """An LSTM cell that scales its c down at every step."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        h, c = hx
        gates = torch.nn.functional.linear(input, self.weight_ih, self.bias_ih)
        i, f, g, o = (gates + torch.nn.functional.linear(h, self.weight_hh, self.bias_hh)).chunk(4, 1)
        c = 0.7 * f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


@pytest.mark.parametrize("engine", ["autograd", "replay"])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_forget_scale_multiplies_the_forget_gate(backend: str, engine: str) -> None:
    inner = Forgets(3, 4)
    layer = built_in("lstm", forget_scale=0.7, backend=backend, engine=engine)
    check_equal(layer, with_weights_of(layer, inner, inner), inner)


@pytest.mark.parametrize("k_top", [0, 2])
def test_a_c_that_forgets_stays_bounded(k_top: int) -> None:
    """With all gates open, c grows by 1 per step, or converges to 1 / (1 - forget_scale)."""
    found: dict[float, float] = {}
    for scale in (1.0, 0.9):
        layer = SAB(1, 2, k_top=k_top, forget_scale=scale)
        with torch.no_grad():
            for name, parameter in layer.named_parameters():
                parameter.fill_(9.0 if name == "bias_ih_l0" else 0.0)
            found[scale] = float(layer(torch.zeros(500, 1, 1))[1].c.detach().max())
    assert found[1.0] == pytest.approx(500, rel=0.1)
    assert found[0.9] == pytest.approx(10, rel=0.01)


def test_what_forgets_is_not_run_by_pytorchs_kernels() -> None:
    assert SAB(3, 4, k_top=0).plan(8).backend == "torch"
    assert SAB(3, 4, k_top=0, forget_scale=0.9).plan(8).backend != "torch"


@pytest.mark.parametrize("form", [pair_form, nested_form, single_tuple_form])
@pytest.mark.parametrize("told", [True, False], ids=["state_shapes", "tried"])
def test_every_form_of_an_lstms_answer(form: Form, told: bool) -> None:
    layer, inner = built_in("lstm"), nn.LSTMCell(3, 4)
    module = Wrapped(form, inner, **({"state_shapes": ((4,),)} if told else {}))
    check_equal(layer, with_weights_of(layer, module, inner), inner)


@pytest.mark.parametrize("form", [bare_form, h_twice_form])
def test_every_form_of_a_grus_answer(form: Form) -> None:
    layer, inner = built_in("gru"), nn.GRUCell(3, 4)
    other = with_weights_of(layer, Wrapped(form, inner), inner)
    check_equal(layer, other, inner)
    assert other(draw(3, 2, 3))[1].c is None


@pytest.mark.parametrize("whole", [True, False], ids=["with h", "without h"])
def test_a_cell_with_two_further_tensors(whole: bool) -> None:
    module = TwoCounters(whole)
    layer = SAB(3, 4, cell=module, k_top=0, k_trunc=None, dtype=torch.float64)
    x = draw(7, 2, 3)
    output, state = layer(x)
    h, slow, table = (torch.zeros(2, *shape, dtype=torch.float64) for shape in ((4,), (4,), (2, 3)))
    for t in range(7):
        h, further = module(x[t], (h, slow, table))
        slow, table = further[-2:]
        assert_equal(output[t], h, f"step {t + 1}")
    further = cast("tuple[Tensor, ...]", state.c)
    assert_equal(further[0][0], slow, "the first further tensor")
    assert_equal(further[1][0], table, "the second")
    given = (h.unsqueeze(0), slow.unsqueeze(0), table.unsqueeze(0))
    assert_equal(layer(x, given)[0], layer(x, state)[0], "all three given as tensors")
    recalling = make(cell=TwoCounters(whole), **OPTIONS)
    assert_equal(recalling(x)[0][:, :1], recalling(x[:, :1])[0], "a row alone")


@pytest.mark.parametrize("credit_every", [1, 3])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_credit_goes_through_a_further_state_of_any_shape(shape: tuple[int, ...], credit_every: int) -> None:
    """() is one number a row, such as the time since an event."""

    class Paced(nn.Module):
        state_shapes = (shape,)

        def __init__(self) -> None:
            super().__init__()
            self.inner, self.pace = nn.GRUCell(3, 4), nn.Parameter(torch.tensor(0.5))

        def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            h, since = state
            since = torch.tanh(since * 0.7 + self.pace * x.mean(1).view(-1, *[1] * len(shape)))
            return self.inner(x, h) * (1 + since.reshape(len(x), -1).mean(1, keepdim=True)), since

    x = draw(12, 2, 3)
    whole = make(cell=Paced(), **OPTIONS)
    want = gradients(whole, whole(x)[0].pow(2).sum())
    layer = make(cell=Paced(), credit_every=credit_every, **OPTIONS)
    state: Any = None
    for part in chunks(x, 4):
        output, state = layer(part, state)
        output.pow(2).sum().backward()
    layer.settle(state)
    assert_same_gradients({name: cast("Tensor", p.grad) for name, p in layer.named_parameters()}, want)


def test_several_layers_of_own_cells() -> None:
    layer = make(num_layers=2, cell="gru", **OPTIONS)
    inners = [nn.GRUCell(3, 4), nn.GRUCell(4, 4)]
    weights = layer.state_dict()
    for i, inner in enumerate(inners):
        inner.double().load_state_dict({name: weights[f"{name}_l{i}"] for name, _ in inner.named_parameters()})
    for given in (inners, nn.ModuleList(inners)):
        other = SAB(3, 4, 2, cell=given, dtype=torch.float64, **OPTIONS)
        other.load_state_dict({name: w for name, w in weights.items() if name.startswith("score")}, strict=False)
        assert_equal(other(draw(9, 2, 3))[0], layer(draw(9, 2, 3))[0], "output")


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_class_may_be_called_like_a_built_in_cell(cell: str) -> None:
    module = type(cell, (nn.GRUCell,), {})(3, 4)
    output, state = SAB(3, 4, cell=module, k_top=0)(draw(5, 2, 3, dtype=torch.float32))
    assert output.shape == (5, 2, 4)
    assert state.c is None


def test_trying_a_cell_draws_no_random_numbers_and_leaves_no_gradient() -> None:
    class Noisy(nn.GRUCell):
        def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
            return super().forward(input + torch.randn_like(input), hx)

    module = Noisy(3, 4)
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    layer = SAB(3, 4, cell=module, k_top=0)
    assert torch.equal(torch.rand(3), wanted)
    assert all(parameter.grad is None for parameter in layer.parameters())


def test_a_state_whose_tensors_are_one_and_the_same_can_be_saved(tmp_path: Any) -> None:
    """A cell may return the same tensor as h and as its further state."""

    class Same(nn.Module):
        state_shapes = ((4,),)

        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3, 4)

        def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            h = torch.tanh(self.inner(x) + state[0] + state[1])
            return h, h

    _, state = SAB(3, 4, cell=Same(), k_top=0)(draw(5, 2, 3, dtype=torch.float32))
    state.save(tmp_path / "state")
    _, c = SABState.load(tmp_path / "state")
    assert torch.equal(c, state.c)


WRONG: dict[str, tuple[Form, str]] = {
    "wrong size": (lambda x, given: (torch.zeros(len(x), 5), given[1][1]), r"\(2, 5\)"),
    "list": (lambda x, given: [given[1][0], given[1][1]], "'list'"),
    "three": (lambda x, given: (given[1][0], given[1][1], 0), "'tuple'"),
    "no further state": (lambda x, given: given[1][0], r"got \[\(2, 4\)\]"),
    "raises": (lambda x, given: 1 / 0, "ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize(("form", "shown"), WRONG.values(), ids=WRONG.keys())
def test_a_cell_that_cannot_be_called_is_told_when_the_layer_is_made(form: Form, shown: str) -> None:
    def always(x: Tensor, given: Any) -> Any:
        assert isinstance(given[1], tuple), "not a bare h"
        return form(x, given)

    with pytest.raises(ValueError, match=shown) as error:
        SAB(3, 4, cell=Wrapped(always))
    message = str(error.value)
    assert message.startswith("cell must be callable as cell(x, state) -> (h, state) with x (2, 3) and h (2, 4)")
    assert "state=(h, c): " in message
    assert "state=h: AssertionError: not a bare h" in message
    assert "state_shapes" in message


@pytest.mark.parametrize(("form", "shown"), list(WRONG.values())[:4], ids=list(WRONG)[:4])
def test_a_wrong_answer_is_told_when_it_comes(form: Form, shown: str) -> None:
    """With `state_shapes`, the module is not called on a trial step."""
    layer = SAB(3, 4, cell=Wrapped(form, state_shapes=((4,),)))
    with pytest.raises(ValueError, match=shown) as error:
        layer(draw(2, 2, 3, dtype=torch.float32))
    assert "cell must return (h, state) with tensors of shapes [(2, 4), (2, 4)]" in str(error.value)


@pytest.mark.parametrize("module", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_layer_of_pytorch_is_no_cell(module: type[nn.Module]) -> None:
    """It takes the rows of a step for the steps of a sequence, which one row alone would not show."""
    with pytest.raises(ValueError, match="a zero step failed both ways"):
        SAB(3, 4, cell=module(3, 4))


def test_own_parameters_of_a_cell_are_the_users() -> None:
    """The layer initialises its own scorer; a module given by the user keeps its weights."""
    inner = nn.GRUCell(3, 4)
    spread(inner)
    before = {name: p.clone() for name, p in inner.named_parameters()}
    layer = SAB(3, 4, cell=inner)
    layer.reset_parameters()
    for name, parameter in inner.named_parameters():
        assert torch.equal(parameter, before[name]), name
    assert "cells.0.weight_ih" in layer.state_dict()


def test_a_cell_or_score_put_in_the_place_of_another_is_the_one_that_runs() -> None:
    class Scaled(nn.Module):
        """A user's score."""

        def __init__(self, scale: float) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(scale, dtype=torch.float64))

        def keys(self, memory: Tensor) -> Tensor:
            return memory

        def scores(self, keys: Tensor, query: Tensor) -> Tensor:
            return self.scale * (keys * query.unsqueeze(1)).sum(2)

    layers = [
        make(cell=nn.RNNCell(3, 4), score=Scaled(scale), k_top=2, k_att=1, seed=seed)
        for seed, scale in ((1, 1.0), (2, -3.0))
    ]
    x = draw(12, 2, 3)
    want, _ = layers[1](x)
    for name in ("cells", "scorers"):
        getattr(layers[0], name)[0] = getattr(layers[1], name)[0]
    output, _ = layers[0](x)
    assert_equal(output, want, "output")
    assert_same_gradients(gradients(layers[0], output.sum()), gradients(layers[1], want.sum()))
