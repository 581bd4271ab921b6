"""States that were unpacked into tensors: so that a layer can tell a new stream from one that lost its memory.

`state = tuple(t.detach() for t in state)`, as nn.LSTM's users cut a state from its graph, leaves the memory behind.

Shapes: L layers, B batch, H hidden; h is (L, B, H), or (L, H) unbatched.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from reminding.nn.state.past.maker import Maker

MOST = 16
"""Tensors that are remembered: those of the states unpacked last."""

_unpacked: deque[tuple[int, Tensor, Maker | None]] = deque(maxlen=MOST)


def note(h: Tensor, maker: Maker | None) -> None:
    """Remember the h that a state with memories was unpacked into, by where it lies and what it holds."""
    if _lies_nowhere(h):
        return
    _unpacked.append((h.data_ptr(), h.detach().clone(), maker))


def came_from_a_state(h: Tensor, layer: Maker | None) -> bool:
    """Whether a tensor is one of those, with or without its graph, and no other layer's than this one's.

    One of a layer that is gone is not: what lies in its place now may have the same numbers by chance.
    """
    if _lies_nowhere(h):
        return False
    place = h.data_ptr()
    return any(
        place == there and h.shape == held.shape and h.dtype == held.dtype and torch.equal(h.detach(), held)
        for there, held, maker in tuple(_unpacked)  # to which other threads may add meanwhile
        if not another(maker, layer) and (maker is None or maker.layer is not None)
    )


def another(maker: Maker | None, layer: Maker | None) -> bool:
    """Whether the layer that made a state is known, and another one than this."""
    made = None if maker is None else maker.layer
    return made is not None and (layer is None or layer.layer is not made)


def _lies_nowhere(h: Tensor) -> bool:
    """Whether a tensor has no memory of its own to be known by: on the meta device, or under torch.func."""
    return h.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(h)  # pyright: ignore
