"""The recurrence over time, differentiated by autograd, as the paper's Algorithm 1 says it.

This is the definition every other engine is held to: a plain loop whose gradient is whatever autograd
gives for it, with the detaches written here and no others.

Shapes: B batch, T time, I input, M memory slots, K recalled slots, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from reminding.nn.cells import Extra, Step
from reminding.nn.memory import Evict, Memory
from reminding.nn.scorers import Scorer
from reminding.nn.state import LayerState, Recall
from reminding.ops import reference
from reminding.ops.sparsify import Normalizer


@dataclass(frozen=True)
class Rule:
    """The constants of the recurrence; `SAB` explains each."""

    k_top: int | None
    k_att: int
    k_trunc: int | None
    semantics: str
    normalizer: Normalizer
    capacity: int | None
    evict: Evict
    backtrack: bool

    def cuts(self, step: int) -> bool:
        """Whether (h, c) are detached before this step."""
        return reference.cuts_before(step, self.k_trunc, self.semantics)

    def stores(self, step: int) -> bool:
        """Whether h goes to memory after this step."""
        return reference.stores_after(step, self.k_att)


def unroll(
    x: Tensor, state: LayerState, taken: Tensor, cell: Step, scorer: Scorer | None, rule: Rule, record: bool
) -> tuple[Tensor, LayerState, Recall | None]:
    """Run one layer over a stretch of time.   [Ke et al. 2018, Algorithm 1]

    Args:
        x: input, (T, B, I).
        state: the layer's state before it.
        taken: steps each row's stream has taken before, (B,) int64 on the host.
        scorer: None where k_top = 0: nothing is remembered.
        record: whether to note what was recalled.

    Returns:
        output (T, B, H), the state after it, and the recall with time-major layout if asked for.

    Under autocast only the cells see the lower precision. State, scores and memory stay in the parameters'
    type: sums over thousands of steps and the choice of the best few need it, and cost little beside the cells.
    """
    kind = x.device.type
    if not torch.is_autocast_enabled(kind):
        return _loop(x, state, taken, cell, scorer, rule, record)
    with torch.autocast(kind, enabled=False):
        return _loop(x, state, taken, _under_autocast(cell, kind), scorer, rule, record)


def _under_autocast(cell: Step, kind: str) -> Step:
    lower = torch.get_autocast_dtype(kind)

    def step(x: Tensor, h: Tensor, extra: Extra) -> tuple[Tensor, Extra]:
        with torch.autocast(kind, dtype=lower):
            h_hat, further = cell(x, h, extra)
        return h_hat.to(h.dtype), tuple(new.to(old.dtype) for new, old in zip(further, extra, strict=True))

    return step


def _loop(
    x: Tensor, state: LayerState, taken: Tensor, cell: Step, scorer: Scorer | None, rule: Rule, record: bool
) -> tuple[Tensor, LayerState, Recall | None]:
    h, extra, memory = state.h, state.extra, state.memory
    if scorer is not None:
        memory = replace(memory, keys=scorer.keys(memory.value))
    streams = cast("list[int]", taken.tolist())
    outputs: list[Tensor] = []
    recalls: list[Recall] = []
    for t, x_t in enumerate(x.unbind(0)):
        h, extra = _cut(h, extra, _rows_due(rule.cuts, streams, t + 1))
        h_hat, extra = cell(x_t, h, extra)
        h, memory, recall = _remind(h_hat, memory, scorer, rule, record)
        if scorer is not None:
            memory = _store(h, memory, _rows_due(rule.stores, streams, t + 1), taken + t + 1, scorer, rule)
        outputs.append(h)
        if recall is not None:
            recalls.append(recall)
    output = torch.stack(outputs) if outputs else h.new_zeros(0, *h.shape)
    after = LayerState(h, extra, replace(memory, keys=None))
    return output, after, _stack_recalls(recalls, rule.k_top, h) if record else None


def _rows_due(due: Callable[[int], bool], streams: list[int], ahead: int) -> Tensor | bool:
    """In which rows something is due `ahead` steps on: all (True), none (False), or a host mask (B,)."""
    answer = {taken: due(taken + ahead) for taken in set(streams)}
    if len(set(answer.values())) <= 1:
        return any(answer.values())
    return torch.tensor([answer[taken] for taken in streams])


def _cut(h: Tensor, extra: Extra, rows: Tensor | bool) -> tuple[Tensor, Extra]:
    """Detach (h, c) in the given rows: no gradient passes from this step to the one before."""
    if rows is False:
        return h, extra
    return _detach_rows(h, rows), tuple(_detach_rows(tensor, rows) for tensor in extra)


def _detach_rows(tensor: Tensor, rows: Tensor | bool) -> Tensor:
    if isinstance(rows, bool):
        return tensor.detach()
    return torch.where(rows.to(tensor.device).view(-1, *[1] * (tensor.dim() - 1)), tensor.detach(), tensor)


def _remind(
    h_hat: Tensor, memory: Memory, scorer: Scorer | None, rule: Rule, record: bool
) -> tuple[Tensor, Memory, Recall | None]:
    """Read the memory with the provisional state and add what it says: h = h_hat + s."""
    if scorer is None or memory.slots == 0:
        nothing = h_hat.new_zeros(h_hat.shape[0], 0)
        return h_hat, memory, Recall(torch.zeros_like(h_hat), nothing.long(), nothing) if record else None
    assert memory.keys is not None, "the keys are made when a call begins"
    scores = scorer.scores(memory.keys, h_hat)  # (B, M)
    weights = rule.normalizer(scores, rule.k_top, memory.padding)  # (B, M)
    summary = reference.summarize(weights, memory.value)  # (B, H)
    if rule.capacity is not None:
        memory = replace(memory, weight=memory.weight + weights.detach())
    return h_hat + summary, memory, _noted(summary, weights.detach(), memory, rule.k_top) if record else None


def _noted(summary: Tensor, weights: Tensor, memory: Memory, k_top: int | None) -> Recall:
    """The slots that got a weight, largest first: their steps and weights, (B, K) each."""
    kept = memory.slots if k_top is None else min(k_top, memory.slots)
    best = weights.masked_fill(weights == 0, float("-inf")).topk(kept, dim=1)
    nothing = best.values.isneginf()
    step = memory.step.gather(1, best.indices).masked_fill(nothing, 0)
    return Recall(summary, step, best.values.masked_fill(nothing, 0.0))


def _store(h: Tensor, memory: Memory, rows: Tensor | bool, step: Tensor, scorer: Scorer, rule: Rule) -> Memory:
    """Append h where it is due, after making room where the memory is full."""
    if rows is False:
        return memory
    every = rows is True
    stores = torch.ones_like(memory.count, dtype=torch.bool) if isinstance(rows, bool) else rows
    if rule.capacity is not None:
        full = stores & (memory.count >= rule.capacity)
        if bool(full.any()):
            memory = memory.without(_victims(memory, rule.evict), full)
    stored = h if rule.backtrack else h.detach()
    return memory.append(stored, scorer.keys(stored), step.to(h.device), None if every else stores)


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
        step=torch.stack([_widened(recall.step, width) for recall in recalls]),
        weight=torch.stack([_widened(recall.weight, width) for recall in recalls]),
    )


def _widened(tensor: Tensor, width: int) -> Tensor:
    missing = width - tensor.shape[1]
    return torch.cat([tensor, tensor.new_zeros(len(tensor), missing)], dim=1) if missing else tensor
