"""What the ops share to lay out their arguments.

Shapes: H hidden, G gate width.
"""

from __future__ import annotations

import pytest
import torch

from reminding.ops.contract import OpRule, gate_width, joint_bias, split_bias
from tests.nn.samples import CELLS, draw


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("given", ["both", "input", "hidden", "none"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_joint_bias_is_of_the_type_of_the_state(cell: str, given: str, kind: torch.dtype) -> None:
    """Biases in half precision are added in float32, so that their sum is not rounded."""
    H, rule = 4, OpRule.of(cell=cell, score="additive", k_top=1)
    width = H * {"lstm": 4, "gru": 3, "rnn": 1}[cell]
    bias_ih, bias_hh = (draw(width, seed=seed).to(kind) for seed in (1, 2))
    made = joint_bias(
        bias_ih if given in ("both", "input") else None,
        bias_hh if given in ("both", "hidden") else None,
        torch.zeros(gate_width(H, rule), H),
        rule,
    )
    first, second = bias_ih.float() * (given in ("both", "input")), bias_hh.float() * (given in ("both", "hidden"))
    wanted = first + second
    if cell == "gru":
        wanted = torch.cat([first[: 2 * H] + second[: 2 * H], first[2 * H :], second[2 * H :]])
    torch.testing.assert_close(made, wanted, rtol=0, atol=0)
    assert [len(share) for share in split_bias(made, rule)] == [width, width]
