"""States with one changed entry: a call that is given one names the entry, on every way through the layer.

Files are checked when they are loaded; these are states that a program has changed in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding import SABState
from tests.nn.samples import BUILT, draw, first_is, make

Change = Callable[[Tensor], Tensor]
MEMORY = r"state\.layers\[1\]\.memory\."


def row_short(tensor: Tensor) -> Tensor:
    return tensor[:-1]


def turned(tensor: Tensor) -> Tensor:
    return tensor.flip(1)


DAMAGES: dict[str, tuple[str, Change, str]] = {
    "count -1": ("count", first_is(-1), MEMORY + "count must be at least 0"),
    "count beyond": ("count", first_is(10**9), MEMORY + "count must be at least 0 and at most"),
    "count int32": ("count", Tensor.int, MEMORY + "count must be int64"),
    "count a row short": ("count", row_short, MEMORY + "count must be int64 of shape"),
    "memory step int32": ("memory_step", Tensor.int, MEMORY + "step must be torch.int64"),
    "memory step a row short": ("memory_step", row_short, MEMORY + "step must be"),
    "memory step backwards": ("memory_step", turned, MEMORY + "step must ascend"),
    "value float32": ("value", Tensor.float, MEMORY + "value must be torch.float64"),
    "value a row short": ("value", row_short, MEMORY + "value must be"),
    "weight float32": ("weight", Tensor.float, MEMORY + "weight must be torch.float64"),
    "h float32": ("h", Tensor.float, r"state must be torch\.float64.*torch\.float32.*of layer 1"),
    "h a row short": ("h", row_short, r"state must have h and c of shapes .* in layer 1"),
    "c float32": ("c", Tensor.float, r"state must be torch\.float64.*torch\.float32.*of layer 1"),
    "c a row short": ("c", row_short, r"state must have h and c of shapes .* in layer 1"),
    "step int32": ("step", Tensor.int, r"state\.step must be int64"),
    "step -1": ("step", first_is(-1), r"state\.step must be at least 0"),
}


def damaged(state: SABState, entry: str, change: Change) -> SABState:
    """The state with one entry of its second layer, or its step, changed."""
    if entry == "step":
        return replace(state, step=change(state.step))
    layer = state.layers[1]
    if entry == "h":
        layer = replace(layer, h=change(layer.h))
    elif entry == "c":
        layer = replace(layer, cell_state=(change(layer.cell_state[0]),))
    else:
        memory = layer.memory
        parts = {name: getattr(memory, name) for name in ("value", "step", "weight", "count")}
        name = "step" if entry == "memory_step" else entry
        layer = replace(layer, memory=type(memory)(**{**parts, name: change(parts[name])}))
    return replace(state, layers=(state.layers[0], layer))


@pytest.mark.parametrize("backend", BUILT)
@pytest.mark.parametrize("way", ["training", "no gradient", "a step", "stepper"])
@pytest.mark.parametrize("name", DAMAGES)
def test_a_call_names_the_entry(backend: str, way: str, name: str) -> None:
    entry, change, message = DAMAGES[name]
    options: dict[str, Any] = {"k_top": 2, "k_att": 1, "k_trunc": 3, "num_layers": 2, "backend": backend}
    layer = make(**options)
    with torch.set_grad_enabled(way == "training"):
        _, state = layer(draw(5, 3, 3))
        _, state = layer(draw(1, 3, 3), state)  # without gradient, from here on in slots
        x = draw(1 if way == "a step" else 4, 3, 3)
        layer(x, state)
        with pytest.raises(ValueError, match=message):
            layer.stepper(damaged(state, entry, change)) if way == "stepper" else layer(
                x, damaged(state, entry, change)
            )


@pytest.mark.parametrize("backend", BUILT)
@pytest.mark.parametrize("entry", ["step", "count"])
def test_a_change_in_place_is_seen_too(backend: str, entry: str) -> None:
    layer = make(k_top=2, k_att=1, k_trunc=3, num_layers=2, backend=backend)
    _, state = layer(draw(5, 3, 3))
    layer(draw(4, 3, 3), state)
    tensor = getattr(state.layers[1].memory, entry)
    tensor.copy_(tensor.flip(1) if entry == "step" else torch.full_like(tensor, -1))
    with pytest.raises(ValueError, match=MEMORY + entry):
        layer(draw(4, 3, 3), state)
