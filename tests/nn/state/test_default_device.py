"""What a state counts, it counts on the host, whatever the default device of tensors is."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reminding import SAB, SABState
from reminding.nn.state.merging import merge_states
from tests.nn.samples import draw

MASK, INDEX = torch.tensor([False, True]), torch.tensor([1, 0])


def _saved(state: SABState, folder: Path) -> SABState:
    state.save(folder / "state.safetensors")
    return SABState.load(folder / "state.safetensors")


def _looked_at(state: SABState, _: Path) -> SABState:
    state.check()
    assert state.nbytes > 0
    assert len(state.past.segments) > 0
    return state


WAYS: dict[str, Callable[[SABState, Path], SABState]] = {
    "reset": lambda state, _: state.reset(MASK),
    "reset by a list": lambda state, _: state.reset([True, False]),
    "rows": lambda state, _: state.rows(INDEX),
    "saved": _saved,
    "looked at": _looked_at,
    "pickled": lambda state, _: pickle.loads(pickle.dumps(state.without_graph())),
    "merged": lambda state, _: merge_states([state.detach().rows(slice(0, 1)), state.detach().rows(slice(1, 2))]),
    "cloned": lambda state, _: state.clone(),
    "copied": lambda state, _: copy.deepcopy(state),
    "moved": lambda state, _: state.to(torch.float32).to(torch.float64),
}
LAYERS: dict[str, dict[str, Any]] = {
    "credit at once": {},
    "credit that waits": {"credit_every": 5},
    "two layers": {"num_layers": 2, "capacity": 2},
    "release": {"semantics": "release"},
    "encoder": {"encoder": nn.Linear(3, 3, dtype=torch.float64)},
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("way", WAYS)
def test_a_state_goes_on_as_on_the_host(way: str, name: str, tmp_path: Path) -> None:
    found: list[Tensor] = []
    for device in ("cpu", "meta"):
        torch.manual_seed(0)
        layer = SAB(3, 4, k_top=2, k_att=2, k_trunc=4, dtype=torch.float64, **LAYERS[name])
        state: Any = None
        for number in range(2):
            output, state = layer(draw(4, 2, 3, seed=number), state, reset=MASK if number else None)
            output.sum().backward()
        with torch.device(device):
            state = WAYS[way](state, tmp_path)
        output, state = layer(draw(4, 2, 3, seed=5), state)
        output.sum().backward()
        layer.settle(state)
        gradients = [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]
        found.append(torch.cat([state.h.flatten(), *(gradient.flatten() for gradient in gradients)]))
        layer.zero_grad()
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)
