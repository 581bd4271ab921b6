"""Modules of one's own that differ in one thing that they do.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.nn.pytorch.ways import HIDDEN, INPUT

FLOAT64: dict[str, Any] = {"dtype": torch.float64}
Change = Callable[[Tensor], Tensor]
"""What a module does to a state (..., H) besides its own work."""


class Cell(nn.Module):
    def __init__(self, size: int, change: Change) -> None:
        super().__init__()
        self.inner, self.state_shapes, self.change = nn.LSTMCell(size, HIDDEN, **FLOAT64), ((HIDDEN,),), change

    def forward(self, x: Tensor, state: Any) -> Any:
        h, c = self.inner(x, state)
        return h + torch.tanh(self.change(h)), c


class Score(nn.Module):
    def __init__(self, change: Change) -> None:
        super().__init__()
        self.change = change

    def keys(self, memory: Tensor) -> Tensor:
        return memory + self.change(memory)

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        return (keys * self.change(query).unsqueeze(1)).sum(2)


class Encoder(nn.Module):
    def __init__(self, change: Change) -> None:
        super().__init__()
        self.linear, self.change = nn.Linear(INPUT, HIDDEN, **FLOAT64), change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.linear(x))[..., :INPUT]
