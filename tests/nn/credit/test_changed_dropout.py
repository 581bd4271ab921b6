"""Dropout between layers that changes from call to call: past calls are run again as they ran.

Shapes: T time, B batch, H hidden.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from reminding import SAB, SABState
from tests.nn.pytorch.ways import HIDDEN, INPUT, STEPS, every_way, gathered, inputs, loss_of
from tests.nn.samples import assert_same_gradients, chunks, make

RATES = (0.0, 0.5, 0.2, 1.0, 0.2, 0.0)
"""Of dropout in each call of a stream, two steps each; 0 is evaluation."""
OPTIONS: dict[str, Any] = {"k_top": 2, "k_att": 2}
SIZE = STEPS // len(RATES)


def stream(layer: SAB, path: Path | None = None) -> tuple[dict[str, Tensor], Tensor]:
    """The gradients of the calls, each with a backward pass, and by what dropout multiplied, (T, B, H)."""
    drawn: list[Tensor] = []
    draw = torch.rand_like

    def recorded(like: Tensor, **options: Any) -> Tensor:
        drawn.append(draw(like, **options))
        return drawn[-1]

    torch.manual_seed(3)
    state: Any = None
    factors: list[Tensor] = []
    with mock.patch.object(torch, "rand_like", recorded):
        for number, (rate, x) in enumerate(zip(RATES, chunks(inputs(), SIZE), strict=True)):
            layer.train(rate > 0)
            layer.dropout = rate or layer.dropout
            output, state = layer(x, state)
            loss_of(output, SIZE * number).backward()
            kept = (drawn.pop() >= rate) / (1 - rate if rate < 1 else 1) if rate else torch.ones(*x.shape[:2], HIDDEN)
            factors.append(kept)
            if path is not None:
                state.save(path)
                state = SABState.load(path)
    layer.settle(state)
    return gathered(layer), torch.cat(factors)


def whole(layer: SAB, factor: Tensor) -> dict[str, Tensor]:
    """The gradients of one call in plain PyTorch, of two layers with a product between them."""
    plain: dict[str, Any] = {"backend": "reference", "engine": "autograd", "k_trunc": layer.k_trunc, **OPTIONS}
    layers = [make(INPUT, HIDDEN, **plain), make(HIDDEN, HIDDEN, **plain)]
    for number, single in enumerate(layers):
        suffix = f"_l{number}"
        own = {name: part for name, part in layer.state_dict().items() if name.endswith(suffix)}
        single.load_state_dict({name.replace(suffix, "_l0"): part for name, part in own.items()})
    between, _ = layers[0](inputs())
    loss_of(layers[1](between * factor)[0]).backward()
    return {
        name.replace("_l0", f"_l{number}"): gradient
        for number, single in enumerate(layers)
        for name, gradient in gathered(single).items()
    }


@every_way
@pytest.mark.parametrize("k_trunc", [SIZE, 5, None])
@pytest.mark.parametrize("credit_every", [1, 3])
def test_past_calls_are_run_again_with_the_dropout_that_they_had(
    way: dict[str, Any], k_trunc: int | None, credit_every: int
) -> None:
    layer = make(INPUT, HIDDEN, 2, dropout=0.5, k_trunc=k_trunc, credit_every=credit_every, **OPTIONS, **way)
    got, factor = stream(layer)
    assert_same_gradients(got, whole(layer, factor))


def test_a_file_keeps_the_dropout_of_past_calls(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    layer = make(INPUT, HIDDEN, 2, dropout=0.5, k_trunc=5, **OPTIONS)
    got, factor = stream(layer, tmp_path / "state.safetensors")
    assert_same_gradients(got, whole(layer, factor))
