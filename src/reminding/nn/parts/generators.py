"""Random numbers drawn once more: what a replay needs of cells, scorers and encoders that draw any.

Shapes: N rows of a pass, R rows that are replayed, M memories, H hidden, D width of what a scorer keeps of a memory.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from reminding.nn.parts.cells import CellState, Step
from reminding.nn.parts.scorers import Scorer

GeneratorStates = tuple[Tensor, ...]
"""The state of the host's generator, and of the device's where that is another."""


def generator_states(device: torch.device) -> GeneratorStates:
    """The state of the random number generators that a module on this device may draw from."""
    host = torch.get_rng_state()
    return (host,) if device.type == "cpu" else (host, torch.get_device_module(device).get_rng_state(device))


@contextmanager
def drawing_as(states: GeneratorStates | None, device: torch.device) -> Generator[None]:
    """Random numbers as they were drawn from these states; the generators go on undisturbed after it.

    Args:
        states: None: nothing was drawn.
    """
    if states is None:
        yield
        return
    present = generator_states(device)
    _set(states, device)
    try:
        yield
    finally:
        _set(present, device)


@dataclass(frozen=True)
class RowsOfPass:
    """The rows of a pass, for all of which a cell draws random numbers, also where only some of them are replayed.

    Attributes:
        column: which rows of the pass the replayed ones are, (R,), at least one; count: how many the pass had, N.
    """

    column: Tensor
    count: int

    def spread(self, tensor: Tensor) -> Tensor:
        """Rows of the pass, (N, ...), from those replayed, (R, ...); the others are as the first."""
        source = self.column.new_zeros(self.count)
        source[self.column] = torch.arange(len(self.column), device=source.device)
        return tensor[source.to(tensor.device)]

    def drawing(self, cell: Step) -> Step:
        """A cell of all rows of the pass as one of the replayed rows."""

        def step(x: Tensor, h: Tensor, cell_state: CellState) -> tuple[Tensor, CellState]:
            h_hat, further = cell(self.spread(x), self.spread(h), tuple(map(self.spread, cell_state)))
            column = self.column.to(h.device)
            return h_hat[column], tuple(tensor[column] for tensor in further)

        return step


@dataclass(frozen=True)
class SteadyScorer:
    """A user's scorer in a replay of a call that drew random numbers, where it may draw none.

    A replay asks it of the memories that were recalled alone, so that it would draw others than in the call.

    Attributes:
        all_memories: whether the replay has all of them, so that only keys, which it makes anew, must not be drawn.
    """

    scorer: Scorer
    all_memories: bool

    def keys(self, memory: Tensor) -> Tensor:
        """What is kept of each memory, (..., H) to (..., D)."""
        before = generator_states(memory.device)
        return self._after(before, self.scorer.keys(memory))

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        """The relevance of each memory, from keys (R, M, D) and query (R, H): (R, M)."""
        if self.all_memories:
            return self.scorer.scores(keys, query)
        before = generator_states(query.device)
        return self._after(before, self.scorer.scores(keys, query))

    @staticmethod
    def _after(before: GeneratorStates, result: Tensor) -> Tensor:
        if all(map(torch.equal, before, generator_states(result.device))):
            return result
        raise ValueError(
            "score draws random numbers, as dropout in it does, which a replay cannot draw again: let it draw none, "
            "or build the layer with engine='autograd' and horizon=0, which replay nothing"
        )


def _set(states: GeneratorStates, device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[1], device)
