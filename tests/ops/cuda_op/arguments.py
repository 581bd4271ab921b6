"""Arguments of the Triton operators.

Shapes: T time, B batch, I input, H hidden, D score width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reminding.ops.contract import OpRule


def arguments(
    cell: str, score: str, evict: str | None, weights: torch.dtype, replay: bool, device: str
) -> tuple[Any, ...]:
    """Arguments of the forward operator: rows at different steps; with `evict`, a full memory of one slot."""
    T, B, features, H, D = 5, 2, 3, 4, 6
    width = {"lstm": 4, "gru": 3, "rnn": 1}[cell] * H
    state = torch.float64 if weights == torch.float64 else torch.float32

    def drawn(*shape: int, dtype: torch.dtype = weights) -> Tensor:
        return torch.randn(*shape, dtype=dtype, device=device, requires_grad=True)

    keys = (drawn(D, H), drawn(D, H)) if score != "separable" else (None, None)
    sizes = {"additive": D, "separable": 2 * H}
    out = drawn(sizes[score], dtype=state) if score in sizes else None
    start = (drawn(B, H, dtype=state), drawn(B, H, dtype=state), drawn(B, 1, H, dtype=state))
    bias = drawn(H if cell == "rnn" else 4 * H, dtype=state)
    counters = (torch.tensor([1, 0], device=device), torch.tensor([2, 5], device=device))
    room: dict[str, Any] = {"capacity": 1, "evict": evict} if evict else {}
    rule = OpRule.of(cell=cell, score=score, normalizer="softmax", k_top=2, k_att=2, k_trunc=3, **room)
    received = torch.rand(B, 1, dtype=state, device=device) if evict else None
    recurrent = (drawn(width, features), drawn(width, H), bias)
    return (drawn(T, B, features), *start, *recurrent, *keys, out, *counters, received, list(rule), replay)
