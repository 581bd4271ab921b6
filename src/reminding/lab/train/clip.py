"""Gradient clipping with a bound that follows the usual gradient norm."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

DECAY = 0.98
"""Of the running mean, per update."""
FACTOR = 2.0
"""The adaptive bound, times the running mean."""


class GradientClipper:
    """Scales gradients down so that their norm stays within a bound.

    With `adaptive`, the bound is twice the running mean of the clipped norm, at most `clip`. On a plateau with norms
    of 0.03 a fixed bound of 1 lets a spike of 1e6 pass as a gradient thirty times the usual one; the adaptive bound
    does not.

    Args:
        clip: largest bound; 0: no clipping.
        adaptive: whether the bound follows the norms.
    """

    def __init__(self, clip: float, adaptive: bool = True) -> None:
        self.clip = clip
        self.adaptive = adaptive
        self.mean: float | None = None

    @property
    def bound(self) -> float:
        """The bound on the next norm; infinite without clipping."""
        if self.clip == 0:
            return math.inf
        if not self.adaptive or self.mean is None:
            return self.clip
        return min(self.clip, FACTOR * self.mean)

    def __call__(self, parameters: Iterable[nn.Parameter]) -> float:
        """Clip in place.

        Returns:
            the norm before clipping, over all parameters; if it is not finite, nothing is changed.
        """
        trained = [parameter for parameter in parameters if parameter.grad is not None]
        total = torch.nn.utils.get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
        norm = float(total)
        if not math.isfinite(norm) or self.clip == 0:
            return norm
        bound = self.bound
        torch.nn.utils.clip_grads_with_norm_(trained, bound, total)
        clipped = min(norm, bound)
        self.mean = clipped if self.mean is None else DECAY * self.mean + (1 - DECAY) * clipped
        return norm
