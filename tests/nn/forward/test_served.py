"""Calls without gradient that go on from memories in slots, in whatever mode the calls before them were."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch

from reminding import SAB
from tests.nn.samples import draw, make, needs_op
from tests.tolerance import assert_equal

LAYERS: dict[str, dict[str, Any]] = {
    "a memory a step": {"k_att": 1},
    "full": {"k_att": 1, "capacity": 8},
    "least recalled goes": {"k_att": 1, "capacity": 4, "evict": "least_recalled"},
    "release": {"k_att": 1, "semantics": "release"},
    "no memory": {"k_top": 0},
}


def served(layer: SAB, modes: list[AbstractContextManager[Any]], steps: int) -> torch.Tensor:
    """The outputs of a stream, a step a call, in the two modes by turns of some steps; a row begins anew in each."""
    state: Any = None
    outputs: list[torch.Tensor] = []
    for number in range(4 * steps):
        reset = torch.tensor([number % steps == 0, False, False])
        with modes[number // steps % 2]:
            output, state = layer(draw(1, 3, 3, seed=number), state, reset=reset if reset.any() else None)
        outputs.append(output.clone())
    return torch.cat(outputs)


@needs_op
@pytest.mark.parametrize("steps", [2, 30, 60])
@pytest.mark.parametrize("name", LAYERS)
def test_a_row_begins_anew_in_another_mode_than_the_stream_had(name: str, steps: int) -> None:
    layer = make(3, 4, **{"k_top": 2, "k_trunc": 5, **LAYERS[name]})
    want = served(layer, [torch.no_grad(), torch.no_grad()], steps)
    assert_equal(served(layer, [torch.inference_mode(), torch.no_grad()], steps), want, "output")
    assert_equal(served(layer, [torch.no_grad(), torch.inference_mode()], steps), want, "output")
