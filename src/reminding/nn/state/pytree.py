"""States as pytrees: so that DDP, torch.func and tree_map find the tensors in them.

The leaves are each layer's h, further state and memory. Counts stay on the host, in the context, and so does the
history, which follows its leaves to another device or type.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from torch import Tensor
from torch.utils import _pytree

from reminding.nn.state.stream import LayerState, SABState


def _flatten(state: SABState) -> tuple[list[Any], SABState]:
    leaves: list[Any] = []
    for layer in state.layers:
        memory = layer.memory
        leaves += [layer.h, *layer.cell_state, memory.value, memory.step, memory.weight]
    return leaves, state


def _unflatten(leaves: Any, state: SABState) -> SABState:
    given = iter(leaves)
    layers: list[LayerState] = []
    for layer in state.layers:
        h, further = next(given), tuple(next(given) for _ in layer.cell_state)
        memory = replace(layer.memory, value=next(given), step=next(given), weight=next(given))
        layers.append(replace(layer, h=h, cell_state=further, memory=memory))
    return replace(state, layers=tuple(layers), history=_following(state, layers[0].h))


def _following(state: SABState, h: object) -> Any:
    """The history on the device and of the type that the state's h has now, which may be no tensor."""
    before = state.layers[0].h
    if not isinstance(h, Tensor) or (h.device == before.device and h.dtype == before.dtype):
        return state.history

    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(device=h.device, dtype=h.dtype if tensor.is_floating_point() else None)

    return state.history.map(moved)


def register() -> None:
    """Tell PyTorch."""
    if SABState not in _pytree.SUPPORTED_NODES:
        cast("Any", _pytree).register_pytree_node(
            SABState, _flatten, _unflatten, serialized_type_name="reminding.SABState"
        )
