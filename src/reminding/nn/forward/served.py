"""A call of a layer without gradient that goes on from a state, on the slots that the state's memories are in.

Shapes: L layers, B batch, T time, I input, K recalled memories, H hidden.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from reminding.nn.forward.packed_weights import LayerWeights, Weights
from reminding.nn.forward.reader import recall_of
from reminding.nn.forward.slots import KeptMemory, empty, for_next_call, load, memory_of
from reminding.nn.state.stream import LayerState, Recall, SABState
from reminding.ops.serving import Served, StreamState

LONGEST = 32
"""Steps of a call up to which it is run on slots: of more, laying out the memories is a small part."""


def goes_on(state: SABState, weights: Weights) -> bool:
    """Whether a state is as a served call returned it, and so fits the layer."""
    rows = len(state.step)
    return (
        len(state.layers) == len(weights.layers)
        and state.made_by == weights.made_by
        and state.step.dtype == torch.int64
        and (rows == 0 or int(state.step.min()) >= 0)
        and all(_goes_on(layer, rows, weights) for layer in state.layers)
    )


def _goes_on(layer: LayerState, rows: int, weights: Weights) -> bool:
    like, tensors = weights.like, (layer.h, *layer.cell_state)
    wanted = (rows, weights.made_by.hidden_size)
    return (
        isinstance(layer.memory.kept, KeptMemory)
        and layer.memory.is_as_kept
        and layer.memory.kept.weights.op_rule.capacity == weights.layers[0].op_rule.capacity
        and len(layer.memory.kept.slots.step) == rows
        and all(tensor.shape == wanted and tensor.dtype == like.dtype and tensor.is_cpu for tensor in tensors)
    )


def run(x: Tensor, state: SABState, weights: Weights, record: bool) -> tuple[Tensor, SABState, Recall | None]:
    """Run all layers over x (T, B, I), on from a state that fits them and stays as it is.

    Args:
        record: whether to return what was recalled.
    """
    x = x.detach().contiguous()
    layers: list[LayerState] = []
    recalls: list[Recall] = []
    for before, mine in zip(state.layers, weights.layers, strict=True):
        stored = -(-len(x) // mine.k_att)
        kept = _kept(before, mine, weights, stored)
        h = before.h.detach()
        c = before.cell_state[0].detach().contiguous() if before.cell_state else h[:, :0].contiguous()
        given = StreamState(h.contiguous(), c, state.step)
        served = weights.server.serve(
            x, given, mine.packed, kept.slots, kept.held, torch.empty_like(c), mine.op_rule, record
        )
        x = served.output
        memory = memory_of(kept.less_free(stored))
        layers.append(LayerState(x[-1].clone(), (served.c,) if before.cell_state else (), memory))
        recalls += [recalled(served, weights)] if record else []
    after = SABState(tuple(layers), state.step + len(x), state.batched, state.zero_slot, made_by=weights.made_by)
    return x, after, stacked(recalls) if record else None


def restarted(state: SABState, mask: Tensor, weights: Weights) -> SABState:
    """A state with new streams in the marked rows, on the slots of the one given if it has any.

    The state given stays as it is: the new streams' memories begin behind its own.

    Args:
        mask: (B,) bool on the host.
    """
    if not all(_has_slots(layer, mine) for layer, mine in zip(state.layers, weights.layers, strict=True)):
        return state.reset(mask)
    layers: list[LayerState] = []
    for before in state.layers:
        with torch.inference_mode(False), torch.no_grad():
            kept = for_next_call(before.memory.kept, room=int(state.zero_slot))
            empty(kept, mask, kept.held.window[mask, 1], state.zero_slot)
        h, *further = (tensor.detach().masked_fill(mask.unsqueeze(1), 0) for tensor in (before.h, *before.cell_state))
        layers.append(LayerState(h, tuple(further), memory_of(kept.less_free(int(state.zero_slot)))))
    return replace(state, layers=tuple(layers), step=state.step.masked_fill(mask, 0))


def _has_slots(layer: LayerState, weights: LayerWeights) -> bool:
    """Whether a layer's memories are in slots, with the keys that its weights make."""
    kept = layer.memory.kept
    return isinstance(kept, KeptMemory) and kept.weights is weights and layer.memory.is_as_kept


def _kept(before: LayerState, mine: LayerWeights, weights: Weights, room: int) -> KeptMemory:
    """A layer's memories with the keys that its weights make, for this call to write to."""
    going_on = _has_slots(before, mine)
    if going_on and not torch.is_inference_mode_enabled():
        return for_next_call(before.memory.kept, room)
    with torch.inference_mode(False), torch.no_grad():  # later calls in any mode write to what is made here
        return (
            for_next_call(before.memory.kept, room) if going_on else load(before.memory, mine, weights.server, room)
        )


def recalled(served: Served, weights: Weights) -> Recall:
    """What one layer recalled, (T, B, ...)."""
    _, summary, _, weight, step = served
    assert summary is not None and weight is not None and step is not None, "they were asked for"
    return recall_of(summary, step, weight, raw=weights.rule.weighs_raw)


def stacked(recalls: list[Recall]) -> Recall:
    """The recalls of all layers as one, with an axis of layers before steps and weights."""
    step, weight = (torch.stack([getattr(recall, name) for recall in recalls]) for name in ("step", "weight"))
    return Recall(recalls[-1].summary, step, weight)
