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
from reminding.ops.sparsify import mask_padding


class Reader:
    """Reads with every step's provisional state, stores what is due, and notes what was read.

    Args:
        memory: what is remembered before the pass.
        scorer: None where k_top = 0: nothing is remembered.
        steps_done: steps each row's stream has done before, (B,) int64 on the host.
        record: whether to note what was recalled, for `recalled`.
        ranked: whether to note what decided each recall, for `read_steps`.
    """

    def __init__(
        self, memory: Memory, scorer: BoundScorer | None, rule: Rule, steps_done: Tensor, record: bool, ranked: bool
    ) -> None:
        self.memory = memory if scorer is None else replace(memory, keys=scorer.keys(memory.value))
        self._scorer, self._rule, self._taken = scorer, rule, steps_done
        self._recalls: list[Recall] | None = [] if record else None
        self._ranked: list[Tensor] | None = [] if ranked and rule.ranks is not None else None

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
        if self._recalls is not None:
            self._recalls.append(_noted(summary, weights.detach(), memory, rule.k_top))
        if self._ranked is not None:
            self._ranked.append(_best(scores.detach(), memory, cast("int", rule.ranks)))
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
                memory = memory.without(_victims(memory, rule.victim), full)
        step = (self._taken + ahead).to(h.device)
        self.memory = memory.append(h, self._scorer.keys(h), step, None if rows is True else stores)

    def recalled(self, h: Tensor) -> Recall:
        """What was recalled over the whole pass, time-major; `h`: any state of it."""
        return _stack_recalls(self._recalls or [], self._rule.k_top, h)

    def read_steps(self, h: Tensor) -> Tensor | None:
        """The stream steps of what decided each recall, best first, (T, B, ranks) int64; None with k_top=None."""
        if self._ranked is None:
            return None
        ranks = cast("int", self._rule.ranks)
        wide = [_widened(steps, ranks, NOTHING) for steps in self._ranked]
        return torch.stack(wide) if wide else h.new_zeros(0, len(h), ranks, dtype=torch.int64)

    def _note(self, recall: Recall, ranked: Tensor) -> None:
        if self._recalls is not None:
            self._recalls.append(recall)
        if self._ranked is not None:
            self._ranked.append(ranked)


def _noted(summary: Tensor, weights: Tensor, memory: Memory, k_top: int | None) -> Recall:
    """The slots that got a weight, largest first: their steps and weights, (B, K) each."""
    kept = memory.slots if k_top is None else min(k_top, memory.slots)
    best = weights.masked_fill(weights == 0, float("-inf")).topk(kept, dim=1)
    nothing = best.values.isneginf()
    step = memory.step.gather(1, best.indices).masked_fill(nothing, 0)
    return Recall(summary, step, best.values.masked_fill(nothing, 0.0))


def _best(scores: Tensor, memory: Memory, ranks: int) -> Tensor:
    """The stream steps of the best-scored memories, (B, up to ranks); the choice the normalisers make."""
    best = mask_padding(scores, memory.padding)[0].topk(min(ranks, memory.slots), dim=1)
    return memory.step.gather(1, best.indices).masked_fill(best.values.isneginf(), NOTHING)


def _victims(memory: Memory, evict: Evict) -> Tensor:
    slot = evict(memory)
    if not isinstance(cast("object", slot), Tensor):
        raise ValueError(f"evict must return a tensor with one int64 slot per row, got {type(slot).__name__}")
    if slot.shape != memory.count.shape or slot.dtype != torch.int64:
        raise ValueError(
            f"evict must return one int64 slot per row, shape {tuple(memory.count.shape)}; "
            f"got {slot.dtype} of shape {tuple(slot.shape)}"
        )
    if bool(((slot < 0) | (slot >= memory.slots)).any()):
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
