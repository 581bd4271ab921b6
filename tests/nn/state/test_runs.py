"""A run of segments holds the same segments whichever of its parts are left.

Shapes: N segments of a run, R rows.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from reminding.nn.state.past.runs import SegmentRun, compacted
from reminding.nn.state.past.segments import Segment
from tests.nn.samples import draw, make

N, R = 5, 3
KINDS: dict[str, dict[str, Any]] = {
    "input": {"num_layers": 2, "dropout": 0.5},
    "encoder": {"encoder": nn.Linear(3, 3, dtype=torch.float64)},
    "all memories": {"k_top": None},
}


def run_of(kind: str) -> SegmentRun:
    """What a call of 23 steps leaves, in segments of 5 and a last one of 3."""
    layer = make(**{"k_top": 2, "k_att": 2, "k_trunc": 5, **KINDS[kind]})
    _, state = layer(draw(23, R, 3))
    (run,) = state.history.calls[0].runs.value
    assert len(run) == N
    return run


def content(segments: list[Segment]) -> list[tuple[int, list[int], dict[str, Tensor]]]:
    """Each segment's steps, its rows, and everything in it by name."""
    return [(segment.steps, segment.row.tolist(), segment.named()) for segment in segments]


def assert_same_segments(found: list[Segment], wanted: list[Segment]) -> None:
    assert [each[:2] for each in content(found)] == [each[:2] for each in content(wanted)]
    for (_, _, got), (_, _, want) in zip(content(found), content(wanted), strict=True):
        assert got.keys() == want.keys()
        for name, tensor in want.items():
            assert torch.equal(got[name], tensor), name


@pytest.mark.parametrize("kind", KINDS)
@given(marks=st.lists(st.booleans(), min_size=N * R, max_size=N * R).filter(any))
def test_what_is_compacted_has_the_segments_that_are_reached(kind: str, marks: list[bool]) -> None:
    whole = run_of(kind)
    reached = torch.tensor(marks).view(N, R)
    run = whole.reaching(reached, int(reached.sum()))
    single = [whole.segment(number).rows(rows.nonzero().squeeze(1)) for number, rows in enumerate(reached)]
    wanted = [segment for segment in single if len(segment.row)]
    assert_same_segments(run.segments, wanted)
    for smaller in (run.compact(), compacted([run])):
        assert_same_segments([segment for part in smaller for segment in part.segments], wanted)
        assert sum(part.count for part in smaller) == run.count
    kept = run.compact()
    assert sum(len(part) * len(part.row) for part in kept) <= 2 * run.count, "at most half is held in vain"


def test_little_that_is_held_in_vain_is_not_copied() -> None:
    """Of a memory that is given up step by step the oldest run is always nearly gone, and a copy would not last."""
    nearly_gone = torch.zeros(N, R, dtype=torch.bool)
    nearly_gone[-1] = True
    runs = [run_of("input") for _ in range(6)]
    runs[0] = runs[0].reaching(nearly_gone, R)
    assert [id(run) for run in compacted(runs)] == [id(run) for run in runs], "a sixth of all at most"
    found = compacted(runs[:3])
    assert [id(run) for run in found[1:]] == [id(run) for run in runs[1:3]]
    assert [len(run) for run in found] == [1, N, N], "more than a quarter of all"


@given(first=st.integers(0, N - 1), size=st.integers(1, N))
def test_a_part_of_a_run_has_its_segments(first: int, size: int) -> None:
    run, last = run_of("input"), min(first + size, N)
    part = run.part(first, last)
    assert part.steps == sum(segment.steps for segment in part.segments)
    assert_same_segments(part.segments, run.segments[first:last])
    index = torch.tensor([2, 0])
    assert_same_segments(run.rows(index).part(first, last).segments, [each.rows(index) for each in part.segments])
