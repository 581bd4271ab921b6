"""Real handwritten digits from scikit-learn, read pixel by pixel; they need no download.

Shapes: N examples, T = 64 pixels. The one file that imports scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from reminding.tasks.kinds.base import Split
from reminding.tasks.kinds.classification import Examples, PixelClassification

HELD_OUT_PER_CLASS = 25
PEAK = 16  # the data set counts inked points in 4x4 blocks
_SPLIT_SEED = 0


@dataclass(frozen=True)
class Digits(PixelClassification):
    """scikit-learn's 1,797 real 8x8 digits in row order.   [Alpaydin & Kaynak 1998, UCI]

    Input (64, B, 1) in [0, 1], ten classes, chance accuracy 0.1. The split is fixed and stratified: 1,297
    train, 250 valid and 250 test, the latter two with 25 of each digit.

    Raises:
        ImportError: scikit-learn is missing; raised when examples are asked for.
    """

    name: ClassVar[str] = "digits"
    side: ClassVar[int] = 8

    def examples(self, split: Split) -> Examples:
        """Return one split: pixels (N, 64), label (N,)."""
        return _splits()[split]


@lru_cache(maxsize=1)
def _splits() -> dict[Split, Examples]:
    loaded = _load()
    pixels: NDArray[np.uint8] = loaded.data.astype(np.uint8)
    label: NDArray[np.int64] = loaded.target.astype(np.int64)
    # RandomState, unlike default_rng, is promised to draw the same in every version of numpy.
    rng = np.random.RandomState(_SPLIT_SEED)
    by_class = [rng.permutation(np.flatnonzero(label == digit)) for digit in range(10)]
    cut = HELD_OUT_PER_CLASS
    rows: dict[Split, NDArray[np.int64]] = {
        "test": np.concatenate([members[:cut] for members in by_class]),
        "valid": np.concatenate([members[cut : 2 * cut] for members in by_class]),
        "train": np.concatenate([members[2 * cut :] for members in by_class]),
    }
    return {
        split: Examples(torch.as_tensor(pixels[chosen]), torch.as_tensor(label[chosen]), PEAK)
        for split, chosen in rows.items()
    }


def _load() -> Any:
    """Return scikit-learn's bunch: `data` (N, 64) float64 of whole numbers, `target` (N,) int64."""
    try:
        from sklearn.datasets import (  # pyright: ignore[reportMissingTypeStubs, reportMissingImports]
            load_digits,  # pyright: ignore[reportUnknownVariableType]
        )
    except ImportError as error:
        raise ImportError(
            'the digits task needs scikit-learn, which is missing: pip install "reminding[experiments]"'
        ) from error
    return load_digits()  # pyright: ignore[reportUnknownVariableType]
