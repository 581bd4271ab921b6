"""Dataclasses of tensors, with every kind of field: mapped, cut by rows, named for a file and restored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding.nn.parts.tensors import HostRows, HostWhole, Rows, TensorGroup, TimeRows, Whole


@dataclass(frozen=True)
class Inner(TensorGroup):
    """A group inside a group."""

    value: Rows
    count: HostRows | None


@dataclass(frozen=True)
class Outer(TensorGroup):
    """A group with every kind of field."""

    x: TimeRows
    inner: Inner
    several: tuple[Inner, ...]
    masks: tuple[TimeRows, ...]
    generators: tuple[HostWhole, ...] | None
    whole: Whole | None
    steps: int
    flag: bool = True


def example() -> Outer:
    """Three rows, two steps."""
    inner = Inner(torch.arange(6.0).view(3, 2), torch.tensor([1, 2, 3]))
    return Outer(
        x=torch.arange(12.0).view(2, 3, 2),
        inner=inner,
        several=(inner, Inner(torch.ones(3, 1), None)),
        masks=(torch.ones(2, 3, dtype=torch.bool),),
        generators=(torch.arange(4, dtype=torch.uint8),),
        whole=None,
        steps=7,
    )


def same(one: Any, other: Any) -> bool:
    """Whether two groups are equal."""
    first, second = one.named(), other.named()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_change_reaches_what_is_on_the_device_and_no_count() -> None:
    changed = example().map(lambda tensor: tensor + 1 if tensor.is_floating_point() else ~tensor)
    assert torch.equal(changed.x, example().x + 1)
    assert torch.equal(changed.several[1].value, torch.full((3, 1), 2.0))
    assert not changed.masks[0].any()
    assert changed.inner.count is not None
    assert changed.inner.count.tolist() == [1, 2, 3], "on the host"
    assert changed.generators is not None
    assert changed.generators[0].tolist() == [0, 1, 2, 3], "on the host"
    assert (changed.steps, changed.flag, changed.whole) == (7, True, None)


def test_with_host_a_change_reaches_everything() -> None:
    seen: list[Tensor] = []
    example().map(lambda tensor: seen.append(tensor) or tensor, host=True)
    assert len(seen) == len(example().named()) - 2, "all but the two numbers"


@pytest.mark.parametrize(
    "index", [torch.tensor([2, 0]), slice(1, None), torch.tensor([], dtype=torch.int64)], ids=str
)
def test_rows_are_taken_where_they_lie(index: Any) -> None:
    part, whole = example().rows(index), example()
    assert torch.equal(part.x, whole.x[:, index])
    assert torch.equal(part.masks[0], whole.masks[0][:, index])
    assert torch.equal(part.several[0].value, whole.inner.value[index])
    assert part.inner.count is not None and whole.inner.count is not None
    assert torch.equal(part.inner.count, whole.inner.count[index])
    assert part.generators is not None
    assert len(part.generators[0]) == 4, "which has no rows"


@pytest.mark.parametrize("prefix", ["", "a.b"])
def test_what_was_named_is_restored(prefix: str) -> None:
    named = example().named(prefix)
    assert all(name.startswith(prefix) for name in named)
    found = Outer.restored(named, prefix)
    assert same(found, example())
    assert (found.steps, found.flag, found.whole, found.several[1].count) == (7, True, None, None)


def test_a_part_that_is_missing_is_named() -> None:
    named = example().named()
    del named["inner.value"]
    with pytest.raises(KeyError, match=r"inner\.value"):
        Outer.restored(named)
