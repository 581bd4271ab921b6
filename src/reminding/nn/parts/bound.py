"""One layer of a stack with the tensors that it computes with now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor

from reminding.nn.parts.cells import CELLS, Step, masked_on_entry
from reminding.nn.parts.scorers import BuiltInScorer, Scorer
from reminding.ops.scores import SCORES


@dataclass(frozen=True)
class BoundLayer:
    """One layer with the tensors it computes with now: parameters, or what a parametrization made of them.

    Attributes:
        cell, scorer: what the reference computes with; no scorer where nothing is remembered.
        cell_name, score_name: of the built-in ones, None for a user's own.
        weights, score_weights: the built-in ones' tensors, in the order of their equations.
        forget_scale: what an LSTM's forget gate is multiplied by.
    """

    cell: Step
    scorer: Scorer | None
    cell_name: str | None
    score_name: str | None
    weights: tuple[Tensor | None, ...]
    score_weights: tuple[Tensor, ...]
    forget_scale: float = 1.0

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, those that are None left out."""
        return (*(weight for weight in self.weights if weight is not None), *self.score_weights)

    def cell_masked_by(self, factor: Tensor | None) -> Step:
        """The cell under recurrent dropout: what h is multiplied by on its way in, (B, H); None: nothing."""
        return masked_on_entry(self.cell_name, self.cell, self.weights, factor)

    def with_tensors(self, tensors: Sequence[Tensor]) -> BoundLayer:
        """The same layer computing with others in the place of `tensors`."""
        given = iter(tensors)
        weights = tuple(None if weight is None else next(given) for weight in self.weights)
        score = self.scorer if self.score_name is None else self.score_name
        return bind(self.cell_name or self.cell, score, weights, tuple(given), self.forget_scale)


def bind(
    cell: str | Step,
    score: str | Scorer | None,
    weights: tuple[Tensor | None, ...],
    score_weights: tuple[Tensor, ...],
    forget_scale: float,
) -> BoundLayer:
    """A layer with these tensors.

    Args:
        cell: the name of a built-in one, or a user's own, which brings its own parameters.
        score: the same of a scorer; None or a built-in one without tensors: nothing is remembered.
    """
    scorer = score
    if isinstance(score, str):
        scorer = BuiltInScorer(SCORES[score], score_weights) if score_weights else None
    return BoundLayer(
        cell=CELLS[cell].bind(weights, forget_scale) if isinstance(cell, str) else cell,
        scorer=cast("Scorer | None", scorer),
        cell_name=cell if isinstance(cell, str) else None,
        score_name=score if isinstance(score, str) else None,
        weights=weights,
        score_weights=score_weights,
        forget_scale=forget_scale,
    )
