"""Numbers that are not finite: where they come out, and in which gradients, the same on every backend and engine.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

from reminding import SAB, SABState
from tests.nn.samples import BUILT, CELLS, assert_same_gradients, chunks, draw, make
from tests.tolerance import assert_equal

WAYS = [
    ("auto", "auto"),
    ("reference", "autograd"),
    ("reference", "replay"),
    *((("cpu", "autograd"), ("cpu", "replay")) if "cpu" in BUILT else ()),
]
LAYERS: dict[str, dict[str, Any]] = {
    "softmax": {"k_top": 2, "k_att": 2, "k_trunc": 4},
    "threshold": {"k_top": 2, "k_att": 1, "k_trunc": 3, "normalizer": "threshold", "score": "dot"},
    "release": {"k_top": 2, "k_att": 1, "k_trunc": 3, "semantics": "release"},
    "bounded": {"k_top": 2, "k_att": 1, "k_trunc": 3, "capacity": 3, "evict": "least_recalled"},
    "two layers": {"num_layers": 2, "k_top": 2, "k_att": 2, "k_trunc": 4},
    "all memories": {"k_top": None, "k_att": 2, "k_trunc": 4},
    "no memory": {"k_top": 0, "k_trunc": 4},
}
NUMBERS = [torch.nan, torch.inf, -torch.inf]
ROW, STEP = 1, 5
"""Where the damaged input has its number."""

ways = pytest.mark.parametrize(("backend", "engine"), WAYS)
layers = pytest.mark.parametrize("name", LAYERS)


def layer_of(name: str, backend: str, engine: str, **further: Any) -> SAB:
    options: dict[str, Any] = {**LAYERS[name], "backend": backend, "engine": engine, **further}
    return make(3, 4, options.pop("num_layers", 1), **options)


def damaged(x: Tensor, number: float) -> Tensor:
    x = x.clone()
    x[STEP, ROW, 0] = number
    return x


def others(x: Tensor, axis: int) -> Tensor:
    """All rows but the damaged one."""
    return x.index_select(axis, torch.tensor([row for row in range(x.shape[axis]) if row != ROW]))


def grads(layer: nn.Module) -> dict[str, Tensor]:
    found = {name: parameter.grad for name, parameter in layer.named_parameters()}
    assert all(gradient is not None for gradient in found.values()), "every parameter has a gradient"
    return {name: gradient for name, gradient in found.items() if gradient is not None}


@ways
@layers
@pytest.mark.parametrize("number", NUMBERS)
def test_a_row_is_not_a_number_from_the_step_on_and_other_rows_are_unharmed(
    name: str, backend: str, engine: str, number: float
) -> None:
    layer, x = layer_of(name, backend, engine), draw(11, 3, 3)
    with torch.no_grad():
        output, state, recall = layer(damaged(x, number), return_recall=True)
        right, _, told = layer(x, return_recall=True)
    assert_equal(output[:STEP], right[:STEP], "output before")
    assert_equal(others(output, 1), others(right, 1), "other rows")
    assert output[STEP:, ROW].isnan().all()
    assert recall.summary[STEP:, ROW].isnan().all()
    assert recall.weight[..., STEP:, ROW, :].isnan().all()
    assert not recall.step[..., STEP:, ROW, :].any()
    assert torch.equal(others(recall.step, -2), others(told.step, -2))
    assert state.h[:, ROW].isnan().all()
    assert others(state.h, 1).isfinite().all()


@ways
@layers
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("loss", ["all", "other rows", "before", "state", "summary"])
def test_gradients_of_parameters_and_of_the_row_are_not_numbers_whatever_the_loss(
    name: str, backend: str, engine: str, number: float, loss: str
) -> None:
    def backward(x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        layer, x = layer_of(name, backend, engine), x.clone().requires_grad_()
        output, state, recall = layer(x, return_recall=True)
        losses = {
            "all": output.sum(),
            "other rows": output[:, 0].sum() + output[:, 2].sum(),
            "before": output[:STEP].sum(),
            "state": state.h.sum() + state.memory.sum() if name == "softmax" else state.h.sum(),
            "summary": recall.summary.sum() + 0 * output[:1].sum(),
        }
        losses[loss].backward()
        assert x.grad is not None
        return grads(layer), x.grad

    found, d_x = backward(damaged(draw(11, 3, 3), number))
    _, wanted = backward(draw(11, 3, 3))
    assert all(gradient.isnan().all() for gradient in found.values())
    assert d_x[:, ROW].isnan().all()
    assert_equal(others(d_x, 1), others(wanted, 1), "gradient of other rows")


def stream(layer: SAB, reset_row: bool, number: float | None) -> tuple[list[dict[str, Tensor]], SABState]:
    """The gradients of each of four calls; the second is damaged, and the row may begin anew with the third."""
    state: Any = None
    found: list[dict[str, Tensor]] = []
    for call, x in enumerate(chunks(draw(40, 3, 3), 10)):
        reset = torch.zeros(3, dtype=torch.bool)
        reset[ROW] = reset_row and call == 2
        layer.zero_grad()
        output, state = layer(damaged(x, number) if call == 1 and number is not None else x, state, reset=reset)
        output.pow(2).sum().backward()
        found.append(grads(layer))
    layer.zero_grad()
    layer.settle(state)
    return found, state


@ways
@layers
@pytest.mark.parametrize("credit_every", [1, 3])
def test_a_row_that_begins_anew_leaves_no_trace(name: str, backend: str, engine: str, credit_every: int) -> None:
    """Nor does credit that was put off: gradients are those of a stream whose row was right till then."""
    options: dict[str, Any] = {"credit_every": credit_every}
    found, state = stream(layer_of(name, backend, engine, **options), True, torch.nan)
    definition, _ = stream(layer_of(name, "reference", "autograd", **options), True, torch.nan)
    assert all(gradient.isnan().all() for gradient in found[1].values())
    for call in (0, 2, 3):
        assert_same_gradients(found[call], definition[call])
        assert all(gradient.isfinite().all() for gradient in found[call].values())
    assert state.h.isfinite().all()


@ways
@layers
def test_without_a_reset_the_row_stays_what_it_is(name: str, backend: str, engine: str) -> None:
    found, state = stream(layer_of(name, backend, engine), False, torch.inf)
    assert all(gradient.isnan().all() for call in found[1:] for gradient in call.values())
    assert state.h[:, ROW].isnan().all()
    assert others(state.h, 1).isfinite().all()


@ways
def test_the_state_that_a_row_begins_with_may_be_what_is_not_finite(backend: str, engine: str) -> None:
    layer, x = layer_of("softmax", backend, engine), draw(9, 3, 3).requires_grad_()
    h = draw(1, 3, 4, seed=7)
    h[0, ROW, 2] = torch.nan
    h.requires_grad_()
    output, _ = layer(x, (h, torch.zeros(1, 3, 4, dtype=torch.float64)))
    output[:, 0].sum().backward()
    assert output[:, ROW].isnan().all()
    assert all(gradient.isnan().all() for gradient in grads(layer).values())
    assert x.grad is not None
    assert h.grad is not None
    assert x.grad[:, ROW].isnan().all()
    assert h.grad[:, ROW].isnan().all()
    assert others(x.grad, 1).isfinite().all()
    assert others(h.grad, 1).isfinite().all()


@ways
def test_the_encoders_gradient_is_not_a_number_either(backend: str, engine: str) -> None:
    encoder = nn.Linear(3, 3, dtype=torch.float64)
    layer = layer_of("softmax", backend, engine, encoder=encoder)
    state: Any = None
    for call, x in enumerate(chunks(draw(22, 3, 3), 11)):
        output, state = layer(damaged(x, torch.inf) if call == 1 else x, state)
        output[:, 0].sum().backward()
        assert all(gradient.isnan().all() == (call == 1) for gradient in grads(layer).values())


class Shifted(nn.Module):
    """An encoder of steps from the ones before them, in the first axis."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3, dtype=torch.float64)
        self.dropout = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.linear(torch.cat([torch.ones_like(x[:1]), x[:-1]])))


def with_tanh() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3, dtype=torch.float64), nn.Tanh())


@ways
@pytest.mark.parametrize(
    ("form", "encoder"),
    [("time first", with_tanh), ("batch first", with_tanh), ("packed", with_tanh), ("time first", Shifted)],
)
def test_the_encoders_gradient_is_that_of_the_other_rows_after_a_reset(
    backend: str, engine: str, form: str, encoder: Callable[[], nn.Module]
) -> None:
    """Its backward pass multiplies the credit 0 of the lost row by what the row read, which must not be NaN."""
    found: list[list[dict[str, Tensor]]] = []
    for lost in (False, True):
        torch.manual_seed(0)
        layer = layer_of("softmax", backend, engine, encoder=encoder(), batch_first=form == "batch first")
        state: Any = None
        found.append([])
        for call, x in enumerate(chunks(draw(44, 3, 3), 11)):
            torch.manual_seed(call)
            x = damaged(x, torch.nan) if call == 1 and lost else x
            given: Any = x.transpose(0, 1) if form == "batch first" else x
            if form == "packed":
                given = pack_padded_sequence(x, [11, 9, 11], enforce_sorted=False)
            reset = torch.arange(3) == ROW if call > 1 else None
            layer.zero_grad()
            output, state = layer(given, state, reset=reset)
            output = pad_packed_sequence(output)[0] if form == "packed" else output
            output = output.transpose(0, 1) if form == "batch first" else output
            (others(output, 1).sum() + output[:, ROW].sum() * (call > 1)).backward()
            found[-1].append({name: p.grad.clone() for name, p in layer.named_parameters() if p.grad is not None})
    assert all(gradient.isnan().all() for gradient in found[1][1].values())
    for call in (0, 2, 3):
        for name, gradient in found[1][call].items():
            torch.testing.assert_close(gradient, found[0][call][name], msg=f"{name} of call {call}")


@ways
def test_the_end_of_a_packed_row_is_no_number_that_is_not_finite(backend: str, engine: str) -> None:
    layer = layer_of("softmax", backend, engine)
    rows = [draw(length, 3, seed=length) for length in (4, 9, 7)]
    output, _ = layer(pack_sequence(rows, enforce_sorted=False))
    output.data.sum().backward()
    assert all(gradient.isfinite().all() for gradient in grads(layer).values())
    rows[0][2, 1] = torch.nan
    layer.zero_grad()
    output, _ = layer(pack_sequence(rows, enforce_sorted=False))
    output.data.sum().backward()
    assert output.data.isnan().any(1).sum() == 2
    assert all(gradient.isnan().all() for gradient in grads(layer).values())


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", ["softmax", "threshold", "bounded"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_stepper_gives_what_calls_give(name: str, number: float, cell: str) -> None:
    layer, x = layer_of(name, "auto", "auto", cell=cell), damaged(draw(9, 3, 3), number)
    with torch.no_grad():
        output, _, recall = layer(x, return_recall=True)
        stepper: Any = layer.stepper()
        for t in range(len(x)):
            h, told = stepper(x[t], return_recall=True)
            torch.testing.assert_close(h, output[t], equal_nan=True)
            torch.testing.assert_close(told.weight, recall.weight[t], equal_nan=True)
            torch.testing.assert_close(told.summary, recall.summary[t], equal_nan=True)
            assert torch.equal(told.step, recall.step[t])


def test_sums_that_overflow_are_finite_all_the_same() -> None:
    """The quick look at a tensor's sum is followed by a look at its numbers."""
    layer = make(k_top=2, k_att=1, dtype=torch.float32)
    x = draw(5, 2, 3, dtype=torch.float32)
    with torch.no_grad():
        layer.get_parameter("weight_ih_l0").mul_(1e-38)
    x[:, 0] = 3e38
    output, _ = layer(x)
    output.sum().backward()
    assert output.isfinite().all()
    assert all(not gradient.isnan().any() for gradient in grads(layer).values())
