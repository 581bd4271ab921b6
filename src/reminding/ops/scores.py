"""The built-in scores: how relevant a memory is to the present state, by name.

A new score is an entry here with its equation, a case in the C++ op (csrc/scores.h) and one in the Triton kernels
(cuda_op/triton/scores.py). The code of each is what those call it.

Shapes: B batch, M memory slots, H hidden, D score width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from reminding.ops import reference

Shape = tuple[int, ...]
Weights = tuple[Tensor, ...]


@dataclass(frozen=True)
class Score:
    """A score in two parts: what belongs to a memory alone is its key, computed once, when the memory is stored.

    Attributes:
        code: the number that the ops know it by.
        parameters: the names of its parameters, in the order of `weights`, without a layer's suffix.
        roles: which of an op's w1, w2 and w3 each of them is.
        shapes: the shape of each parameter, from H and D.
        keys: the keys of memories (..., H) and weights, (..., width).
        scores: the scores (B, M) of keys (B, M, width) for a query h_hat (B, H), and weights.
        keyless: whether the query adds the same to every score, so that an op keeps no keys and a running ranking
            of the memories serves all steps.
        clamped: whether an op's score is exact only while |W1 m| and |W2 h_hat| stay in a range.
    """

    code: int
    parameters: tuple[str, ...]
    roles: tuple[str, ...]
    shapes: Callable[[int, int], tuple[Shape, ...]]
    keys: Callable[[Tensor, Weights], Tensor]
    scores: Callable[[Tensor, Tensor, Weights], Tensor]
    keyless: bool = False
    clamped: bool = False


def _project_memory(memory: Tensor, weights: Weights) -> Tensor:
    """W1 m."""
    return reference.project(memory, weights[0])


def _additive(keys: Tensor, query: Tensor, weights: Weights) -> Tensor:
    """W3 . tanh(W1 m + W2 h_hat)."""
    return reference.additive_scores(keys, reference.project(query, weights[1]), weights[2])


def _dot(keys: Tensor, query: Tensor, weights: Weights) -> Tensor:
    """W1 m . W2 h_hat / sqrt(D)."""
    return reference.dot_scores(keys, reference.project(query, weights[1]))


def _separable_memory(memory: Tensor, weights: Weights) -> Tensor:
    """The memory's term, kept as a key one number wide."""
    return reference.separable_term(memory, weights[0][memory.shape[-1] :]).unsqueeze(-1)


def _separable(keys: Tensor, query: Tensor, weights: Weights) -> Tensor:
    """The sum of both terms of w . tanh([h_hat; m])."""
    return keys.squeeze(2) + reference.separable_term(query, weights[0][: query.shape[1]]).unsqueeze(1)


SCORES: dict[str, Score] = {
    "additive": Score(
        code=0,
        parameters=("score_memory", "score_query", "score_out"),
        roles=("w1", "w2", "w3"),
        shapes=lambda H, D: ((D, H), (D, H), (D,)),
        keys=_project_memory,
        scores=_additive,
        clamped=True,
    ),
    "dot": Score(
        code=1,
        parameters=("score_memory", "score_query"),
        roles=("w1", "w2"),
        shapes=lambda H, D: ((D, H), (D, H)),
        keys=_project_memory,
        scores=_dot,
    ),
    "separable": Score(
        code=2,
        parameters=("score_weight",),
        roles=("w3",),
        shapes=lambda H, D: ((2 * H,),),
        keys=_separable_memory,
        scores=_separable,
        keyless=True,
    ),
}
"""The paper's score, the scaled dot product, and the score of the authors' code, the release."""


@functools.cache
def score_of(code: int) -> Score:
    """The score with this number."""
    return next(score for score in SCORES.values() if score.code == code)
