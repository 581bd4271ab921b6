"""MNIST read pixel by pixel, in row order or in one fixed random order.

Shapes: N examples, T = 784 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.tasks.data.datasets import DATASETS, DataFile
from reminding.tasks.data.download import locate_or_fetch
from reminding.tasks.data.idx import parse_idx
from reminding.tasks.data.packed import check_raw, read_raw
from reminding.tasks.kinds.base import Split
from reminding.tasks.kinds.classification import Examples, PixelClassification

SIDE = 28
PIXELS = SIDE * SIDE
PEAK = 255
VALID_EXAMPLES = 5000
PERMUTATION_SEED = 180903702
"""Seed of the order in which "pmnist" reads the pixels: the arXiv number of the SAB paper."""


@dataclass(frozen=True)
class MNIST(PixelClassification):
    """Sequential MNIST.   [LeCun et al. 1998; as a sequence, Le, Jaitly & Hinton 2015]

    Input (784, B, 1) in [0, 1], ten classes. 55,000 train; the last 5,000 of the official training
    images are valid; 10,000 test.

    Args:
        data_dir: folder with the four official idx files, packed or not, or with a folder "mnist" that holds them;
            nothing is downloaded. None: REMINDING_DATA or the user's cache; missing files are downloaded and checked.
    Raises (when examples are asked for):
        FileNotFoundError: a file is missing and cannot be downloaded; the message lists the names tried.
        ValueError: a file is damaged or is not the official one; the message shows the difference.
    """

    name: ClassVar[str] = "mnist"
    side: ClassVar[int] = SIDE
    permuted: ClassVar[bool] = False

    data_dir: Path | None = None

    def examples(self, split: Split) -> Examples:
        """Return one split: pixels (N, 784), label (N,)."""
        paths = locate_or_fetch("mnist", self.data_dir)
        return _splits(tuple(paths.values()), self.permuted)[split]


@dataclass(frozen=True)
class PermutedMNIST(MNIST):
    """Permuted MNIST: `MNIST` with the pixels in one random order, the same for every image and run."""

    name: ClassVar[str] = "pmnist"
    permuted: ClassVar[bool] = True


def pixel_permutation() -> Tensor:
    """Return the order of "pmnist", (784,): step t shows pixel permutation[t] of the image."""
    # RandomState, unlike default_rng, is promised to draw the same in every version of numpy.
    return torch.as_tensor(np.random.RandomState(PERMUTATION_SEED).permutation(PIXELS))


@lru_cache(maxsize=2)
def _splits(paths: tuple[Path, ...], permuted: bool) -> dict[Split, Examples]:
    parts = [_read(file, path) for file, path in zip(DATASETS["mnist"].files, paths, strict=True)]
    train = _examples(parts[0], parts[1], permuted)
    test = _examples(parts[2], parts[3], permuted)
    cut = len(train.label) - VALID_EXAMPLES
    return {
        "train": Examples(train.pixels[:cut], train.label[:cut], PEAK),
        "valid": Examples(train.pixels[cut:], train.label[cut:], PEAK),
        "test": test,
    }


def _read(file: DataFile, path: Path) -> NDArray[np.uint8]:
    raw = read_raw(path, file.plain_name, file.raw_size)
    # The structure is checked first: "half the file" helps more than a checksum that differs.
    array = parse_idx(raw, 3 if "images" in file.name else 1, path)
    check_raw(raw, file, path)
    return array


def _examples(images: NDArray[np.uint8], labels: NDArray[np.uint8], permuted: bool) -> Examples:
    pixels = torch.as_tensor(np.array(images)).flatten(1)  # (N, T); the file's own memory is read-only
    if permuted:
        pixels = pixels[:, pixel_permutation()]
    return Examples(pixels, torch.as_tensor(labels.astype(np.int64)), PEAK)
