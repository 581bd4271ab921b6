"""States that were unpacked into tensors: so that a layer can tell a new stream from one that lost its memory.

`state = tuple(t.detach() for t in state)`, as nn.LSTM's users cut a state from its graph, leaves the memory behind.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

MOST = 16
"""Tensors that are remembered: those of the states unpacked last."""

_unpacked: deque[tuple[int, Tensor]] = deque(maxlen=MOST)


def note(h: Tensor) -> None:
    """Remember the h that a state with memories was unpacked into, by where it lies and what it holds."""
    if _lies_nowhere(h):
        return
    _unpacked.append((h.data_ptr(), h.detach().clone()))


def came_from_a_state(h: Tensor) -> bool:
    """Whether a tensor is one of those, with or without its graph."""
    if _lies_nowhere(h):
        return False
    place = h.data_ptr()
    return any(
        place == there and h.shape == held.shape and h.dtype == held.dtype and torch.equal(h.detach(), held)
        for there, held in tuple(_unpacked)  # to which other threads may add meanwhile
    )


def _lies_nowhere(h: Tensor) -> bool:
    """Whether a tensor has no memory of its own to be known by: on the meta device, or under torch.func."""
    return h.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(h)  # pyright: ignore
