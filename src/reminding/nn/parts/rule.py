"""The constants of a SAB layer's recurrence, and what follows from them for the steps of a stream."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reminding.nn.parts.memory import Evict, evict_oldest
from reminding.ops import reference
from reminding.ops.sparsify import SOFTMAX, Normalizer


@dataclass(frozen=True)
class Rule:
    """The constants of the recurrence; `SAB` explains each."""

    k_top: int | None
    k_att: int
    k_trunc: int | None
    semantics: str
    normalizer: Normalizer
    recall_scale: float
    forget_scale: float
    capacity: int | None
    evict: Evict
    backtrack: bool
    horizon: int | None

    def cuts(self, step: int) -> bool:
        """Whether (h, c) are detached before this step."""
        return reference.cuts_before(step, self.k_trunc, self.semantics)

    def cuts_after(self, taken: Tensor) -> Tensor:
        """Whether (h, c) are detached after so many steps, elementwise."""
        if self.k_trunc is None:
            return torch.zeros_like(taken, dtype=torch.bool)
        if self.semantics == "release":
            return (taken + 1) % self.k_trunc == 0
        return (taken > 0) & (taken % self.k_trunc == 0)

    def stores(self, step: int) -> bool:
        """Whether h goes to memory after this step."""
        return self.k_top != 0 and reference.stores_after(step, self.k_att)

    def weigh(self, scores: Tensor, count: Tensor | None) -> Tensor:
        """The weight of each memory in a recall, from scores (B, M) of which count (B,) are filled, None: all."""
        weights = self.normalizer(scores, self.k_top, count)
        return weights if self.recall_scale == 1 else self.recall_scale * weights

    @property
    def evicts_oldest(self) -> bool:
        """Whether a full memory makes room by dropping its oldest."""
        return self.evict is evict_oldest

    @property
    def ranks(self) -> int | None:
        """How many of the best memories decide a recall: those recalled, and the one that sets the threshold.

        None: all of them do.
        """
        if self.k_top is None:
            return None
        return self.k_top + (self.normalizer not in SOFTMAX.values()) if self.k_top else 0
