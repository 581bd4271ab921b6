"""How far each backend may be from the oracle: one table for all tests."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCE: dict[tuple[str, torch.dtype], float] = {
    ("reference", torch.float64): 1e-9,
    ("reference", torch.float32): 1e-3,
    ("reference", torch.bfloat16): 5e-2,
    # Computed in float32 from rounded inputs: the error is the rounding of the results and of the loss's gradient.
    ("cuda", torch.float32): 1e-3,
    ("cuda", torch.bfloat16): 1e-2,
    ("cuda", torch.float16): 2e-3,
}


def assert_equal(got: Tensor, want: Tensor, what: str, backend: str = "reference", floor: float = 1e-3) -> None:
    """The largest difference, relative to the largest wanted number, is within the tolerance for the type of `got`.

    Numbers below `floor` count as 0, since some gradients are exactly zero and hold only rounding errors.
    """
    assert got.shape == want.shape, f"{what}: shape {tuple(got.shape)}, wanted {tuple(want.shape)}"
    if want.numel() == 0:
        return
    scale = max(float(want.detach().abs().max()), floor)
    error = float((got.detach().double() - want.detach().double()).abs().max()) / scale
    limit = TOLERANCE[backend, got.dtype]
    assert error <= limit, f"{what}: off by {error:.1e} of its size, allowed {limit:.0e}"
