"""Scorers: how relevant each memory is to the present state.

Shapes: B batch, M memory slots, H hidden, D score width.

A scorer splits the score in two, so that what belongs to a memory alone is computed once, when it is
stored: `keys(memory)` and `scores(keys, query)`. Any module with these two methods can be one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from reminding.ops import reference

Shape = tuple[int, ...]


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
class AdditiveScorer:
    """W3 . tanh(W1 m + W2 h_hat), the paper's."""

    memory_weight: Tensor
    query_weight: Tensor
    out: Tensor

    def keys(self, memory: Tensor) -> Tensor:
        """W1 m."""
        return reference.project(memory, self.memory_weight)

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        """W3 . tanh(keys + W2 h_hat)."""
        return reference.additive_scores(keys, reference.project(query, self.query_weight), self.out)


@dataclass(frozen=True)
class DotScorer:
    """W1 m . W2 h_hat / sqrt(D)."""

    memory_weight: Tensor
    query_weight: Tensor

    def keys(self, memory: Tensor) -> Tensor:
        """W1 m."""
        return reference.project(memory, self.memory_weight)

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        """Keys . W2 h_hat / sqrt(D)."""
        return reference.dot_scores(keys, reference.project(query, self.query_weight))


@dataclass(frozen=True)
class SeparableScorer:
    """w . tanh([h_hat; m]), the release's: a term of the query plus a term of the memory."""

    weight: Tensor

    def keys(self, memory: Tensor) -> Tensor:
        """The memory's term, kept as a key one number wide."""
        return reference.separable_term(memory, self.weight[memory.shape[-1] :]).unsqueeze(-1)

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        """The sum of both terms."""
        return keys.squeeze(2) + reference.separable_term(query, self.weight[: query.shape[1]]).unsqueeze(1)


@dataclass(frozen=True)
class BuiltInScorer:
    """The parameters of a scorer by name, without the layer's suffix, and how to make it from them."""

    weight_shapes: Callable[[int, int], dict[str, Shape]]
    bind: Callable[..., Scorer]


def _additive_shapes(hidden_size: int, score_size: int) -> dict[str, Shape]:
    return {**_dot_shapes(hidden_size, score_size), "score_out": (score_size,)}


def _dot_shapes(hidden_size: int, score_size: int) -> dict[str, Shape]:
    return {"score_memory": (score_size, hidden_size), "score_query": (score_size, hidden_size)}


def _separable_shapes(hidden_size: int, score_size: int) -> dict[str, Shape]:
    return {"score_weight": (2 * hidden_size,)}


SCORERS: dict[str, BuiltInScorer] = {
    "additive": BuiltInScorer(_additive_shapes, AdditiveScorer),
    "dot": BuiltInScorer(_dot_shapes, DotScorer),
    "separable": BuiltInScorer(_separable_shapes, SeparableScorer),
}
