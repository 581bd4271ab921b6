"""Cells that use parameters of their own in unusual ways are neither refused nor wrong; what they keep is refused.

Shapes: B batch, H hidden.
"""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false
# torch annotates the functions it takes in part.

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.nn.pytorch.modules import FLOAT64, Cell
from tests.nn.pytorch.ways import HIDDEN, INPUT, Case, cases, inputs, trained
from tests.nn.samples import assert_same_gradients, chunks


class Own(Cell):
    """A cell with a matrix of its own, which its subclasses use in unusual ways."""

    def __init__(self, size: int) -> None:
        super().__init__(size, self.use)
        self.own = nn.Parameter(torch.empty(HIDDEN, HIDDEN, **FLOAT64))
        self.linear = nn.Linear(HIDDEN, HIDDEN, **FLOAT64)
        self.setup()

    def setup(self) -> None: ...

    def use(self, h: Tensor) -> Tensor:
        raise NotImplementedError


class Listed(Own):
    """Its parameters stand in a list too."""

    def setup(self) -> None:
        self.all = [self.own]

    def use(self, h: Tensor) -> Tensor:
        return h @ self.all[0]


class Recurrent(Own):
    """nn.GRU keeps a list of its weights."""

    def setup(self) -> None:
        self.gru = nn.GRU(HIDDEN, HIDDEN, **FLOAT64)

    def use(self, h: Tensor) -> Tensor:
        return self.gru(h.unsqueeze(0))[0].squeeze(0)


class Attends(Own):
    def setup(self) -> None:
        self.attention = nn.MultiheadAttention(HIDDEN, 2, batch_first=True, **FLOAT64)

    def use(self, h: Tensor) -> Tensor:
        heads = h.unsqueeze(1)
        return self.attention(heads, heads, heads)[0].squeeze(1)


class Vectorized(Own):
    def use(self, h: Tensor) -> Tensor:
        return torch.func.vmap(lambda w: h @ w)(self.own).t() @ self.own


class Energy(Own):
    """A step down the gradient of an energy."""

    def use(self, h: Tensor) -> Tensor:
        with torch.enable_grad():
            y = h.detach().requires_grad_()
            (slope,) = torch.autograd.grad((y @ self.own).pow(2).sum(), y, create_graph=True)
        return h - 0.1 * slope


class InPlace(Own):
    def use(self, h: Tensor) -> Tensor:
        y = torch.zeros_like(h)
        y[:, :2] = (h @ self.own)[:, :2]
        y[:, 2:] = h[:, 2:]
        return y.add_(h).clone()


class Checkpointed(Own):
    def use(self, h: Tensor) -> Tensor:
        return checkpoint(lambda h: h @ self.own, h, use_reentrant=False)


class Watched(Own):
    """It keeps statistics and what it last computed, and computes with neither."""

    def setup(self) -> None:
        self.register_buffer("mean", torch.zeros(HIDDEN, **FLOAT64))
        self.last: Tensor | None = None

    def use(self, h: Tensor) -> Tensor:
        self.last = h @ self.own
        with torch.no_grad():
            self.mean = 0.9 * self.mean + 0.1 * self.last.mean(0)
        return self.last


ORDINARY = (Listed, Recurrent, Attends, Vectorized, Energy, InPlace, Checkpointed, Watched)
own_cases = cases.filter(lambda case: case.cell == "own")


@pytest.mark.parametrize("kind", ORDINARY)
@given(case=own_cases)
@settings(max_examples=4, deadline=None, derandomize=True)
def test_ordinary_modules_are_not_refused(kind: type[Own], case: Case) -> None:
    layer, plain = (
        make(cell=[kind(size) for size in (INPUT, HIDDEN)[: case.num_layers]]) for make in (case.layer, case.plain)
    )
    assert_same_gradients(trained(layer, chunks(inputs(), case.size)), trained(plain, [inputs()]))


class Kept(Own):
    """It computes a weight at the first step of a call, and keeps it."""

    def setup(self) -> None:
        self.weight: Tensor | None = None

    def use(self, h: Tensor) -> Tensor:
        if self.weight is None:
            self.weight = torch.tanh(self.own)
        return h @ self.weight


@pytest.mark.parametrize("size", [1, 5, 12])
@pytest.mark.parametrize("engine", ["replay", "autograd"])
def test_what_a_module_keeps_between_steps_is_refused_where_it_is_replayed(engine: str, size: int) -> None:
    def train(**options: Any) -> None:
        cell = Kept(INPUT)
        layer = Case("reference", engine, 1, 2, "own", False, 5).layer(cell=cell, **options)

        def call(x: Tensor, state: Any) -> Any:
            cell.weight = None
            return layer(x, state)

        trained(call, chunks(inputs(), size), layer)

    if engine == "autograd":
        train(horizon=0)
        if size == len(inputs()):
            return train()
    with pytest.raises(ValueError, match=r"cell \(Kept\) keeps a tensor of shape \(4, 4\) from one step to the next"):
        train()
    return None
