"""Backward passes of several gradients at once, as `torch.autograd.grad(..., is_grads_batched=True)` asks for.

Code that is not made of PyTorch's operations alone, or looks at numbers, cannot compute with such gradients. It is
called for each of them instead.

Shapes: N gradients that arrive as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

Gradients = Sequence[Tensor | None]


def one_by_one(backward: Callable[[Gradients], Gradients], d_results: Gradients) -> Gradients:
    """The gradients that a backward pass gives, also where several arrive in one.

    Args:
        backward: from the gradients of results to those of arguments, all of ordinary tensors.

    Raises:
        RuntimeError: the gradients are those of torch.vmap, or of several such calls in one another.
    """
    if not any(arrives_batched(d) for d in d_results):
        return backward(d_results)
    level = _level()
    apart = [_apart(d, level) for d in d_results]
    if any(arrives_batched(d) for d in apart):
        raise RuntimeError(
            "a SAB layer's backward pass cannot run under torch.vmap, nor with gradients that are batched twice: "
            "take torch.autograd.grad(..., is_grads_batched=True), or one gradient at a time; without past calls, "
            "backend='reference' with engine='autograd' can"
        )
    many = [arrives_batched(d) for d in d_results]
    size = next(len(part) for part, several in zip(apart, many, strict=True) if several and part is not None)
    found: list[Gradients] = []
    for number in range(size):
        pairs = zip(apart, many, strict=True)
        found.append(backward([part[number] if several and part is not None else part for part, several in pairs]))
    return [_together(each, level) for each in zip(*found, strict=True)]


def arrives_batched(d: Tensor | None) -> bool:
    """Whether a gradient stands for several."""
    functorch = cast("Any", torch._C)._functorch  # pyright: ignore[reportPrivateUsage]
    return d is not None and (functorch.is_legacy_batchedtensor(d) or functorch.is_batchedtensor(d))


def _level() -> int:
    """How many calls with batched gradients are in one another."""
    c = cast("Any", torch._C)  # pyright: ignore[reportPrivateUsage]
    level: int = c._vmapmode_increment_nesting() - 1
    c._vmapmode_decrement_nesting()
    return level


def _apart(d: Tensor | None, level: int) -> Tensor | None:
    """The gradients one behind the other, (N, ...), of one that stands for N."""
    functorch = cast("Any", torch._C)._functorch  # pyright: ignore[reportPrivateUsage]
    if d is None or not functorch.is_legacy_batchedtensor(d):
        return d
    return cast("Any", torch)._remove_batch_dim(d, level, 0, 0)


def _together(found: Sequence[Tensor | None], level: int) -> Tensor | None:
    """One gradient that stands for several; None where all are."""
    like = next((d for d in found if d is not None), None)
    if like is None:
        return None
    every = torch.stack([torch.zeros_like(like) if d is None else d for d in found])
    return cast("Any", torch)._add_batch_dim(every, 0, level)
