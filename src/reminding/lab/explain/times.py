"""The times of the steps of a sequence, as texts: dates of a table, or seconds of a recording."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reminding.lab.show.times import time_texts


@dataclass(frozen=True)
class StepTimes:
    """The times of steps.

    Args:
        texts: of step 1, step 2, ...; perhaps also of the step after the last one.
        name: what a text is preceded by in a sentence; "" for dates and seconds, which need none.
    """

    texts: tuple[str, ...]
    name: str = ""

    def of(self, step: int) -> str | None:
        """The time of a step, counted from 1; None if it is not known."""
        if not 1 <= step <= len(self.texts):
            return None
        text = f"{self.name} {self.texts[step - 1]}".strip()
        return f"{text[1:]} before its beginning" if text.startswith("-") and text.endswith(" s") else text

    def labels(self, unit: str) -> tuple[str, ...]:
        """The texts for an axis, which has no name: a number of a row in its file says that it is one.

        Args:
            unit: the name of a step.
        """
        return tuple(f"{unit} {text}" for text in self.texts) if self.name == unit else self.texts


def recorded(column: str, values: NDArray[Any]) -> StepTimes:
    """The values of a time column: points in time, (T,) datetime64, or numbers."""
    return StepTimes(time_texts(values), "" if values.dtype.kind == "M" else column)


def numbered(numbers: Iterable[int], unit: str) -> StepTimes:
    """The numbers of steps in their file, from 1, which are not those of the excerpt."""
    return StepTimes(tuple(f"{number:,}" for number in numbers), unit)


def seconds(steps: int, each: float, first: int = 0) -> StepTimes:
    """The seconds of a recording at the beginning of each step.

    Args:
        each: seconds of a step.
        first: number of the first step in the recording; below 0 for steps of padding in front of it.
    """
    digits = max(0, int(np.ceil(-np.log10(each))))
    return StepTimes(tuple(f"{(first + i) * each:.{digits}f} s" for i in range(steps)))
