"""One layer of a stack with the weights that it has now."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reminding.nn.parts.cells import Step
from reminding.nn.parts.scorers import Scorer


@dataclass(frozen=True)
class BoundLayer:
    """One layer with the weights it has now.

    Attributes:
        cell, scorer: what the reference computes with; no scorer where nothing is remembered.
        cell_name, score_name: of the built-in ones, None for a user's own.
        weights, score_weights: the built-in ones' parameters, in the order of their equations.
    """

    cell: Step
    scorer: Scorer | None
    cell_name: str | None
    score_name: str | None
    weights: tuple[Tensor | None, ...]
    score_weights: tuple[Tensor, ...]
