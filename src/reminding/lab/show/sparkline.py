"""A curve as one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.-:=+*#"
"""From light to dark, for terminals without block characters."""


class DownsampledSeries:
    """A series of values of any length, reduced to a bounded number of means over equally many values.

    Adding a value takes constant time. When there are `width` means, neighbours are merged in pairs.

    Args:
        width: greatest number of means, an even number of at least 2.
    """

    def __init__(self, width: int = 24) -> None:
        if width < 2 or width % 2:
            raise ValueError(f"width must be an even number of at least 2, got {width}")
        self.width = width
        self.last = math.nan
        self._means: list[float] = []
        self._size = 1
        self._sum, self._count = 0.0, 0

    def add(self, value: float) -> None:
        """Add a value; values that are not finite are ignored."""
        if not math.isfinite(value):
            return
        self.last = value
        self._sum, self._count = self._sum + value, self._count + 1
        if self._count < self._size:
            return
        self._means.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        if len(self._means) == self.width:
            pairs = zip(self._means[::2], self._means[1::2], strict=True)
            self._means, self._size = [(a + b) / 2 for a, b in pairs], 2 * self._size

    @property
    def means(self) -> list[float]:
        """The means, oldest first; the last may be over fewer values than the others."""
        return [*self._means, *([self._sum / self._count] if self._count else [])]


def sparkline(values: Sequence[float], levels: str = BLOCKS) -> str:
    """One character per value, scaled from the least to the greatest; values that are all equal get the middle level.

    Args:
        values: finite numbers.
        levels: characters from low to high: `BLOCKS` or `ASCII`.
    """
    if not values:
        return ""
    low, high = min(values), max(values)
    if high == low:
        return levels[len(levels) // 2] * len(values)
    return "".join(levels[round((value - low) / (high - low) * (len(levels) - 1))] for value in values)
