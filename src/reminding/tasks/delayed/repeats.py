"""How well a model of characters predicts a rare word that it has read before, by how long ago that was.

Shapes: N characters of a row, T steps of a chunk, B batch (rows), V symbols.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reminding.checks import at_least, each_at_least, require
from reminding.tasks.characters import CharacterStream
from reminding.tasks.kinds.base import Batch, EvalSplit, MetricSums, check_prediction, full_precision

WORD = re.compile(rb"[A-Za-z\x80-\xff]+")
"""A word: letters, or bytes of letters beyond ASCII, as many as there are."""
OTHER, FIRST = 0, 1
"""Groups of characters: of no rare word, and of a rare word that the row has not shown before. Repeats follow."""


class GroupSize(NamedTuple):
    """A group of characters: its name, and the number of its words and of their characters."""

    name: str
    words: int
    characters: int


@dataclass(frozen=True)
class RareRepeats:
    """The evaluation of a text's held-out part by the distance of rare words to their last occurrence.

    A word is rare if the training part has it at most `rare` times. A row of the evaluation reads one stream from its
    beginning. A repeat is a rare word that the row has shown before; its distance is the number of characters from
    the beginning of the last occurrence to its own. The characters of repeats are grouped by distance. Rare words at
    their first occurrence in a row are a group of their own, for comparison.

    Args:
        text: the task that the model was trained on.
        rare: most occurrences of a rare word in the training part, at least 0.
        distances: where one group ends and the next begins, increasing.
    """

    text: CharacterStream
    rare: int = 10
    distances: tuple[int, ...] = (100, 1000, 10_000)

    def __post_init__(self) -> None:
        """Check the options."""
        at_least("rare", self.rare, 0)
        each_at_least("distances", self.distances, 1)
        increasing = all(one < other for one, other in pairwise(self.distances))
        require(bool(self.distances) and increasing, "distances", "be increasing numbers", list(self.distances))

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups: first occurrences, then repeats from near to far."""
        between = [f"{near}_to_{far}" for near, far in pairwise(self.distances)]
        return ("first", f"below_{self.distances[0]}", *between, f"from_{self.distances[-1]}")

    def eval_batches(self, split: EvalSplit, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """The batches of the text's own evaluation; the target is (2, T, B): the next character, and its group."""
        batches = self.text.eval_batches(split, batch_size, limit)
        sections = self.text.sections(split, self.text.eval_rows)
        return self._labelled(batches, [sections[i : i + batch_size] for i in range(0, len(sections), batch_size)])

    def _labelled(self, batches: Iterator[Batch], rows: list[list[range]]) -> Iterator[Batch]:
        groups: NDArray[np.int64] = np.empty((0, 0), np.int64)  # of the rows that are being read, (N, B)
        place, following = 0, iter(rows)
        for batch in batches:
            if batch.reset is not None and bool(batch.reset.all()):
                groups, place = np.stack([self._groups_of(section) for section in next(following)], axis=1), 0
            steps = len(batch.input)
            wanted = torch.as_tensor(groups[place + 1 : place + 1 + steps])  # of the characters that are predicted
            yield Batch(batch.input, torch.stack([batch.target, wanted]), batch.reset)
            place += steps

    def metrics(self, prediction: Tensor, batch: Batch) -> MetricSums:
        """Bits per character, over all as the text's own metric, and by group as "bits_GROUP" if it has characters.

        `prediction` is logits, (T, B, V).
        """
        check_prediction(prediction, batch, self.text.output_size)
        wanted, group = batch.target
        classes_second = full_precision(prediction).transpose(1, 2)  # (T, V, B)
        bits = F.cross_entropy(classes_second, wanted, reduction="none") / math.log(2)  # (T, B)
        sums: MetricSums = {self.text.metric: (float(bits.sum()), bits.numel())}
        for number, name in enumerate(self.groups, FIRST):
            inside = bits[group == number]
            if inside.numel():
                sums[f"bits_{name}"] = (float(inside.sum()), inside.numel())
        return sums

    def sizes(self, split: EvalSplit, limit: int | None = None) -> list[GroupSize]:
        """How much of a split is in each group, in the order of `groups`.

        Args:
            limit: number of chunks of each row; None: all.
        """
        read = None if limit is None else limit * self.text.chunk + 1
        labels = [self._groups_of(section)[:read] for section in self.text.sections(split, self.text.eval_rows)]
        begins = [np.diff(label, prepend=OTHER).clip(min=0) for label in labels]
        counts = [np.bincount(np.concatenate([label[1:] for label in labels]), minlength=len(self.groups) + FIRST)]
        counts.append(np.bincount(np.concatenate(begins), minlength=len(self.groups) + FIRST))
        return [
            GroupSize(name, int(counts[1][number]), int(counts[0][number]))
            for number, name in enumerate(self.groups, FIRST)
        ]

    def _groups_of(self, section: range) -> NDArray[np.int64]:
        """The group of each character of a row, (N,)."""
        letters = self.text.text.symbols[section.start : section.stop].tobytes()
        groups = np.full(len(letters), OTHER, np.int64)
        last: dict[bytes, int] = {}
        for found in WORD.finditer(letters):
            word, begin = found.group(), found.start()
            if self._known[word] > self.rare:
                continue
            group = FIRST
            if word in last:
                group += 1 + int(np.searchsorted(self.distances, begin - last[word], side="right"))
            groups[begin : found.end()] = group
            last[word] = begin
        return groups

    @cached_property
    def _known(self) -> Counter[bytes]:
        """The number of occurrences of each word in the training part."""
        text = self.text.text
        return Counter(found.group() for found in WORD.finditer(text.symbols[: text.valid].tobytes()))
