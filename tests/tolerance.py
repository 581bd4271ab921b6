"""How far each way of computing may be from the oracle: one table for every test."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE: dict[tuple[str, torch.dtype], float] = {
    ("reference", torch.float64): 1e-9,
    ("reference", torch.float32): 1e-3,
    ("reference", torch.bfloat16): 5e-2,
    # Computed in float32 of what came in: off by the rounding of what goes out, and of the loss's own gradient.
    ("cuda", torch.float32): 1e-3,
    ("cuda", torch.bfloat16): 1e-2,
    ("cuda", torch.float16): 2e-3,
}


def assert_equal(got: Tensor, want: Tensor, what: str, backend: str = "reference", floor: float = 1e-3) -> None:
    """Largest difference, relative to the largest number wanted, within the table's tolerance for got's type.

    `floor` is the size below which a number counts as 0: some gradients vanish identically and hold rounding only.
    """
    assert got.shape == want.shape, f"{what}: shape {tuple(got.shape)}, wanted {tuple(want.shape)}"
    if want.numel() == 0:
        return
    scale = max(float(want.detach().abs().max()), floor)
    error = float((got.detach().double() - want.detach().double()).abs().max()) / scale
    limit = TOLERANCE[backend, got.dtype]
    assert error <= limit, f"{what}: off by {error:.1e} of its size, allowed {limit:.0e}"
