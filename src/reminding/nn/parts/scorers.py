"""Scorers: how relevant each memory is to the present state.

Shapes: B batch, M memory slots, H hidden, D score width.

A scorer splits the score in two, so that what belongs to a memory alone is computed once, when it is
stored: `keys(memory)` and `scores(keys, query)`. Any module with these two methods can be one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from reminding.ops.scores import Score


@runtime_checkable
class Scorer(Protocol):
    """What the recurrence needs of a scorer."""

    def keys(self, memory: Tensor) -> Tensor:
        """What is kept of each memory, (..., H) to (..., D)."""
        ...

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        """The relevance of each memory, from keys (B, M, D) and query (B, H): (B, M)."""
        ...


@dataclass(frozen=True)
class BuiltInScorer:
    """A built-in score with the weights it has now."""

    score: Score
    weights: tuple[Tensor, ...]

    def keys(self, memory: Tensor) -> Tensor:
        """What is kept of each memory, (..., H) to (..., D)."""
        return self.score.keys(memory, self.weights)

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        """The relevance of each memory, from keys (B, M, D) and query (B, H): (B, M)."""
        return self.score.scores(keys, query, self.weights)
