"""The constants of a SAB layer's recurrence, and what follows from them for the steps of a stream.

Shapes: B batch, M memories.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reminding.nn.parts.memory import EVICT, Answered, Evict
from reminding.ops import reference
from reminding.ops.contract import SEARCH, STORED, OpRule
from reminding.ops.sparsify import Normalizer, RankedWeights, choose_normalizer


@dataclass(frozen=True)
class Rule:
    """The constants of the recurrence, which `SAB` explains; functions that go by a name are properties."""

    k_top: int | None
    k_att: int
    k_trunc: int | None
    semantics: str
    normalizer: str
    recall_scale: float
    forget_scale: float
    capacity: int | None
    evict: str | Evict
    backtrack: bool
    horizon: int | None
    search: str = "auto"
    null_score: bool = False
    summary_gate: bool = False
    stored: str = "h"

    @property
    def remembers(self) -> bool:
        """Whether anything is stored."""
        return self.k_top != 0

    @property
    def zero_slot(self) -> bool:
        """Whether a stream's memory starts with a zero vector; also with k_top=0, so that another k_top can go on."""
        return self.semantics == "release"

    @property
    def weights(self) -> Normalizer:
        """The rule from scores to weights."""
        return choose_normalizer(self.normalizer, self.semantics)

    @property
    def victim(self) -> Evict:
        """The function that says which memory is evicted."""
        return EVICT[self.evict] if isinstance(self.evict, str) else self.evict

    def noting_victims(self) -> Rule:
        """The same, noting what a user's own rule of eviction answers, for `with_noted_victims`."""
        return self if isinstance(self.evict, str) else replace(self, evict=Answered(self.evict))

    def with_noted_victims(self) -> Rule:
        """The same, whose rule of eviction answers as it has."""
        return replace(self, evict=self.evict.again()) if isinstance(self.evict, Answered) else self

    @property
    def evict_name(self) -> str | None:
        """The name of the rule of eviction; None for a user's own."""
        return self.evict if isinstance(self.evict, str) else None

    @property
    def evict_told(self) -> str:
        """The same, or what a user's own is called."""
        return (
            self.evict if isinstance(self.evict, str) else getattr(self.evict, "__name__", type(self.evict).__name__)
        )

    def cuts(self, step: int) -> bool:
        """Whether (h, c) are detached before this step."""
        return reference.cuts_before(step, self.k_trunc, self.semantics)

    def cuts_after(self, steps_done: Tensor) -> Tensor:
        """Whether (h, c) are detached after so many steps, elementwise."""
        if self.k_trunc is None:
            return torch.zeros_like(steps_done, dtype=torch.bool)
        if self.semantics == "release":
            return (steps_done + 1) % self.k_trunc == 0
        return (steps_done > 0) & (steps_done % self.k_trunc == 0)

    def stores(self, step: int) -> bool:
        """Whether h goes to memory after this step."""
        return self.remembers and reference.stores_after(step, self.k_att)

    def stored_between(self, steps_done: Tensor, steps: int | Tensor) -> Tensor:
        """How many states go to memory in the next `steps` steps, elementwise."""
        if not self.remembers:
            return torch.zeros_like(steps_done)
        return (steps_done + steps) // self.k_att - steps_done // self.k_att

    def credited(self, step: Tensor) -> Tensor:
        """Whether h after this step goes to memory and can receive gradient there, elementwise."""
        return (step % self.k_att == 0) & (self.remembers and self.backtrack)

    def weigh(self, scores: Tensor, count: Tensor | None) -> Tensor:
        """The weight of each memory in a recall, from scores (B, M) of which count (B,) are filled, None: all."""
        weights = self.weights(scores, self.k_top, count)
        return weights if self.recall_scale == 1 else self.recall_scale * weights

    def weigh_ranked(self, scores: Tensor, filled: Tensor) -> RankedWeights:
        """The same of ranked scores, best first, (..., ranks) of which filled (...) are of memories."""
        assert self.k_top, "with all memories recalled, or none, nothing is ranked"
        ranked = self.weights.rank(scores, self.k_top, filled)
        return ranked._replace(weights=self.recall_scale * ranked.weights)

    @property
    def weighs_raw(self) -> bool:
        """Whether weights may be raw scores, which are negative too."""
        return self.semantics == "release"

    @property
    def evicts_oldest(self) -> bool:
        """Whether a full memory evicts its oldest."""
        return self.evict == "fifo"

    @property
    def ranks(self) -> int | None:
        """How many of the best memories decide a recall: those recalled, and the one that sets the threshold.

        None: all of them do.
        """
        return None if self.k_top is None else self.weights.ranks(self.k_top)

    def ranks_noted(self, count: Tensor, steps_done: Tensor, steps: int) -> int | None:
        """`ranks` of what a pass notes of each recall; None: the step counts tell which memories there are.

        A replay asks no rule of eviction again, which may draw numbers, count its calls, or go by changed weights.

        Args:
            count, steps_done: the memories of each row, and its steps, before the pass, (B,); steps: of the pass.
        """
        if self.k_top is not None or self.capacity is None or self.evicts_oldest:
            return self.ranks
        evicts = count + self.stored_between(steps_done, steps) > self.capacity
        return self.capacity if bool(evicts.any()) else None

    def for_op(self, cell: str, score: str, k_top: int) -> OpRule:
        """The rule in numbers, for an op that recalls at most k_top memories a step."""
        rule = OpRule.of(
            cell=cell,
            score=score,
            normalizer=self.normalizer,
            semantics=self.semantics,
            k_top=k_top,
            k_att=self.k_att,
            k_trunc=self.k_trunc,
            backtrack=self.backtrack,
            capacity=self.capacity,
            evict=self.evict_name or "fifo",
            recall_scale=self.recall_scale,
            forget_scale=self.forget_scale,
        )
        return rule._replace(
            search=SEARCH[self.search],
            null_score=int(self.null_score),
            summary_gate=int(self.summary_gate),
            stored=STORED[self.stored],
        )

    @property
    def stores_proposal(self) -> bool:
        """Whether memories are what the cell proposed, not h."""
        return self.stored == "proposal"

    @property
    def extras(self) -> tuple[str, ...]:
        """The options in use that not every op has, as they are passed."""
        used = {"null_score": self.null_score, "summary_gate": self.summary_gate}
        named = [name for name, use in used.items() if use]
        return (*named, *(["stored='proposal'"] if self.stores_proposal else [])) if self.remembers else ()
