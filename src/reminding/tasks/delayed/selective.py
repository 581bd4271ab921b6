"""Selective copying: repeat the symbols that lie at random places among noise.

Shapes: B batch, T steps with the symbols and the noise, S symbols, A alphabet, L = T + S steps in all, C = A classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from reminding.checks import at_least
from reminding.tasks.kinds.asked import UNASKED, Asked
from reminding.tasks.kinds.base import Batch
from reminding.tasks.kinds.generated import Generated

NOISE = 0


@dataclass(frozen=True)
class SelectiveCopying(Asked, Generated):
    """Selective copying.   [Gu & Dao 2023; as denoising, Jing et al. 2019]

    Input: T steps of noise (id 0) with S symbols, drawn uniformly from ids 1..A, at S different random places; then S
    markers (id A + 1). At the markers the symbols are asked for, from 0, in their order. Input and target are (L, B)
    int64; the target is -100 before the markers. Chance accuracy 1 / A.

    In copying, the symbols lie at fixed places, where a model can count steps. Here it must tell symbols from noise.
    The defaults are the published setting: 16 token ids in all, 16 symbols among 4,096 steps.

    Args:
        T: steps with the symbols and the noise, at least S.
        symbols: S, number of symbols to remember, at least 1.
        alphabet: A, number of different symbols, at least 2.

    Raises:
        ValueError: an option is out of range; the message names it.
    """

    name: ClassVar[str] = "selective"

    T: int = 4096
    symbols: int = 16
    alphabet: int = 14

    def __post_init__(self) -> None:
        """Check the options."""
        at_least("symbols", self.symbols, 1)
        at_least("T", self.T, self.symbols)
        at_least("alphabet", self.alphabet, 2)

    @property
    def vocabulary(self) -> int:
        """A + 2 token ids: the noise, the symbols, the marker."""
        return self.alphabet + 2

    @property
    def input_size(self) -> int:
        """The size of the vocabulary."""
        return self.vocabulary

    @property
    def output_size(self) -> int:
        """C = A, the symbols."""
        return self.alphabet

    def draw(self, sequences: int, rng: np.random.Generator) -> Batch:
        """Draw a batch: input (L, B), target (L, B)."""
        symbol = rng.integers(1, self.alphabet + 1, size=(self.symbols, sequences))  # (S, B)
        # The places of the S smallest of T random numbers are S different places, each choice equally likely.
        order = rng.random((self.T, sequences)).argpartition(self.symbols - 1, axis=0)
        place = np.sort(order[: self.symbols], axis=0)  # (S, B)
        tokens = np.full((self.T + self.symbols, sequences), NOISE)
        tokens[place, np.arange(sequences)] = symbol
        tokens[self.T :] = self.alphabet + 1
        target = np.full(tokens.shape, UNASKED)
        target[self.T :] = symbol - 1
        return Batch(torch.as_tensor(tokens), torch.as_tensor(target))
