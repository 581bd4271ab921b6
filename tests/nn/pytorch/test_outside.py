"""Modules of one's own that compute with tensors they do not hold: these take the gradient of one call too.

Shapes: T time, B batch, I input, H hidden.
"""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportIncompatibleMethodOverride=false
# torch annotates the functions it takes in part.

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from reminding import SAB
from reminding.nn.parts.outside import Watch
from tests.nn.pytorch.modules import FLOAT64, Cell, Change, Encoder, Score
from tests.nn.pytorch.ways import HIDDEN, INPUT, WAYS, Case, cases, gathered, inputs, loss_of, trained
from tests.nn.samples import assert_same_gradients, chunks, spread


class Model(nn.Module):
    """A layer, and a matrix that its modules compute with and do not hold.

    Args:
        make: makes the layer; parts: which of its modules are of this kind; kind: how they come by the matrix.
    """

    def __init__(self, make: Callable[..., SAB], num_layers: int, parts: str, kind: str) -> None:
        super().__init__()
        hidden = nn.Linear(HIDDEN, HIDDEN, bias=False, **FLOAT64)
        self.outside = nn.Parameter(hidden.weight.detach()) if kind != "module in a list" else hidden.weight
        held = [self.outside]
        now: dict[str, Tensor] = {}
        changes: dict[str, Change] = {
            "closure": lambda h: h @ self.outside,
            "list": lambda h: h @ held[0].t(),
            "module in a list": lambda h: [hidden][0](h),
            "hypernetwork": lambda h: h @ now["made"],
            "view": lambda h: h @ now["view"].view(HIDDEN, HIDDEN),
        }
        self._made = now
        options: dict[str, Any] = {}
        if "cell" in parts:
            options["cell"] = [Cell(size, changes[kind]) for size in (INPUT, HIDDEN)[:num_layers]]
        if "score" in parts:
            options["score"] = [Score(changes[kind]) for _ in range(num_layers)]
        if "encoder" in parts:
            options["encoder"] = Encoder(changes[kind])
        self.layer = make(**options)
        spread(self)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        self._made["made"] = torch.tanh(self.outside) * 2 + self.outside.mean()
        self._made["view"] = self.outside.t().flatten()
        return self.layer(x, state)


KINDS = ("closure", "list", "module in a list", "hypernetwork", "view")
PARTS = ("cell", "score", "encoder", "cell, score, encoder")


def check_model(case: Case, parts: str, kind: str) -> None:
    makers = (case.layer, case.plain)
    if parts != "encoder":
        makers = (lambda **options: case.layer(**options, backend="reference"), case.plain)
    model, plain = (Model(make, case.num_layers, parts, kind) for make in makers)
    want = trained(plain, [inputs()])
    used = parts != "score" or case.k_top != 0
    assert bool((want["outside"] != 0).any()) == used
    assert_same_gradients(trained(model, chunks(inputs(), case.size)), want)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parts", PARTS)
@given(case=cases)
@settings(max_examples=3, deadline=None, derandomize=True)
def test_a_tensor_from_outside_takes_the_gradient_of_one_call(kind: str, parts: str, case: Case) -> None:
    check_model(case, parts, kind)


@pytest.mark.slow
@given(case=cases, kind=st.sampled_from(KINDS), parts=st.sampled_from(PARTS))
@settings(max_examples=600, deadline=None, derandomize=True)
def test_a_tensor_from_outside_takes_the_gradient_of_one_call_everywhere(case: Case, kind: str, parts: str) -> None:
    check_model(case, parts, kind)


class WithBuffer(nn.Module):
    """A cell whose buffer is made of a parameter before each call."""

    def __init__(self, make: Callable[..., SAB]) -> None:
        super().__init__()
        self.outside = nn.Parameter(torch.empty(HIDDEN, HIDDEN, **FLOAT64))
        cell = Cell(INPUT, lambda h: h @ cast("Tensor", cell.made))
        cell.register_buffer("made", torch.zeros(HIDDEN, HIDDEN, **FLOAT64))
        self.layer = make(cell=cell)
        spread(self)

    def forward(self, x: Tensor, state: Any = None) -> Any:
        self.layer.cells[0].made = torch.tanh(self.outside)
        return self.layer(x, state)


@given(case=cases.filter(lambda case: case.cell == "own" and case.num_layers == 1))
@settings(max_examples=6, deadline=None, derandomize=True)
def test_a_buffer_that_requires_a_gradient_takes_it(case: Case) -> None:
    model, plain = WithBuffer(case.layer), WithBuffer(case.plain)
    assert_same_gradients(trained(model, chunks(inputs(), case.size)), trained(plain, [inputs()]))


def replaying(change: Change, **options: Any) -> SAB:
    case = Case("reference", "replay", 1, 2, "own", False, 5)
    return case.layer(cell=Cell(INPUT, change), **options)


def outside_matrix() -> Tensor:
    return torch.linspace(-1, 1, HIDDEN * HIDDEN, **FLOAT64).view(HIDDEN, HIDDEN).requires_grad_()


def test_a_hook_of_a_tensor_from_outside_runs_once_a_backward_pass() -> None:
    outside = outside_matrix()
    calls: list[Tensor] = []
    outside.register_hook(calls.append)
    loss_of(replaying(lambda h: h @ outside)(inputs())[0]).backward()
    assert len(calls) == 1
    torch.testing.assert_close(calls[0], outside.grad, rtol=0, atol=0)


def test_first_and_second_derivatives_by_a_tensor_from_outside() -> None:
    outside = outside_matrix()
    found: list[list[Tensor]] = []
    for engine in ("replay", "autograd"):
        layer = replaying(lambda h: h @ outside, engine=engine)
        x = inputs().requires_grad_()
        grad: Any = torch.autograd.grad
        slope, d_outside = grad(loss_of(layer(x)[0]), [x, outside], create_graph=True)
        found.append([slope, d_outside, *grad(slope.pow(2).sum(), [x, outside])])
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    assert outside.grad is None


@pytest.mark.parametrize("engine", ["replay", "autograd"])
def test_constants_from_outside_stay_constants(engine: str) -> None:
    outside = outside_matrix().requires_grad_(False)
    read = outside_matrix()
    layer = replaying(lambda h: h @ outside + (read.detach() @ read.data).sum() + read.shape[0], engine=engine)
    trained(layer, chunks(inputs(), 5))
    assert outside.grad is None and read.grad is None


def test_nothing_is_asked_for_without_gradients() -> None:
    outside = outside_matrix()
    layer = replaying(lambda h: h @ outside)
    state: Any = None
    for piece in chunks(inputs(), 5):
        with torch.no_grad():
            _, state = layer(piece, state)
    layer.requires_grad_(False)
    output, _ = layer(inputs())
    loss_of(output).backward()
    assert outside.grad is not None


class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(h, w)
        return h @ w

    @staticmethod
    def backward(ctx: Any, *d: Tensor) -> tuple[Tensor, Tensor]:
        h, w = ctx.saved_tensors
        return d[0] @ w.t(), h.t() @ d[0]


def by_function() -> Change:
    outside = outside_matrix()
    return lambda h: cast("Tensor", Scale.apply(h, outside))


def by_script() -> Change:
    script: Any = torch.jit.script
    scripted = script(nn.Linear(HIDDEN, HIDDEN, **FLOAT64))
    return lambda h: scripted(h)


def once_in_five() -> Change:
    outside, steps = outside_matrix(), [0]

    def change(h: Tensor) -> Tensor:
        steps[0] += 1
        return h @ outside if steps[0] % 5 == 0 else h

    return change


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (by_function, "autograd.Function"),
        (by_script, "a scripted module"),
        (once_in_five, r"cell \(Cell\) computes .* of shape \(4, 4\) that it does not hold"),
    ],
)
@pytest.mark.parametrize("engine", ["replay", "autograd"])
def test_a_gradient_that_a_replay_would_lose_is_refused(change: Callable[[], Change], says: str, engine: str) -> None:
    """The message names the module and says what to do; the layer that it names works."""
    with pytest.raises(ValueError, match=says) as raised:
        trained(replaying(change(), engine=engine), chunks(inputs(), 3))
    assert "engine='autograd' and horizon=0" in str(raised.value)
    plain = replaying(change(), engine="autograd", horizon=0)
    loss_of(plain(inputs())[0]).backward()
    assert all(parameter.grad is not None for parameter in plain.cells.parameters())


def test_within_a_call_any_step_may_use_a_tensor_from_outside() -> None:
    outside = outside_matrix()
    found: list[dict[str, Tensor]] = []
    for engine in ("replay", "autograd"):
        outside.grad = None
        layer = replaying(lambda h: torch.where(h > 0, h @ outside, h) if bool(h[0, 0] > 0) else h, engine=engine)
        loss_of(layer(inputs())[0]).backward()
        assert outside.grad is not None
        found.append({**gathered(layer), "outside": outside.grad})
    assert_same_gradients(*found)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_built_in_cells_and_scores_are_never_watched(way: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("watched")

    monkeypatch.setattr(Watch, "__init__", refuse)
    case = Case(**way, num_layers=2, k_top=2, cell="lstm", encoder=False, size=5)
    trained(case.layer(), chunks(inputs(), 5))
