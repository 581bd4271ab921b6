"""A stream of cues, each queried long after it was shown, which truncated BPTT cannot learn.

Shapes: B batch (rows, one stream each), T steps of a chunk, E episodes, A alphabet, C = A classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from reminding.checks import at_least, share
from reminding.tasks.kinds.asked import UNASKED, AskedStream
from reminding.tasks.kinds.base import Batch, EvalSplit, Split, check_evaluation, stream

BLANK = 0
EVAL_EPISODES = 10
"""Episodes of each evaluated row, if no limit is set."""
BLOCK = 64
"""Episodes drawn at a time, so that any chunk can be drawn without the chunks before it."""


@dataclass(frozen=True)
class Cue(AskedStream):
    """Cues and their queries, `lag` steps apart, repeated in an endless stream.

    Every lag + gap steps each row shows one cue, a symbol of ids 1..A, at a random place in the first `gap` of
    them; `lag` steps later the query marker (the last id) asks for it. All other steps are blank (id 0) or, a
    share `noise` of them, distractors (ids A + 1 to A + distractors). Each row has its own episodes and its own
    beginning. Input (T, B) int64 in chunks of `chunk` steps, state carried; target (T, B) int64, the symbol from 0 at
    a query and -100 elsewhere. The loss is at the queries alone.

    With chunk <= lag no chunk holds both a cue and its query: a gradient that ends at the border of a chunk never
    reaches the cue, and truncated BPTT stays at chance, 1 / A. A memory that evicts the oldest state must hold
    lag / k_att states.

    Args:
        lag: steps from a cue to its query, at least 1.
        gap: steps from a query to the next cue, on average; at least 1.
        alphabet: A, number of different cues, at least 2.
        noise: share of the other steps that show a distractor.
        distractors: number of different distractors, at least 1.
        chunk: steps per batch.

    Raises:
        ValueError: an option is out of range; the message names it.
    """

    name: ClassVar[str] = "cue"

    lag: int = 500
    gap: int = 50
    alphabet: int = 8
    noise: float = 0.0
    distractors: int = 8
    chunk: int = 100

    def __post_init__(self) -> None:
        """Check the options."""
        for name, least in (("lag", 1), ("gap", 1), ("alphabet", 2), ("distractors", 1), ("chunk", 1)):
            at_least(name, getattr(self, name), least)
        share("noise", self.noise)

    @property
    def vocabulary(self) -> int:
        """A + distractors + 2 token ids: the blank, the cues, the distractors, the query marker."""
        return self.alphabet + self.distractors + 2

    @property
    def input_size(self) -> int:
        """The size of the vocabulary."""
        return self.vocabulary

    @property
    def output_size(self) -> int:
        """C = A, the cues."""
        return self.alphabet

    @property
    def period(self) -> int:
        """Steps of an episode, one cue and its query."""
        return self.lag + self.gap

    def eval_batches(self, split: EvalSplit, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """The split's 32 streams, 10 episodes of each or `limit` chunks; see `Task.eval_batches`.

        Raises:
            ValueError: as there; or `limit` chunks are too few for every row to reach its first query.
        """
        check_evaluation(split, batch_size, limit)
        least = math.ceil(2 * self.period / self.chunk)
        chunks = math.ceil(EVAL_EPISODES * self.period / self.chunk) if limit is None else limit
        if chunks < least:
            raise ValueError(
                f"limit must be at least {least} chunks of {self.chunk} steps, got {chunks}: an episode has "
                f"{self.period} steps, and the first one may start up to as many steps late"
            )
        return self._held_out(split, batch_size, chunks)

    def _chunk(self, split: Split, seed: int, rows: int, number: int) -> Batch:
        # Three kinds of random numbers: their indices are interleaved, so that no two share a stream.
        late = stream(self.name, split, seed, 0).integers(
            0, self.period, size=rows
        )  # the step at which each row begins
        time = number * self.chunk + np.arange(self.chunk)[:, None] - late  # (T, B), negative before
        episode, place = np.divmod(time, self.period)
        symbol, shown = self._episodes(split, seed, rows, episode)  # (T, B) each, of the present episode
        background = self._background(split, seed, rows, number)
        begun = episode >= 0
        asked = begun & (place == shown + self.lag)
        tokens = np.where(begun & (place == shown), symbol, background)
        tokens = np.where(asked, self.vocabulary - 1, tokens)
        target = np.where(asked, symbol - 1, UNASKED)
        return Batch(torch.as_tensor(tokens), torch.as_tensor(target), torch.full((rows,), number == 0))

    def _episodes(
        self, split: Split, seed: int, rows: int, episode: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The cue of each row's episode, from 1, and the step at which it is shown, from 0: (T, B) each."""
        wanted = np.maximum(episode, 0)
        first = int(wanted.min()) // BLOCK
        symbols: list[NDArray[np.int64]] = []
        places: list[NDArray[np.int64]] = []
        for block in range(first, int(wanted.max()) // BLOCK + 1):
            rng = stream(self.name, split, seed, 1 + 2 * block)
            symbols.append(rng.integers(1, self.alphabet + 1, size=(BLOCK, rows)))
            places.append(rng.integers(0, self.gap, size=(BLOCK, rows)))
        at = (wanted - first * BLOCK, np.arange(rows))
        return np.concatenate(symbols)[at], np.concatenate(places)[at]

    def _background(self, split: Split, seed: int, rows: int, number: int) -> NDArray[np.int64]:
        """Blanks and distractors, (T, B)."""
        shape = (self.chunk, rows)
        if self.noise == 0:
            return np.full(shape, BLANK)
        rng = stream(self.name, split, seed, 2 + 2 * number)
        distractors = rng.integers(self.alphabet + 1, self.alphabet + self.distractors + 1, size=shape)
        return np.where(rng.random(shape) < self.noise, distractors, BLANK)
