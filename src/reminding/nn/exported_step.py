"""One step of a layer on padded memories, in tensors alone, so that torch.export can trace it.

Shapes: B batch, I input, M memory slots, H hidden, D score width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from reminding.nn.parts.bound import BoundLayer
from reminding.nn.parts.cells import CellState
from reminding.nn.parts.rule import Rule
from reminding.ops.sparsify import best_by_age, mask_padding


class Slots(NamedTuple):
    """The memory of one layer, padded: the first `filled` slots of a row are, oldest first."""

    value: Tensor  # (B, M, H)
    step: Tensor  # (B, M) int64, the stream step each was stored at
    weight: Tensor  # (B, M), recall weight received so far; counted only with a capacity
    keys: Tensor  # (B, M, D)
    filled: Tensor  # (B,) int64


class LayerTensors(NamedTuple):
    """The state of one layer; without memory where nothing is remembered."""

    h: Tensor  # (B, H)
    cell_state: CellState  # (B, ...) each
    memory: Slots | None


def layer_step(bound: BoundLayer, rule: Rule, x: Tensor, step: Tensor, state: LayerTensors) -> LayerTensors:
    """One step of one layer, as in `forward.reference.loop`; step (B,): the number of this step."""
    h, cell_state = bound.cell(x, state.h, state.cell_state)
    if state.memory is None or bound.scorer is None:
        return LayerTensors(h, cell_state, None)
    memory = state.memory
    weights = _weigh(bound.scorer.scores(memory.keys, h), rule, memory.filled)
    h_hat = h
    h = h_hat + bound.scorer.summary(weights, memory.value)
    if rule.capacity is not None:
        memory = Slots(memory.value, memory.step, memory.weight + weights, memory.keys, memory.filled)
    stores = step % rule.k_att == 0
    full = stores & (memory.filled >= memory.value.shape[1])
    if rule.capacity is None:
        h = h.masked_fill(full.unsqueeze(1), float("nan"))
    else:
        memory = _without_victim(memory, rule, full)
    value = h_hat if rule.stores_proposal else h
    return LayerTensors(h, cell_state, _stored(memory, value, bound.scorer.keys(value), step, stores))


def _weigh(scores: Tensor, rule: Rule, count: Tensor) -> Tensor:
    """The weight of each slot, (B, M), as `Normalizer` gives it where every slot may be padding."""
    scores, _ = mask_padding(scores, count)
    slots = scores.shape[1]
    ranks = rule.ranks
    if ranks is not None and rule.capacity is not None:
        ranks = min(ranks, slots)
    if ranks is None:
        best, places = scores.topk(slots, dim=1)
    else:
        places = best_by_age(scores, ranks)
        best, order = scores.gather(1, places).topk(ranks, dim=1)
        places = places.gather(1, order)
    filled = count.clamp(max=best.shape[1])
    ranked = rule.weights.rank(best, slots if rule.k_top is None else rule.k_top, filled)
    return torch.zeros_like(scores).scatter(1, places, rule.recall_scale * ranked.weights)


def _without_victim(memory: Slots, rule: Rule, full: Tensor) -> Slots:
    """The memory without the slot that is evicted in the rows that are full, the gap closed."""
    slot = torch.arange(memory.value.shape[1], device=full.device)
    victim = memory.weight.argmin(dim=1) if rule.evict == "least_recalled" else torch.zeros_like(memory.filled)
    behind = (slot >= victim.unsqueeze(1)) & full.unsqueeze(1)
    source = (slot + behind).clamp(max=memory.value.shape[1] - 1)  # (B, M)
    return Slots(
        value=_taken(memory.value, source),
        step=_taken(memory.step, source),
        weight=_taken(memory.weight, source),
        keys=_taken(memory.keys, source),
        filled=memory.filled - full.to(memory.filled.dtype),
    )


def _taken(tensor: Tensor, source: Tensor) -> Tensor:
    index = source if tensor.dim() == 2 else source.unsqueeze(2).expand(-1, -1, tensor.shape[2])
    return tensor.gather(1, index)


def _stored(memory: Slots, h: Tensor, keys: Tensor, step: Tensor, stores: Tensor) -> Slots:
    """The memory with h behind the filled slots of the rows that store."""
    slot = torch.arange(memory.value.shape[1], device=h.device)
    place = (slot == memory.filled.unsqueeze(1)) & stores.unsqueeze(1)  # (B, M)
    return Slots(
        value=torch.where(place.unsqueeze(2), h.unsqueeze(1), memory.value),
        step=torch.where(place, step.unsqueeze(1), memory.step),
        weight=memory.weight.masked_fill(place, 0.0),
        keys=torch.where(place.unsqueeze(2), keys.unsqueeze(1), memory.keys),
        filled=memory.filled + stores.to(memory.filled.dtype),
    )
