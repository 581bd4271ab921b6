"""How many decimals of a value tell it from others like it.

Shapes: n values, J values of a step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HUNDREDTH = 0.01
"""Of a column's deviation: values that differ by less look alike."""
THIRD = 1 / 3
"""Of the mean error: a prediction and the truth that differ by less look alike."""
MOST = 12
SIGNIFICANT = 3
"""Digits of a value that has no others to be told from."""


def decimals(values: NDArray[np.float64], error: float = 0.0) -> int:
    """The decimals with which values are told, (n,), NaN where one is not known.

    Args:
        error: mean absolute error of predictions of such values; 0 or NaN: there are none.
    """
    known = values[np.isfinite(values)]
    deviation = float(known.std()) if len(known) else 0.0
    finest = [each for each in (HUNDREDTH * deviation, THIRD * error) if each > 0]
    if finest:
        return int(np.clip(np.ceil(-np.log10(min(finest))), 0, MOST))
    largest = float(np.abs(known).max(initial=0.0))
    return int(np.clip(SIGNIFICANT - 1 - np.floor(np.log10(largest)), 0, MOST)) if largest else 0


def decimals_by_channel(values: NDArray[np.float64], channels: int) -> list[int]:
    """The decimals of each channel, of values (T, J): one or several frames of the channels a step."""
    if not channels or values.shape[1] % channels:
        return [decimals(values.reshape(-1))]
    frames = values.reshape(-1, channels)
    return [decimals(frames[:, channel]) for channel in range(channels)]
