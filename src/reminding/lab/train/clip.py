"""Gradient clipping with a bound that follows the gradient's usual size."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

DECAY = 0.98
FACTOR = 2.0


class GradientClipper:
    """Scales gradients down to a bound on their norm.

    With `adaptive`, the bound is twice the running mean of the clipped norm, never above `clip`. A plain
    bound of 1 lets a spike of 1e6 through as a step thirty times what Adam is used to on a plateau where
    norms are 0.03; the adaptive one does not.

    Args:
        clip: largest bound; 0: gradients are left alone.
        adaptive: whether the bound follows the norms.
    """

    def __init__(self, clip: float, adaptive: bool = True) -> None:
        self.clip = clip
        self.adaptive = adaptive
        self.mean: float | None = None

    @property
    def bound(self) -> float:
        """What the next norm is held to; infinite without clipping."""
        if self.clip == 0:
            return math.inf
        if not self.adaptive or self.mean is None:
            return self.clip
        return min(self.clip, FACTOR * self.mean)

    def __call__(self, parameters: Iterable[nn.Parameter]) -> float:
        """Clip in place.

        Returns:
            the norm before clipping, over all parameters; where it is not finite nothing is changed.
        """
        held = [parameter for parameter in parameters if parameter.grad is not None]
        total = torch.nn.utils.get_total_norm([parameter.grad for parameter in held if parameter.grad is not None])
        norm = float(total)
        if not math.isfinite(norm) or self.clip == 0:
            return norm
        bound = self.bound
        torch.nn.utils.clip_grads_with_norm_(held, bound, total)
        clipped = min(norm, bound)
        self.mean = clipped if self.mean is None else DECAY * self.mean + (1 - DECAY) * clipped
        return norm
