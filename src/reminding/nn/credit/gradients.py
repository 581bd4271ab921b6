"""Gradients as replays take and add them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

MaybeTensors = Sequence[Tensor | None]


def total(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The sum of two gradients, where None is no gradient."""
    return other if one is None else one if other is None else one + other


def totals(one: MaybeTensors, other: MaybeTensors) -> list[Tensor | None]:
    """The sums of two gradients of the same tensors."""
    return [total(*pair) for pair in zip(one, other, strict=True)]


def gradients(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], d_outputs: Sequence[Tensor], create_graph: bool = False
) -> list[Tensor | None]:
    """The gradient of each input; None for those that take none or that nothing reaches."""
    reached = [(output, d) for output, d in zip(outputs, d_outputs, strict=True) if output.requires_grad]
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    if not reached or not wanted:
        return [None] * len(inputs)
    grad = cast("Callable[..., tuple[Tensor | None, ...]]", torch.autograd.grad)
    ends, arriving = zip(*reached, strict=True)
    found = iter(grad(ends, wanted, arriving, allow_unused=True, create_graph=create_graph))
    return [next(found) if tensor.requires_grad else None for tensor in inputs]
