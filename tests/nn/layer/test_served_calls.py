"""Calls without gradient that go on from a state: in the same slots, also with an encoder and where streams begin.

Shapes: B batch, T time, I input.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reminding import SABState
from tests.nn.samples import assert_same_state, draw, make, needs_op
from tests.tolerance import assert_equal

pytestmark = needs_op

ROWS = 3
RELEASE: dict[str, Any] = {"semantics": "release", "k_top": 3}
KINDS: dict[str, dict[str, Any]] = {
    "all": {"k_top": 2},
    "fifo": {"k_top": 2, "capacity": 3},
    "least recalled": {"k_top": 2, "capacity": 3, "evict": "least_recalled"},
    "release": RELEASE,
    "release fifo": {**RELEASE, "capacity": 3},
    "two layers": {"k_top": 2, "num_layers": 2},
    "tree": {"k_top": 2, "search": "tree"},
}


def slots_of(state: SABState) -> int:
    """Where the slots of a state's first layer lie."""
    kept = state.layers[0].memory.kept
    assert kept is not None, "the state is of a call on slots"
    return kept.slots.value.data_ptr()


@torch.no_grad()
def test_a_call_with_a_reset_goes_on_in_the_same_slots() -> None:
    layer = make(k_top=2, k_att=1)
    _, state = layer(draw(5, ROWS, 3))
    _, state = layer(draw(1, ROWS, 3), state)
    place = slots_of(state)
    _, state = layer(draw(1, ROWS, 3), state, reset=torch.tensor([True, False, True]))
    assert slots_of(state) == place
    assert state.step.tolist() == [1, 7, 1]


@torch.no_grad()
def test_a_layer_that_was_served_follows_another_backend() -> None:
    layer = make(k_top=2, k_att=1)
    _, state = layer(draw(5, ROWS, 3))
    _, state = layer(draw(1, ROWS, 3), state)
    slots_of(state)
    layer.backend = "reference"
    _, state = layer(draw(1, ROWS, 3), state)
    assert state.layers[0].memory.kept is None
    layer.backend = "auto"
    _, state = layer(draw(1, ROWS, 3), state)
    slots_of(state)


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
@torch.no_grad()
def test_the_state_before_a_reset_stays_as_it_is(options: dict[str, Any]) -> None:
    """Both go on from it: the call with a reset, and one without."""
    layer, mask = make(k_att=1, **options), torch.tensor([True, False, True])
    _, before = layer(draw(7, ROWS, 3))
    _, before = layer(draw(1, ROWS, 3), before)
    wanted, x = before.clone(), draw(20, ROWS, 3)
    _, other = layer(x[:1], before, reset=mask)
    for x_t in x[1:]:
        _, other = layer(x_t.unsqueeze(0), other)
    assert_same_state(before, wanted)
    _, alone = layer(x, wanted.reset(mask))
    assert_same_state(other, alone)
    output, after = layer(x[:4], before)
    again, wanted_after = layer(x[:4], wanted)
    assert_equal(output, again, "output")
    assert_same_state(after, wanted_after)


@torch.no_grad()
def test_a_served_state_with_more_memories_than_another_layer_may_hold_is_refused() -> None:
    layer, smaller = (make(k_top=2, k_att=1, capacity=capacity) for capacity in (None, 3))
    _, state = layer(draw(5, ROWS, 3))
    _, state = layer(draw(1, ROWS, 3), state)
    slots_of(state)
    with pytest.raises(ValueError, match="state holds 6 memories a row, more than the layer's capacity=3"):
        smaller(draw(1, ROWS, 3), state)


class Counting(nn.Embedding):
    """Counts how often it is called."""

    calls = 0

    def forward(self, input: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(input)


@pytest.mark.parametrize("steps", [0, 1, 40])
@torch.no_grad()
def test_an_encoder_runs_once_a_call(steps: int) -> None:
    encoder = Counting(7, 3, dtype=torch.float64)
    layer = make(k_top=2, k_att=1, encoder=encoder)
    ids = torch.randint(0, 7, (6 + steps, ROWS), generator=torch.Generator().manual_seed(0))
    whole, end = layer(ids)
    output, state = layer(ids[:6])
    encoder.calls = 0
    rest, after = layer(ids[6:], state)
    assert encoder.calls == 1
    assert_equal(torch.cat([output, rest]), whole, "output")
    assert_same_state(after, end)


@torch.no_grad()
def test_a_call_with_an_encoder_goes_on_in_the_same_slots() -> None:
    layer = make(k_top=2, k_att=1, encoder=nn.Embedding(7, 3, dtype=torch.float64))
    ids = torch.randint(0, 7, (8, ROWS), generator=torch.Generator().manual_seed(0))
    _, state = layer(ids[:5])
    _, state = layer(ids[5:6], state)
    place = slots_of(state)
    _, state = layer(ids[6:7], state)
    assert slots_of(state) == place
