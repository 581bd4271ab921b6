"""The memory as a recorded pass read it, for the pass to be run again.

Shapes: R rows of a segment, S steps of a segment, K ranks, H hidden.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from reminding.nn.credit.bank import ReadPlaces
from reminding.nn.parts.memory import FAR
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.scorers import BoundScorer


class RecordedReader:
    """Reads at every step the memories that were read there, with the weights of today; stores for the segment alone.

    Args:
        value: what was read of older memories, (S, R, K, H), zeros elsewhere; places: where it lies.

    Attributes:
        summaries: of each step so far, (R, H); scores, weights: (R, K), none where nothing was read at all.
        own_values: what was read at steps that read states of this segment, (R, K, H), by step.
    """

    def __init__(self, value: Tensor, places: ReadPlaces, scorer: BoundScorer | None, rule: Rule) -> None:
        own, self._filled = places.own.to(value.device), places.filled.to(value.device)
        self._value, self._own, self._scorer, self._rule = value, own, scorer, rule
        self._keys = None if scorer is None or not bool(self._filled.any()) else scorer.keys(value)
        self._has_own = cast("list[bool]", (own >= 0).flatten(1).any(1).tolist())
        self._by_age = _by_age(own, places.place.to(value.device), self._filled)
        self._states: list[Tensor] = []
        self.summaries: list[Tensor] = []
        self.scores: list[Tensor] = []
        self.weights: list[Tensor] = []
        self.own_values: dict[int, Tensor] = {}

    def read(self, query: Tensor) -> Tensor | None:
        """The summary for a provisional state (R, H); None where nothing was read."""
        t = len(self._states)
        if self._keys is None or self._scorer is None:
            self.summaries.append(torch.zeros_like(query))
            return None
        value, keys = self._value[t], self._keys[t]
        if self._has_own[t]:
            own = self._own[t]
            row = torch.arange(len(own), device=own.device).unsqueeze(1)
            mine = torch.stack(self._states)[own.clamp(min=0), row]  # (R, K, H)
            value = torch.where((own >= 0).unsqueeze(2), mine, value)
            self.own_values[t] = value
            keys = self._scorer.keys(value)
        self.scores.append(self._scorer.scores(keys, query))
        age = self._by_age[t]
        ranked = self._rule.weigh(self.scores[-1].gather(1, age), self._filled[t])
        weights = torch.zeros_like(ranked).scatter(1, age, ranked)
        self.weights.append(weights)
        self.summaries.append(self._scorer.summary(weights, value))
        return self.summaries[-1]

    def store(self, h: Tensor, rows: Tensor | bool, ahead: int) -> None:
        """Take the state of a step, which a later one of the segment may have read."""
        self._states.append(h)


def _by_age(own: Tensor, place: Tensor, filled: Tensor) -> Tensor:
    """The ranks of what each recall read, the oldest memory first, (S, R, K); arguments as in `ReadPlaces`.

    Of equal scores the oldest memory's is the best, also where new weights have changed the scores.
    """
    age = torch.where(own >= 0, own + (FAR - own.shape[0]), place)
    behind = torch.arange(own.shape[2], device=own.device) >= filled.unsqueeze(2)
    return age.masked_fill(behind, FAR).argsort(dim=2, stable=True)
