"""Iterators of pieces are cut into chunks for next-step prediction."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import torch

from reminding.tasks import next_step_batches


def test_iterators_of_pieces_become_chunks() -> None:
    data = np.random.default_rng(0).integers(0, 256, (2, 101))
    first = (data[0][begin : begin + 7] for begin in range(0, 101, 7))
    second = iter(torch.as_tensor(data[1]).split(30))  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
    batches = list(next_step_batches([first, second], chunk=20))
    assert [tuple(batch.input.shape) for batch in batches] == [(20, 2)] * 5
    assert torch.equal(torch.cat([batch.input for batch in batches]), torch.as_tensor(data.T[:100]))
    assert torch.equal(torch.cat([batch.target for batch in batches]), torch.as_tensor(data.T[1:101]))
    assert [bool(batch.reset.all()) for batch in batches if batch.reset is not None] == [True, *[False] * 4]


def test_iterators_without_end_are_read_as_far_as_needed() -> None:
    read: list[int] = []

    def endless() -> Iterator[np.ndarray[Any, Any]]:
        for number in count():
            read.append(number)
            yield np.full((5, 3), float(number))

    batches = next_step_batches([endless()], chunk=9)
    assert read == []
    batch = next(batches)
    assert batch.input.shape == (9, 1, 3)
    assert batch.input.dtype == torch.float32
    assert read == [0, 1]
    next(batches)
    assert read == [0, 1, 2, 3]
