"""The memory as one pass over time reads and writes it.

Shapes: B batch, T time, M memory slots, K recalled slots, H hidden.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from reminding.nn.parts.memory import NOTHING, Evict, Memory
from reminding.nn.parts.rule import Rule
from reminding.nn.parts.scorers import BoundScorer
from reminding.nn.state.stream import Recall
from reminding.ops.sparsify import best_places, mask_padding


class Reader:
    """Reads with every step's provisional state, stores what is due, and notes what was read.

    Args:
        memory: what is remembered before the pass.
        scorer: None where k_top = 0: nothing is remembered.
        steps_done: steps each row's stream has done before, (B,) int64 on the host.
        record: whether to note what was recalled, for `recalled`.
        ranks: of how many memories that decided each recall to note the steps, for `read_steps`; None: not to.
    """

    def __init__(
        self,
        memory: Memory,
        scorer: BoundScorer | None,
        rule: Rule,
        steps_done: Tensor,
        record: bool,
        ranks: int | None,
    ) -> None:
        self.memory = memory if scorer is None else replace(memory, keys=scorer.keys(memory.value))
        self._scorer, self._rule, self._taken = scorer, rule, steps_done
        self._recalls: list[Recall] | None = [] if record else None
        self._ranks = ranks
        self._ranked: list[Tensor] | None = None if ranks is None else []

    def read(self, query: Tensor) -> Tensor | None:
        """The summary for a provisional state, (B, H); None where no row remembers anything."""
        memory, rule = self.memory, self._rule
        if self._scorer is None or memory.slots == 0:
            nothing = query.new_zeros(len(query), 0)
            self._note(Recall(torch.zeros_like(query), nothing.long(), nothing), nothing.long())
            return None
        assert memory.keys is not None, "the keys are made when a pass begins"
        scores = self._scorer.scores(memory.keys, query)  # (B, M)
        weights = rule.weigh(scores, memory.padding)  # (B, M)
        summary = self._scorer.summary(weights, memory.value)  # (B, H)
        if rule.capacity is not None:
            self.memory = replace(memory, weight=memory.weight + weights.detach())
        if self._recalls is not None or self._ranked is not None:
            self._note(*_noted(scores.detach(), weights.detach(), summary, memory, rule))
        return summary

    def store(self, h: Tensor, rows: Tensor | bool, ahead: int) -> None:
        """Append h in the given rows, `ahead` steps after the pass began, after making room where it is full."""
        if self._scorer is None or rows is False:
            return
        memory, rule = self.memory, self._rule
        stores = torch.ones_like(memory.count, dtype=torch.bool) if isinstance(rows, bool) else rows
        if rule.capacity is not None:
            full = stores & (memory.count >= rule.capacity)
            if bool(full.any()):
                memory = memory.without(_victims(memory, rule.victim, full), full)
        step = (self._taken + ahead).to(h.device)
        self.memory = memory.append(h, self._scorer.keys(h), step, None if rows is True else stores)

    def recalled(self, h: Tensor) -> Recall:
        """What was recalled over the whole pass, time-major.

        Args:
            h: any state of the pass, (B, H).

        Returns:
            summary (T, B, H); step (T, B, K) int64, 0 where nothing; weight (T, B, K).
        """
        return _stack_recalls(self._recalls or [], self._rule.k_top, h)

    def read_steps(self, h: Tensor) -> Tensor | None:
        """The stream steps of what decided each recall, best first, (T, B, ranks) int64; None if not noted."""
        ranks = self._ranks
        if self._ranked is None or ranks is None:
            return None
        wide = [_widened(steps, ranks, NOTHING) for steps in self._ranked]
        return torch.stack(wide) if wide else h.new_zeros(0, len(h), ranks, dtype=torch.int64)

    def _note(self, recall: Recall, ranked: Tensor) -> None:
        if self._recalls is not None:
            self._recalls.append(recall)
        if self._ranked is not None:
            self._ranked.append(ranked)


def _noted(scores: Tensor, weights: Tensor, summary: Tensor, memory: Memory, rule: Rule) -> tuple[Recall, Tensor]:
    """What was recalled, (B, K), and the stream steps of the memories that decided it, (B, up to ranks).

    Args:
        scores, weights: of every memory, (B, M); summary: (B, H).
    """
    scores, _ = mask_padding(scores, memory.padding)
    best = best_places(scores, memory.slots if rule.ranks is None else min(rule.ranks, memory.slots))
    step = memory.step.gather(1, best)
    weight = weights.gather(1, best)[:, : rule.k_top]
    recall = recall_of(summary, step[:, : rule.k_top], weight, rule.weighs_raw)
    return recall, step.masked_fill(scores.gather(1, best).isneginf(), NOTHING)


def recall_of(summary: Tensor, step: Tensor, weights: Tensor, raw: bool) -> Recall:
    """The recall of when the memories in question were stored, (..., K), and their weights, best first.

    Args:
        raw: whether weights may be raw scores.
    """
    nothing = weights == 0  # (..., K)
    step = step.masked_fill(nothing, 0)
    if not raw:
        return Recall(summary, step, weights)
    # Only the release's raw scores are negative: a 0 may stand before them.
    order = nothing.to(torch.int8).argsort(dim=-1, stable=True)
    return Recall(summary, step.gather(-1, order), weights.gather(-1, order))


def _victims(memory: Memory, evict: Evict, rows: Tensor) -> Tensor:
    """The slot that a rule names in each row, (B,); it counts in the given rows, (B,) bool on the host."""
    slot = evict(memory)
    if not isinstance(cast("object", slot), Tensor):
        raise ValueError(f"evict must return a tensor with one int64 slot per row, got {type(slot).__name__}")
    if slot.shape != memory.count.shape or slot.dtype != torch.int64:
        raise ValueError(
            f"evict must return one int64 slot per row, shape {tuple(memory.count.shape)}; "
            f"got {slot.dtype} of shape {tuple(slot.shape)}"
        )
    if bool((((slot < 0) | (slot >= memory.slots)).cpu() & rows).any()):
        raise ValueError(f"evict must return slots from 0 to {memory.slots - 1}, got {slot.tolist()}")
    return slot.to(memory.value.device)


def _stack_recalls(recalls: list[Recall], k_top: int | None, h: Tensor) -> Recall:
    """One recall over time, K = k_top wide; as wide as the fullest step where k_top is None."""
    width = max((recall.step.shape[1] for recall in recalls), default=0) if k_top is None else k_top
    if not recalls:
        return Recall(h.new_zeros(0, *h.shape), h.new_zeros(0, len(h), width).long(), h.new_zeros(0, len(h), width))
    return Recall(
        summary=torch.stack([recall.summary for recall in recalls]),
        step=torch.stack([_widened(recall.step, width, 0) for recall in recalls]),
        weight=torch.stack([_widened(recall.weight, width, 0) for recall in recalls]),
    )


def _widened(tensor: Tensor, width: int, fill: int) -> Tensor:
    missing = width - tensor.shape[1]
    return torch.cat([tensor, tensor.new_full((len(tensor), missing), fill)], dim=1) if missing else tensor
