"""A stepper and served calls follow what becomes of their layer: its weights, however they are edited, and its type.

Shapes: T time, B batch, H hidden.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from tests.nn.samples import draw, make
from tests.tolerance import assert_equal


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"k_top": 0}, {"k_top": None}], ids=str)
def test_a_layer_may_change_its_type(kind: torch.dtype, options: dict[str, Any]) -> None:
    layer, x = make(**{"k_top": 2, "k_att": 1, **options}, dtype=torch.float32), draw(8, 2, 3, dtype=torch.float32)
    step = layer.stepper()
    for x_t in x[:4]:
        step(x_t)
    layer.to(kind)
    want, _ = layer(x[4:].to(kind), step.state.to(kind))
    found = torch.stack([step(x_t.to(kind)) for x_t in x[4:]])
    torch.testing.assert_close(found, want)


@pytest.mark.parametrize("size", [16, 128])
def test_an_edit_of_one_row_or_column_through_data_is_used_from_the_next_step_on(size: int) -> None:
    """Nothing but the numbers tells it: version, object and place stay."""
    layer, x = make(8, size, k_top=2, k_att=2).eval(), draw(60, 1, 8)
    step, state = layer.stepper(), layer(x[:1])[1].detach()
    step(x[0])
    for t, x_t in enumerate(x[1:]):
        if t >= 20:
            weights = layer.get_parameter("weight_hh_l0").data
            (weights[:, t % size] if t % 2 else weights[t % (4 * size)]).zero_()
        with torch.no_grad():
            want = copy.deepcopy(layer)(x_t.unsqueeze(0), state.detach())[0][0]
            called, state = layer(x_t.unsqueeze(0), state)
            assert_equal(step(x_t), want, f"step {t} of a stepper")
            assert_equal(called[0], want, f"step {t}, called")
