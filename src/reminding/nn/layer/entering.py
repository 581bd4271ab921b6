"""What may be passed to a call of a layer: input and state, compared with what the layer takes.

Shapes: L layers, B batch, T time, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from reminding.nn.state.stream import SABState


def check_input(x: Tensor, input_size: int, like: Tensor, encoded: bool) -> None:
    """Compare the input in its inner layout (T, B, I) with the layer's size, type and device."""
    name = "encoder(input)" if encoded else "input"
    if x.shape[2] != input_size:
        raise ValueError(f"{name} must have input_size={input_size} features in its last axis, got {x.shape[2]}")
    if x.device != like.device:
        raise ValueError(f"{name} must be on the layer's device {like.device}, got {x.device}")
    if x.dtype != like.dtype and not (x.is_floating_point() and torch.is_autocast_enabled(like.device.type)):
        raise ValueError(f"{name} must be {like.dtype} as the layer's parameters, got {x.dtype}")


def check_state(state: SABState, fresh: SABState) -> None:
    """Compare a state that was handed in with one that this layer would begin with."""
    if state.batched != fresh.batched:
        kinds = {True: "batched", False: "unbatched"}
        raise ValueError(f"state comes from {kinds[state.batched]} input, this input is {kinds[fresh.batched]}")
    if len(state.layers) != len(fresh.layers):
        raise ValueError(f"state must have {len(fresh.layers)} layers, got {len(state.layers)}")
    if state.zero_slot != fresh.zero_slot:
        raise ValueError("state comes from a layer with other semantics")
    for number, (layer, wanted) in enumerate(zip(state.layers, fresh.layers, strict=True)):
        got = [tuple(tensor.shape) for tensor in (layer.h, *layer.cell_state)]
        want = [tuple(tensor.shape) for tensor in (wanted.h, *wanted.cell_state)]
        if got != want:
            raise ValueError(f"state must have h and c of shapes {want} in layer {number}, got {got}")
        if layer.h.device != wanted.h.device or layer.h.dtype != wanted.h.dtype:
            raise ValueError(
                f"state must be {wanted.h.dtype} on {wanted.h.device}, got {layer.h.dtype} on {layer.h.device}; "
                "state.to(...) moves it"
            )


def check_capacity(state: SABState, capacity: int | None) -> None:
    """Refuse a state that holds more memories than the layer may."""
    held = max((int(layer.memory.count.max()) for layer in state.layers if len(layer.memory.count)), default=0)
    if capacity is not None and held > capacity:
        raise ValueError(f"state holds {held} memories a row, more than the layer's capacity={capacity}")


def begin_from(given: Any, fresh: SABState) -> SABState:
    """A new stream that starts from (h, c) or h, as `nn.LSTM` and `nn.GRU` take them; their gradient is kept."""
    tensors: tuple[Any, ...] = tuple(cast("Iterable[Any]", given)) if isinstance(given, tuple | list) else (given,)
    wanted = [fresh.h, *(torch.stack(peers) for peers in zip(*(x.cell_state for x in fresh.layers), strict=True))]
    if not fresh.batched:
        wanted[1:] = [tensor[:, 0] for tensor in wanted[1:]]
    if not all(isinstance(tensor, Tensor) for tensor in tensors):
        raise ValueError(f"state must be a SABState or tensors, got {[type(tensor).__name__ for tensor in tensors]}")
    got, want = [tuple(tensor.shape) for tensor in tensors], [tuple(tensor.shape) for tensor in wanted]
    if got != want:
        raise ValueError(f"state must be tensors of shapes {want}, got {got}")
    for tensor in tensors:
        if tensor.dtype != fresh.h.dtype or tensor.device != fresh.h.device:
            raise ValueError(
                f"state must be {fresh.h.dtype} on {fresh.h.device}, got {tensor.dtype} on {tensor.device}"
            )
    rows: list[Tensor] = [tensor if fresh.batched else tensor.unsqueeze(1) for tensor in tensors]
    layers = tuple(
        replace(layer, h=rows[0][i], cell_state=tuple(tensor[i] for tensor in rows[1:]))
        for i, layer in enumerate(fresh.layers)
    )
    return replace(fresh, layers=layers)
