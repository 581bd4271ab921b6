"""Encoders that make steps of an input without an axis of as many: samples of audio, or fewer steps than they make.

Shapes: B batch, C channels, S samples, T time, I input.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reminding import SAB, SABState
from tests.nn.samples import BUILT, added, assert_same_gradients, draw, gradients, make


class Audio(nn.Module):
    """Samples (B, C, S) to features (B, T, I), four samples a step."""

    def __init__(self, samples: int = 4) -> None:
        super().__init__()
        self.filters = nn.Conv1d(2, 3, samples, stride=samples, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.filters(x)).transpose(1, 2)


class Repeats(nn.Linear):
    """(T, B, I) to (3 T, B, I)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).repeat_interleave(3, 0)


ENDS: dict[str, tuple[dict[str, Any], tuple[int, ...], int]] = {
    "audio": ({"encoder": Audio(), "batch_first": True}, (3, 2, 36), 2),
    "repeats": ({"encoder": Repeats(3, 3, dtype=torch.float64)}, (4, 3, 3), 0),
}
"""The layer, the shape of a chunk of its input, and the axis of time in it."""


def front_end(name: str, **options: Any) -> SAB:
    return make(k_top=2, k_att=2, k_trunc=5, **ENDS[name][0], **options)


@pytest.mark.parametrize("credit_every", [1, 2])
@pytest.mark.parametrize("backend", BUILT)
@pytest.mark.parametrize("name", ENDS)
def test_a_state_from_a_file_sends_credit_through_its_front_end(
    name: str, backend: str, credit_every: int, tmp_path: Path
) -> None:
    layer = front_end(name, backend=backend, credit_every=credit_every)
    _, shape, axis = ENDS[name]
    parts = [draw(*shape, seed=seed) for seed in range(4)]
    plain = front_end(name, backend="reference", engine="autograd")
    want = gradients(plain, plain(torch.cat(parts, axis))[0].sum())
    total: dict[str, Tensor] = {}
    state: Any = None
    for x in parts:
        output, state = layer(x, state)
        total = added(total, gradients(layer, output.sum()))
        state.save(tmp_path / "state")
        state = SABState.load(tmp_path / "state")
    layer.zero_grad()
    layer.settle(state)
    settled = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in layer.named_parameters()}
    assert_same_gradients(added(total, settled), want)


@pytest.mark.parametrize("backend", BUILT)
def test_a_front_end_that_makes_fewer_steps_than_it_made_is_told(backend: str) -> None:
    layer = front_end("audio", backend=backend)
    _, state = layer(draw(3, 2, 36))
    other = make(k_top=2, k_att=2, k_trunc=5, encoder=Audio(12), batch_first=True, backend=backend)
    output, _ = other(draw(3, 2, 36), state.without_graph())
    with pytest.raises(ValueError, match=r"encoder\(input\) must have 9 steps and 3 rows or more, .* got 3 and 3"):
        output.sum().backward()
