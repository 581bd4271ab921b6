"""Gradient clipping with a bound that follows the usual gradient norm."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

DECAY = 0.98
"""Of the running mean, per update."""
FACTOR = 2.0
"""The adaptive bound, times the running mean."""
FAILURES = 10
"""Gradients in a row that are not finite, with which training gives up: the fault is not in a single batch."""


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
            the norm before clipping, over all parameters; if it is not finite, nothing is changed. With clipping, the
            norm is finite as long as the gradient is, even if its squares are too large for its type.
        """
        trained = [parameter for parameter in parameters if parameter.grad is not None]
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        total = torch.nn.utils.get_total_norm(gradients)
        norm, bound = float(total), self.bound
        if self.clip == 0:
            return norm
        if math.isinf(norm):
            norm = _clip_huge(gradients, bound)
        elif math.isfinite(norm):
            torch.nn.utils.clip_grads_with_norm_(trained, bound, total)
        if math.isfinite(norm) and norm > 0:  # a batch without targets says nothing of the usual norm
            clipped = min(norm, bound)
            self.mean = clipped if self.mean is None else DECAY * self.mean + (1 - DECAY) * clipped
        return norm


def _clip_huge(gradients: Sequence[Tensor], bound: float) -> float:
    """Clip gradients whose squares overflow; returns their norm. If some are infinite, nothing is changed."""
    largest = max(float(each.abs().max()) for each in gradients if each.numel())
    if math.isinf(largest):
        return largest
    relative = float(torch.nn.utils.get_total_norm([each / largest for each in gradients]))
    norm = largest * relative
    if norm > bound:
        for each in gradients:
            each.div_(largest).mul_(bound / relative)
    return norm
