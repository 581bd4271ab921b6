"""The linear recurrence h_t = keep_t h_{t-1} + add_t by a parallel scan: 2 log2(T) products of many steps each.

Shapes: T time; all other axes are elementwise.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor


def linear_scan(keep: Tensor, add: Tensor, start: Tensor) -> Tensor:
    """All states of a linear recurrence.   [Blelloch 1990; Martin and Cundy 2018]

    Only products of `keep` occur, never quotients, so that a 0 in it, where a stream begins anew, is exact.

    Args:
        keep: the factors, (T, ...), real or complex.
        add: the inputs, (T, ...).
        start: the state before the first step, (...).

    Returns:
        h, (T, ...). The gradient reaches all three arguments, also in second derivatives.
    """
    return cast(Tensor, _Scan.apply(keep, add, start)) if len(add) else add


class _Scan(torch.autograd.Function):
    """The gradient of a scan is a scan back in time: d_t = g_t + conj(keep_{t+1}) d_{t+1}."""

    @staticmethod
    def forward(keep: Tensor, add: Tensor, start: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _solve(keep, torch.cat([torch.addcmul(add[:1], keep[:1], start.unsqueeze(0)), add[1:]]))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # torch.func asks for it
        keep, _, start = inputs
        ctx.save_for_backward(keep, start, output)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        keep, start, h = ctx.saved_tensors
        following = torch.cat([keep[1:], torch.zeros_like(keep[:1])]).conj()
        d_add = linear_scan(following.flip(0), grad[0].flip(0), torch.zeros_like(start)).flip(0)
        before = torch.cat([start.unsqueeze(0), h[:-1]])
        return d_add * before.conj(), d_add, d_add[0] * keep[0].conj()


def _solve(keep: Tensor, add: Tensor) -> Tensor:
    """The states from a start of 0: pair neighbours, solve the half as long recurrence, fill in the others."""
    steps = len(add)
    if steps == 1:
        return add
    pairs = steps // 2 * 2
    later, earlier = keep[1:pairs:2], keep[0:pairs:2]
    odd = _solve(later * earlier, torch.addcmul(add[1:pairs:2], later, add[0:pairs:2]))  # h_1, h_3, ...
    h = torch.empty_like(add)
    h[0], h[1::2] = add[0], odd
    h[2::2] = torch.addcmul(add[2::2], keep[2::2], odd[: (steps - 1) // 2])
    return h
