"""Models of equal size: the hidden size with which a model has a wanted number of parameters."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from reminding.lab.runs.config import ModelOptions
from reminding.lab.runs.model import SequenceModel

TOLERANCE = 0.03
"""Share by which the number of parameters may differ from the wanted one."""
HEADS = 4
"""Hidden sizes are multiples of it, as a Transformer's must be, unless none is near enough."""
LARGEST = 1 << 16
"""Hidden size."""


def parameters(task: Any, options: ModelOptions) -> int:
    """The number of parameters of a model, which is not initialized for it."""
    with torch.device("meta"):
        model = SequenceModel(task, options)
    return sum(parameter.numel() for parameter in model.parameters())


def matched(task: Any, options: ModelOptions, wanted: int) -> ModelOptions:
    """The model with the hidden size whose number of parameters is nearest to `wanted`.

    The size is a multiple of 4 if one of them is within 3%; otherwise it is any size. A Transformer's must be a
    multiple of its 4 heads; if none is near, the width of its feed-forward layers makes up the difference, unless it
    is given.

    Raises:
        ValueError: no model is within 3%; the message has the nearest.
    """

    def count(size: int) -> int:
        return parameters(task, replace(options, hidden_size=size))

    steps = {"transformer": (HEADS,), "rtu": (HEADS, 2)}.get(options.model, (HEADS, 1))
    found: list[ModelOptions] = []
    for step in steps:
        found.append(replace(options, hidden_size=_nearest(range(step, LARGEST, step), wanted, count)))
        if _miss(task, found[-1], wanted) <= TOLERANCE:
            return found[-1]
    if options.model == "transformer" and options.feedforward_size is None:
        found.append(_refined(task, found[-1], wanted))
    nearest = min(found, key=lambda each: _miss(task, each, wanted))
    if _miss(task, nearest, wanted) > TOLERANCE:
        raise ValueError(
            f"parameters: no {options.model} has {wanted:,} parameters within {TOLERANCE:.0%}; the nearest has "
            f"hidden_size {nearest.hidden_size} and {parameters(task, nearest):,}"
        )
    return nearest


def _miss(task: Any, options: ModelOptions, wanted: int) -> float:
    """By how much the number of parameters differs from the wanted one, as a share of it."""
    return abs(parameters(task, options) - wanted) / wanted


def _refined(task: Any, options: ModelOptions, wanted: int) -> ModelOptions:
    """A Transformer with the width of its feed-forward layers nearest to the wanted number of parameters."""

    def count(width: int) -> int:
        return parameters(task, replace(options, feedforward_size=width))

    return replace(options, feedforward_size=_nearest(range(1, LARGEST), wanted, count))


def _nearest(sizes: Sequence[int], wanted: int, count: Callable[[int], int]) -> int:
    """The size whose count is nearest to `wanted`; a larger size has a larger count."""
    above = bisect_left(sizes, wanted, hi=len(sizes) - 1, key=count)
    return min(sizes[max(above - 1, 0) : above + 1], key=lambda size: abs(count(size) - wanted))
