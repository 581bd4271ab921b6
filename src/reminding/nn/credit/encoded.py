"""The inputs of past segments: as they were kept, or made by the encoder once more, which then gets its gradient.

Shapes: T time and B batch of an encoded input, S steps, n rows of some segments, I input.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from reminding.nn.credit.network import Network, gradients
from reminding.nn.parts.generators import drawing_as
from reminding.nn.parts.outside import check_followed
from reminding.nn.state.past.segments import EncoderInput

Encode = Callable[[EncoderInput], Tensor]
"""Makes x (T, B, I) of an encoder's input, differentiably."""


class Encoded:
    """One input of the encoder, encoded once more, and the credit that comes to it.

    Args:
        network: with the tensors of its graph.
    """

    def __init__(self, given: EncoderInput, encode: Encode, network: Network, leaves: list[Tensor]) -> None:
        with torch.enable_grad(), drawing_as(given.generators, given.input.device), _in_precision(given):
            self._encoded = network.run(lambda _: _followed(encode(given), leaves), leaves, given.modes)
        self._leaves = leaves
        self._credit: Tensor | None = None

    @property
    def x(self) -> Tensor:
        """What the encoder has made, (T, B, I)."""
        return self._encoded.detach()

    def check_size(self, steps: Tensor, column: Tensor) -> None:
        """Require the steps and rows that the past calls had, also where a file names them.

        Args:
            steps: how many a segment needs; column: the row of each, from 0; of any shape.

        Raises:
            ValueError: the encoder makes fewer of the same input.
        """
        least = tuple(int(number.max()) if number.numel() else 0 for number in (steps, column + 1))
        found = tuple(self._encoded.shape[:2])
        if found[0] < least[0] or found[1] < least[1]:
            raise ValueError(
                f"encoder(input) must have {least[0]} steps and {least[1]} rows or more, as in the past call that "
                f"credit goes to, got {found[0]} and {found[1]}; state.detach() goes on without the past"
            )

    def at(self, time: Tensor, column: Tensor) -> Tensor:
        """X at steps (S, n) or (S, 1) of columns (n,), (S, n, I)."""
        self.check_size(time + 1, column)
        return self.x[time.to(self._encoded.device), column.to(self._encoded.device)]

    def add(self, time: Tensor, column: Tensor, credit: Tensor) -> None:
        """Credit (S, n, I) for x at these steps and columns."""
        if self._credit is None:
            self._credit = torch.zeros_like(self._encoded)
        places = (
            time.expand(len(time), len(column)).to(credit.device),
            column.expand(len(time), -1).to(credit.device),
        )
        self._credit.index_put_(places, credit, accumulate=True)

    def d_tensors(self) -> list[Tensor | None]:
        """The gradient of each of the network's tensors, from the credit so far."""
        if self._credit is None:
            return [None for _ in self._leaves]
        return gradients([self._encoded], self._leaves, [self._credit])


def _in_precision(given: EncoderInput) -> AbstractContextManager[Any]:
    """Where the encoder computes as it did in the call: in the type to which autocast lowered it, if it did."""
    if given.lowered is None:
        return nullcontext()
    return torch.autocast(given.input.device.type, dtype=given.lowered.dtype)


def _followed(encoded: Tensor, leaves: list[Tensor]) -> Tensor:
    """The same, after a check that its graph ends in the leaves."""
    check_followed([encoded], leaves)
    return encoded
