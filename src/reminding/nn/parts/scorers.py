"""Scorers: how relevant each memory is to the present state.

Shapes: B batch, M memory slots, H hidden, D score width.

A scorer splits the score in two, so that what belongs to a memory alone is computed once, when it is
stored: `keys(memory)` and `scores(keys, query)`. Any module with these two methods can be one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from reminding.ops import reference
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


@dataclass(frozen=True)
class RecallWeights:
    """What a recall learns besides its score; None where it does not.

    Attributes:
        null_score: the score of recalling nothing, (1,).
        summary_gate: what the summary is multiplied by, (H,).
    """

    null_score: Tensor | None = None
    summary_gate: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Those that there are."""
        return tuple(tensor for tensor in (self.null_score, self.summary_gate) if tensor is not None)

    def with_tensors(self, tensors: Sequence[Tensor]) -> RecallWeights:
        """Others in the place of `tensors`."""
        given = iter(tensors)
        return RecallWeights(
            *(None if tensor is None else next(given) for tensor in (self.null_score, self.summary_gate))
        )


@dataclass(frozen=True)
class BoundScorer:
    """A scorer with all else that a recall learns."""

    scorer: Scorer
    learned: RecallWeights

    def keys(self, memory: Tensor) -> Tensor:
        """What is kept of each memory, (..., H) to (..., D)."""
        return self.scorer.keys(memory)

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        """The scores of memories less that of recalling nothing, which is 0 unless learned, (B, M)."""
        scores = self.scorer.scores(keys, query)
        return scores if self.learned.null_score is None else scores - self.learned.null_score

    def summary(self, weights: Tensor, memory: Tensor) -> Tensor:
        """The weighted sum of memories (B, M, H) by weights (B, M), through the gate, (B, H)."""
        summary = reference.summarize(weights, memory)
        return summary if self.learned.summary_gate is None else self.learned.summary_gate * summary
