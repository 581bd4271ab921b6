"""The ways to compute the same layer (backend, engine, cell, chunks), and the gradients from each.

The right gradient is that of one call in plain PyTorch with its graph kept. Every other way must equal it.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from reminding import SAB, SABState
from tests.nn.samples import BUILT, assert_same_gradients, chunks, draw, make

INPUT, HIDDEN, STEPS, ROWS = 3, 4, 12, 3

WEIGHT = draw(512, ROWS, HIDDEN, seed=5)
"""The factors by which a loss multiplies the output of each step, (T, B, H)."""

WAYS: dict[str, dict[str, Any]] = {
    f"{backend} {engine}": {"backend": backend, "engine": engine}
    for backend in BUILT
    for engine in ("autograd", "replay")
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
both_depths = pytest.mark.parametrize("num_layers", [1, 2])


@dataclass(frozen=True)
class Case:
    """One way to compute something.

    Attributes:
        cell: "lstm", "gru", or "own" for a user's module; encoder: whether the layer has one.
        size: the number of steps per chunk; each chunk has its own backward pass.
    """

    backend: str
    engine: str
    num_layers: int
    k_top: int | None
    cell: str
    encoder: bool
    size: int

    def layer(self, **options: Any) -> SAB:
        """The layer."""
        return self._make({"backend": self.backend, "engine": self.engine, **options})

    def plain(self, **options: Any) -> SAB:
        """The same layer in plain PyTorch."""
        return self._make({"backend": "reference", "engine": "autograd", **options})

    def _make(self, options: dict[str, Any]) -> SAB:
        own = [nn.LSTMCell(HIDDEN if layer else INPUT, HIDDEN) for layer in range(self.num_layers)]
        settings: dict[str, Any] = {
            "k_top": self.k_top,
            "k_att": 2,
            "k_trunc": 5,
            "cell": own if self.cell == "own" else self.cell,
            "encoder": nn.Linear(INPUT, INPUT, dtype=torch.float64) if self.encoder else None,
        }
        return make(INPUT, HIDDEN, self.num_layers, **(settings | options))


def _possible(case: Case) -> bool:
    return case.cell != "own" or case.backend == "reference"


cases = st.builds(
    Case,
    backend=st.sampled_from(BUILT[::-1]),
    engine=st.sampled_from(["replay", "autograd"]),
    num_layers=st.sampled_from([1, 2]),
    k_top=st.sampled_from([2, 0, None]),
    cell=st.sampled_from(["lstm", "gru", "own"]),
    encoder=st.booleans(),
    size=st.sampled_from([5, 1, 7, STEPS]),
).filter(_possible)
"""Every combination that exists."""


def inputs(steps: int = STEPS, rows: int = ROWS, seed: int = 1) -> Tensor:
    """(T, B, I)."""
    return draw(steps, rows, INPUT, seed=seed)


def loss_of(output: Tensor, start: int = 0) -> Tensor:
    """A loss that depends on every output, differently at each step of the stream."""
    weight = WEIGHT[start : start + len(output), : output.shape[1]]
    return (output * weight.to(output.dtype)).sum() + output.pow(2).sum()


def gathered(module: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter's gradient, zeros if it has none."""
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in module.named_parameters()
    }


def trained(layer: Callable[..., Any], pieces: Sequence[Tensor], of: nn.Module | None = None) -> dict[str, Tensor]:
    """The sum of the gradients of a backward pass after each piece of a stream, by default of the layer itself."""
    module = cast("nn.Module", layer) if of is None else of
    module.zero_grad()
    state: SABState | None = None
    start = 0
    for piece in pieces:
        output, state = layer(piece, state)
        loss_of(output, start).backward()
        start += len(piece)
    return gathered(module)


def check_chunks(case: Case, change: Callable[[SAB], object] = lambda layer: None, **options: Any) -> None:
    """The chunks of a layer give the gradients of one call in plain PyTorch, after the same change to both layers."""
    layer, plain = case.layer(**options), case.plain(**options)
    for each in (layer, plain):
        change(each)
    want = trained(plain, [inputs()])
    assert any(bool((gradient != 0).any()) for gradient in want.values())
    assert_same_gradients(trained(layer, chunks(inputs(), case.size)), want)
