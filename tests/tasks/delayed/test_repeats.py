"""Rare words by the distance to their last occurrence: which characters count, and to which group.

Shapes: T steps, B batch (rows), V symbols.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from reminding.tasks import mean_metrics
from reminding.tasks.characters import CharacterStream, Text
from reminding.tasks.delayed.repeats import RareRepeats

TRAIN = b"the cat and the dog and the owl sat on the mat "
ROWS = (b"an owl and the zebra saw an owl owl by the zebra ", b"the owl is the owl of all the zebras and is gone ")
"""The two rows of the test part, 49 characters each."""


@dataclass(frozen=True)
class Corpus(CharacterStream):
    name: ClassVar[str] = "corpus"
    symbols: ClassVar[bytes] = b" abcdefghijklmnopqrstuvwxyz"

    eval_rows: int = 2

    def load(self) -> Text:
        whole = np.frombuffer(TRAIN + b"valid and more  " + b"".join(ROWS), np.uint8)
        return Text(whole, len(TRAIN), len(TRAIN) + 16)


def groups(row: bytes, **words: list[str]) -> list[str]:
    """The group of each character of a row, by hand: each occurrence of a word, in its order, has one."""
    found = ["other"] * len(row)
    for word, wanted in words.items():
        begin = -1
        for group in wanted:
            begin = (b" " + row + b" ").index(f" {word} ".encode(), begin + 1)
            found[begin : begin + len(word)] = [group] * len(word)
    return found


NEAR, MIDDLE, FAR = "below_10", "10_to_20", "from_20"
WANTED = (
    groups(
        ROWS[0],
        an=["first", FAR],
        owl=["first", FAR, NEAR],
        zebra=["first", FAR],
        saw=["first"],
        by=["first"],
    ),
    groups(
        ROWS[1],
        owl=["first", MIDDLE],
        of=["first"],
        all=["first"],
        zebras=["first"],
        **{"is": ["first", FAR]},
        gone=["first"],
    ),
)
"""By hand: "an" recurs after 25 characters, "owl" after 25 and 4, "zebra" after 28; in the second row "owl" after 11,
"is" after 34."""


def small(**options: Any) -> RareRepeats:
    settings: dict[str, Any] = {"rare": 1, "distances": (10, 20), **options}
    return RareRepeats(Corpus(chunk=7), **settings)


def labels(task: RareRepeats, batch_size: int, limit: int | None = None) -> list[Tensor]:
    """The groups of each row's predicted characters."""
    rows: list[list[Tensor]] = []
    for batch in task.eval_batches("test", batch_size, limit):
        if batch.reset is not None and bool(batch.reset.all()):
            rows += [[] for _ in range(batch.input.shape[1])]
        for row in range(batch.input.shape[1]):
            rows[row - batch.input.shape[1]].append(batch.target[1, :, row])
    return [torch.cat(parts) for parts in rows]


@pytest.mark.parametrize("batch_size", [1, 2, 9])
def test_each_character_is_in_the_group_found_by_hand(batch_size: int) -> None:
    task = small()
    names = ("other", *task.groups)
    for row, wanted in zip(labels(task, batch_size), WANTED, strict=True):
        assert [names[int(number)] for number in row] == wanted[1:]


def test_targets_and_input_are_those_of_the_texts_own_evaluation() -> None:
    own = list(Corpus(chunk=7).eval_batches("test", 2))
    judged = list(small().eval_batches("test", 2))
    assert len(own) == len(judged) == 7
    for plain, batch in zip(own, judged, strict=True):
        assert torch.equal(batch.input, plain.input)
        assert torch.equal(batch.target[0], plain.target)
        assert batch.reset is not None and plain.reset is not None
        assert torch.equal(batch.reset, plain.reset)


def test_bits_are_means_over_the_characters_of_each_group() -> None:
    """The model gives each character of a group a probability of its own."""
    task = small()
    chosen = torch.tensor([0.5, 0.25, 0.125, 0.7, 0.9])
    parts: list[Any] = []
    for batch in task.eval_batches("test", 2):
        wanted, group = batch.target
        probability = ((1 - chosen[group]) / 26).unsqueeze(2).repeat(1, 1, 27)
        probability.scatter_(2, wanted.unsqueeze(2), chosen[group].unsqueeze(2))
        parts.append(task.metrics(probability.log(), batch))
    means = mean_metrics(parts)
    for name, probability in zip(task.groups, chosen[1:].numpy().tolist(), strict=True):
        assert means[f"bits_{name}"] == pytest.approx(-math.log2(probability), rel=1e-5), name
    flat = torch.cat([batch.target[1].flatten() for batch in task.eval_batches("test", 2)])
    assert means["bits_per_character"] == pytest.approx(float(-chosen[flat].log2().mean()), rel=1e-5)


@pytest.mark.parametrize("limit", [None, 1, 4])
def test_sizes_count_words_and_characters(limit: int | None) -> None:
    task = small()
    rows = labels(task, 2, limit)
    sizes = task.sizes("test", limit)
    assert [size.name for size in sizes] == ["first", NEAR, MIDDLE, FAR]
    for number, size in enumerate(sizes, 1):
        assert size.characters == sum(int((row == number).sum()) for row in rows)
    if limit is None:
        assert [size.words for size in sizes] == [11, 1, 1, 4]


def test_an_empty_group_has_no_bits() -> None:
    task = small(distances=(10, 20, 1000))
    sums = [task.metrics(torch.zeros(*b.input.shape, 27), b) for b in task.eval_batches("test", 2)]
    means = mean_metrics(sums)
    assert "bits_from_1000" not in means
    assert means["bits_20_to_1000"] == pytest.approx(math.log2(27))
    assert task.sizes("test")[-1] == ("from_1000", 0, 0)


def test_how_rare_a_word_must_be() -> None:
    """ "the" is in the training part four times, "and" twice, "owl" once."""
    for rare, words in ((0, set[str]()), (1, {"owl"}), (2, {"owl", "and"}), (4, {"owl", "and", "the"})):
        rows = labels(small(rare=rare), 2)
        for word in ("owl", "and", "the"):
            place = ROWS[1].index(f" {word} ".encode(), 1)  # of the character before it, which predicts it
            assert bool(rows[1][place]) == (word in words), (rare, word)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rare": -1}, "rare must be an integer of at least 0"),
        ({"distances": (0, 5)}, "distances must be integers of at least 1"),
        ({"distances": (5, 5)}, "distances must be increasing numbers"),
        ({"distances": ()}, "distances must be increasing numbers"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)
