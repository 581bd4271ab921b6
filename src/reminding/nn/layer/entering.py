"""What may be passed to a call of a layer: input and state, compared with what the layer takes.

Shapes: L layers, B batch, T time, I input, H hidden.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from reminding.checks import MOST
from reminding.nn.forward.reference import autocast_type
from reminding.nn.layer import surroundings
from reminding.nn.parts.cells import Shape
from reminding.nn.parts.rule import Rule
from reminding.nn.state import unpacked
from reminding.nn.state.made_by import MadeBy
from reminding.nn.state.past.history import History
from reminding.nn.state.past.maker import Maker
from reminding.nn.state.stream import LayerState, SABState, fresh_state


def check_input(x: Tensor, input_size: int, like: Tensor, name: str) -> None:
    """Compare an input (..., I) with the layer's size, type and device.

    Args:
        like: a parameter; name: of the argument.

    Raises:
        ValueError: the input does not fit, and the message names it; or the layer has no floating-point type.
    """
    if not like.dtype.is_floating_point:
        raise ValueError(f"the layer must have parameters of a floating-point type such as float32, got {like.dtype}")
    if x.shape[-1] != input_size:
        raise ValueError(f"{name} must have input_size={input_size} features in its last axis, got {x.shape[-1]}")
    if x.device != like.device:
        raise ValueError(f"{name} must be on the layer's device {like.device}, got {x.device}")
    if x.dtype != like.dtype and not (x.is_floating_point() and autocast_type(like.device.type) is not None):
        raise ValueError(f"{name} must be {like.dtype} as the layer's parameters, got {x.dtype}")


class _Layer(Protocol):
    """What the states of a layer depend on."""

    hidden_size: int
    state_shapes: list[tuple[Shape, ...]]
    rule: Rule

    @property
    def made_by(self) -> MadeBy:
        """Which layer it is."""
        ...

    @property
    def maker(self) -> Maker:
        """The layer with its present parameters and modules."""
        ...

    def like(self) -> Tensor:
        """A tensor of the layer's device and type."""
        ...


def blank(layer: _Layer, rows: int, batched: bool) -> SABState:
    """What a state that this layer would begin with looks like, for `check_state`; it is not to be run."""
    like, shapes = layer.like(), tuple(layer.state_shapes)
    known = _blank(rows, layer.hidden_size, shapes, like.dtype, like.device, layer.rule.zero_slot)
    return replace(known, batched=batched, made_by=layer.made_by, history=History(maker=layer.maker))


def check_entering(layer: _Layer, state: SABState, rows: int, batched: bool, transform: str | None) -> None:
    """Compare a state that was handed in with what the layer takes for an input of so many rows.

    Args:
        transform: of derivatives that is in force, see `Demand`.

    Raises:
        ValueError: the state does not fit, holds too many memories, or has a past that the transform cannot reach.
    """
    check_state(state, blank(layer, rows, batched))
    check_capacity(state, layer.rule.capacity)
    if transform is not None and layer.rule.horizon != 0:
        surroundings.check_no_past(state, tensors_of(state), transform)


@lru_cache(maxsize=16)
def _blank(
    rows: int, size: int, shapes: tuple[tuple[Shape, ...], ...], dtype: torch.dtype, device: torch.device, zero: bool
) -> SABState:
    return fresh_state(rows, size, shapes, torch.empty(0, dtype=dtype, device=device), zero)


def check_state(state: SABState, fresh: SABState) -> None:
    """Compare a state that was handed in with one that this layer would begin with.

    Args:
        fresh: it, or what it looks like; it knows this layer as the one that made it.

    Raises:
        ValueError: rows, layers, semantics, a shape, a type or a device differ; a count is out of range; or
            another layer's past calls are in it. The message names what differs.
    """
    if state.batched != fresh.batched:
        kinds = {True: "batched", False: "unbatched"}
        raise ValueError(f"state comes from {kinds[state.batched]} input, this input is {kinds[fresh.batched]}")
    if len(state.layers) != len(fresh.layers):
        raise ValueError(f"state must have {len(fresh.layers)} layers, got {len(state.layers)}")
    if state.zero_slot != fresh.zero_slot:
        kinds = {True: "release", False: "paper"}
        raise ValueError(
            f"state comes from a layer with semantics={kinds[state.zero_slot]!r}, this layer has "
            f"semantics={kinds[fresh.zero_slot]!r}"
        )
    if state.batch_size != fresh.batch_size:
        raise ValueError(
            f"state must have a row for each of the input's {fresh.batch_size} rows, got {state.batch_size}; "
            "state.rows(index) is the state of some of its rows"
        )
    for number, (layer, wanted) in enumerate(zip(state.layers, fresh.layers, strict=True)):
        parts = zip((layer.h, *layer.cell_state), (wanted.h, *wanted.cell_state), strict=False)
        got = [tuple(tensor.shape) for tensor in (layer.h, *layer.cell_state)]
        want = [tuple(tensor.shape) for tensor in (wanted.h, *wanted.cell_state)]
        if got != want:
            raise ValueError(f"state must have h and c of shapes {want} in layer {number}, got {got}")
        for tensor, like in parts:
            if tensor.device != like.device or tensor.dtype != like.dtype:
                raise ValueError(
                    f"state must be {like.dtype} on {like.device}, got {tensor.dtype} on {tensor.device}; "
                    f"state.to(...) moves it (h and c of layer {number})"
                )
        _check_memory(layer, wanted, number)
    _check_counts("state.step", state.step, fresh.batch_size, most=MOST)
    if fresh.made_by is not None:
        check_maker(state, fresh.made_by, fresh.history.maker if torch.is_grad_enabled() else None)


def _check_memory(layer: LayerState, wanted: LayerState, number: int) -> None:
    """Compare a layer's memory with its h: shapes, types and counts, on which compiled code relies."""
    memory, (rows, size) = layer.memory, wanted.h.shape
    slots = memory.value.shape[1] if memory.value.dim() == 3 else 0
    wants = {
        "value": ((rows, slots, size), wanted.h.dtype),
        "step": ((rows, slots), torch.int64),
        "weight": ((rows, slots), wanted.h.dtype),
    }
    for name, (shape, kind) in wants.items():
        tensor: Tensor = getattr(memory, name)
        if tuple(tensor.shape) != shape or tensor.dtype != kind:
            raise ValueError(
                f"state.layers[{number}].memory.{name} must be {kind} of shape {shape}, "
                f"got {tensor.dtype} of shape {tuple(tensor.shape)}"
            )
    if memory.counts_as_made:
        return
    _check_counts(f"state.layers[{number}].memory.count", memory.count, rows, slots)
    if slots > 1 and memory.step.is_cpu and bool((memory.ascending_steps.diff(dim=1) < 0).any()):
        raise ValueError(f"state.layers[{number}].memory.step must ascend among the filled slots of each row")


def _check_counts(name: str, count: Tensor, rows: int, most: int) -> None:
    """Whether a tensor counts something for each row, on the host: (B,) int64, none negative, none above `most`."""
    if count.dtype != torch.int64 or tuple(count.shape) != (rows,) or count.device.type != "cpu":
        raise ValueError(
            f"{name} must be int64 of shape ({rows},) on the host, got {count.dtype} of shape {tuple(count.shape)} "
            f"on {count.device}"
        )
    least, largest = (int(end) for end in count.aminmax()) if rows else (0, 0)
    if least < 0 or largest > most:
        raise ValueError(f"{name} must be at least 0 and at most {most}, got {count.tolist()}")


def check_maker(state: SABState, layer: MadeBy, maker: Maker | None) -> None:
    """Refuse a state whose past calls a layer cannot run again.

    Args:
        layer: the settings of the layer that takes the state.
        maker: that layer with its present modules; None without gradient, where no call is run again.

    Raises:
        ValueError: a layer with other settings made it, or the same with another module, and it has past calls.
    """
    then = state.history.maker
    exchanged = [] if then is None or maker is None else then.exchanged(maker)
    if exchanged and not state.history.empty:
        raise ValueError(
            f"state comes from calls of another {exchanged[0]} than the layer's present one, which cannot run them "
            "again for the credit that may reach them; state.detach() goes on without them"
        )
    if state.made_by is None or state.made_by == layer:
        return
    names = state.made_by.unlike(layer)
    if names and not state.history.empty:
        raise ValueError(
            f"state comes from a layer with {state.made_by.told(names)}, this layer has {layer.told(names)}, "
            "so it cannot run the past calls again that credit may reach; state.detach() goes on without them"
        )


def warn_of_another_layer(state: SABState, layer: Maker) -> None:
    """Warn of a state in another layer's graph, as an encoder's is to its decoder: its gradient would end here.

    Args:
        layer: the one that is called.
    """
    if not (torch.is_grad_enabled() and state.layers[0].h.requires_grad):
        return
    if unpacked.another(state.history.maker, layer):
        warnings.warn(
            "state comes from another layer, whose parameters get no gradient through it: tuple(state) begins a new "
            "stream from h and c with their gradient, as a decoder does from its encoder; state.detach() goes on "
            "from the numbers, with the memory",
            stacklevel=9,
        )


def check_capacity(state: SABState, capacity: int | None) -> None:
    """Refuse a state that holds more memories than the layer may.

    Raises:
        ValueError: a row holds more than the capacity.
    """
    if capacity is None:
        return
    held = max((int(layer.memory.count.max()) for layer in state.layers if len(layer.memory.count)), default=0)
    if held > capacity:
        raise ValueError(f"state holds {held} memories a row, more than the layer's capacity={capacity}")


def tensors_of(given: Any) -> list[Tensor]:
    """The tensors of h and of the cell's further state in what is given as a state."""
    if isinstance(given, SABState):
        return [tensor for layer in given.layers for tensor in (layer.h, *layer.cell_state)]
    every = cast("Iterable[Any]", given) if isinstance(given, tuple | list) else (given,)
    return [tensor for tensor in every if isinstance(tensor, Tensor)]


def begin_from(given: Any, fresh: SABState) -> SABState:
    """A new stream that starts from (h, c) or h, as `nn.LSTM` and `nn.GRU` take them; their gradient is kept.

    Under autocast they may have the lower precision, as what another module gave may.

    Args:
        given: h, or (h, c), (L, B, H) each; without the batch axis for unbatched input.

    Raises:
        ValueError: other tensors are given, or their shapes, type or device differ.
    """
    tensors: tuple[Any, ...] = tuple(cast("Iterable[Any]", given)) if isinstance(given, tuple | list) else (given,)
    if tensors and isinstance(tensors[0], Tensor) and unpacked.came_from_a_state(tensors[0], fresh.history.maker):
        warnings.warn(
            "state was given as the tensors that a SABState unpacked into, which leaves its memory behind: a new "
            "stream begins. Pass the state itself; state.detach() cuts it from the past",
            stacklevel=9,
        )
    wanted = [fresh.h, *(torch.stack(peers) for peers in zip(*(x.cell_state for x in fresh.layers), strict=True))]
    if not fresh.batched:
        wanted[1:] = [tensor[:, 0] for tensor in wanted[1:]]
    if not all(isinstance(tensor, Tensor) for tensor in tensors):
        raise ValueError(f"state must be a SABState or tensors, got {[type(tensor).__name__ for tensor in tensors]}")
    got, want = [tuple(tensor.shape) for tensor in tensors], [tuple(tensor.shape) for tensor in wanted]
    if got != want:
        raise ValueError(f"state must be tensors of shapes {want}, got {got}")
    mixed = autocast_type(fresh.h.device.type) is not None
    for tensor in tensors:
        fits = tensor.dtype == fresh.h.dtype or (mixed and tensor.is_floating_point())
        if not fits or tensor.device != fresh.h.device:
            raise ValueError(
                f"state must be {fresh.h.dtype} on {fresh.h.device}, got {tensor.dtype} on {tensor.device}"
            )
    # Copies: what is recorded of a call are the current numbers, whatever becomes of the caller's tensors.
    own = [tensor.to(fresh.h.dtype, copy=True) for tensor in tensors]
    rows: list[Tensor] = [tensor if fresh.batched else tensor.unsqueeze(1) for tensor in own]
    layers = tuple(
        replace(layer, h=rows[0][i], cell_state=tuple(tensor[i] for tensor in rows[1:]))
        for i, layer in enumerate(fresh.layers)
    )
    return replace(fresh, layers=layers)
