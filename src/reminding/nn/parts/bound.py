"""One layer of a stack with the tensors that it computes with now.

Shapes: B batch, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from reminding.nn.parts.cells import CELLS, Step, masked_on_entry
from reminding.nn.parts.scorers import BoundScorer, BuiltInScorer, RecallWeights, Scorer
from reminding.ops.scores import SCORES


@dataclass(frozen=True)
class BoundLayer:
    """One layer with the tensors it computes with now: parameters, or what a parametrization made of them.

    Attributes:
        cell, scorer: what the reference computes with; no scorer where nothing is remembered.
        cell_name, score_name: of the built-in ones, None for a user's own.
        weights, score_weights: the built-in ones' tensors, in the order of their equations.
        learned: what a recall learns besides its score.
        forget_scale: what an LSTM's forget gate is multiplied by.
    """

    cell: Step
    scorer: BoundScorer | None
    cell_name: str | None
    score_name: str | None
    weights: tuple[Tensor | None, ...]
    score_weights: tuple[Tensor, ...]
    learned: RecallWeights
    forget_scale: float = 1.0

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them, those that are None left out."""
        return (*(weight for weight in self.weights if weight is not None), *self.recall_tensors)

    @property
    def recall_tensors(self) -> tuple[Tensor, ...]:
        """Those of the recall, as an op takes them."""
        return (*self.score_weights, *self.learned.tensors)

    def cell_masked_by(self, factor: Tensor | None) -> Step:
        """The cell under recurrent dropout: what h is multiplied by on its way in, (B, H); None: nothing."""
        return masked_on_entry(self.cell_name, self.cell, self.weights, factor)

    def with_tensors(self, tensors: Sequence[Tensor]) -> BoundLayer:
        """The same layer computing with others in the place of `tensors`."""
        given = iter(tensors)
        weights = tuple(None if weight is None else next(given) for weight in self.weights)
        score_weights = tuple(next(given) for _ in self.score_weights)
        score = self.score_name or (None if self.scorer is None else self.scorer.scorer)
        learned = self.learned.with_tensors(tuple(given))
        return bind(self.cell_name or self.cell, score, weights, score_weights, learned, self.forget_scale)


def bind(
    cell: str | Step,
    score: str | Scorer | None,
    weights: tuple[Tensor | None, ...],
    score_weights: tuple[Tensor, ...],
    learned: RecallWeights,
    forget_scale: float,
) -> BoundLayer:
    """A layer with these tensors.

    Args:
        cell: the name of a built-in one, or a user's own, which brings its own parameters.
        score: the same of a scorer; None or a built-in one without tensors: nothing is remembered.
    """
    scorer: Scorer | None = None
    if not isinstance(score, str):
        scorer = score
    elif score_weights:
        scorer = BuiltInScorer(SCORES[score], score_weights)
    return BoundLayer(
        cell=CELLS[cell].bind(weights, forget_scale) if isinstance(cell, str) else cell,
        scorer=None if scorer is None else BoundScorer(scorer, learned),
        cell_name=cell if isinstance(cell, str) else None,
        score_name=score if isinstance(score, str) else None,
        weights=weights,
        score_weights=score_weights,
        learned=learned,
        forget_scale=forget_scale,
    )
