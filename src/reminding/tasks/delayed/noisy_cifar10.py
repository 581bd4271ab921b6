"""Noise-padded CIFAR10: the rows of an image, then noise, and the class at the end.

Shapes: N examples, B batch, T = 1,000 steps, I = 96 values per step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from reminding.checks import at_least
from reminding.tasks.cifar10 import CLASSES, COLOURS, PEAK, SIDE, splits
from reminding.tasks.data.download import locate_or_fetch
from reminding.tasks.kinds.base import Batch, Split
from reminding.tasks.kinds.classification import Classification

NOISE_SEED = 1905
"""Seed of the noise, which is the same for every image and run."""


@dataclass(frozen=True)
class NoisyImages:
    """One split.

    Args:
        planes: (N, 3072) uint8: red, green and blue of all pixels, each in row order.
        label: (N,) int64.
        noise: (T - 32, 96) float32, the same behind every image.
    """

    planes: Tensor
    label: Tensor
    noise: Tensor

    def batch(self, rows: Tensor) -> Batch:
        """Return the examples at `rows` (B,): input (T, B, 96), target (B,)."""
        planes = self.planes[rows].view(-1, COLOURS, SIDE, SIDE)  # (B, 3, 32, 32)
        shown = planes.permute(2, 0, 1, 3).flatten(2).float() / PEAK  # (32, B, 96)
        behind = self.noise.unsqueeze(1).expand(-1, len(rows), -1)
        return Batch(torch.cat([shown, behind]), self.label[rows])


@dataclass(frozen=True)
class NoisyCIFAR10(Classification):
    """Noise-padded CIFAR10, the published protocol.   [Chang et al. 2019; Rusch & Mishra 2021]

    Input (1000, B, 96): a step shows one row of the image, 32 red values, then the green, then the blue, in [0, 1].
    After the 32 rows come 968 rows of standard normal noise, the same for every image and run. Ten classes, asked for
    at the last step, at least 968 steps after the image. The split is that of the task cifar10.

    Args:
        data_dir: as for the task cifar10.
        T: steps in all, at least 32; the published number is 1,000.
        verify: as for the task cifar10.

    Raises (when examples are asked for):
        FileNotFoundError: a file is missing and cannot be downloaded; the message lists the names tried.
        ValueError: a file is damaged or is not the official one; the message shows the difference.
    """

    name: ClassVar[str] = "noisy-cifar10"

    data_dir: Path | None = None
    T: int = 1000
    verify: bool = True

    def __post_init__(self) -> None:
        """Check the options."""
        at_least("T", self.T, SIDE)

    @property
    def input_size(self) -> int:
        """96 values per step: a row of 32 pixels in three colours."""
        return COLOURS * SIDE

    @property
    def output_size(self) -> int:
        """C = 10 classes."""
        return CLASSES

    def examples(self, split: Split) -> NoisyImages:
        """Return one split."""
        paths = tuple(locate_or_fetch("cifar10", self.data_dir).values())
        part = splits(paths, "apart", self.verify)[split]
        return NoisyImages(part.pixels, part.label, noise(self.T - SIDE))


@lru_cache(maxsize=2)
def noise(steps: int) -> Tensor:
    """The rows of noise, (steps, 96); fewer steps are the first ones of more."""
    # RandomState, unlike default_rng, is promised to draw the same in every version of numpy.
    drawn = np.random.RandomState(NOISE_SEED).standard_normal((steps, COLOURS * SIDE))
    return torch.as_tensor(drawn.astype(np.float32))
