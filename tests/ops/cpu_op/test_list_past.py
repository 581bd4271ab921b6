"""The segments of single rows in runs of past calls, against a plain loop."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reminding.ops.cpu_op import list_past, missing
from reminding.ops.past_layout import PastRuns

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@st.composite
def drawn_runs(draw: st.DrawFn) -> PastRuns:
    """One to four runs of rows 0 to 5, some of whose segments are not reached."""
    runs = PastRuns([], [], [], [], [])
    for _ in range(draw(st.integers(1, 4))):
        rows = draw(st.lists(st.integers(0, 5), unique=True, max_size=4))
        sizes = draw(st.lists(st.integers(1, 3), max_size=3))
        begins = [sum(sizes[:n]) for n in range(len(sizes))]
        spans = torch.full((2, len(sizes), len(rows)), -1)
        for n, (begin, size) in enumerate(zip(begins, sizes, strict=True)):
            for r in range(len(rows)):
                if draw(st.booleans()):
                    spans[:, n, r] = torch.tensor([begin, begin + size]) + 10 * rows[r]
        lists = (torch.tensor(rows, dtype=torch.int64), spans, torch.tensor(begins, dtype=torch.int64),
                 torch.tensor(sizes, dtype=torch.int64), sum(sizes))  # fmt: skip
        for part, value in zip(runs, lists, strict=True):
            part.append(value)  # pyright: ignore
    return runs


@given(drawn_runs())
def test_listed_by_row_in_the_order_of_the_runs(runs: PastRuns) -> None:
    wanted: list[tuple[int, ...]] = []
    base = entering = 0
    for number, (row, span, begins, sizes, steps) in enumerate(zip(*runs, strict=True)):
        width = len(row)
        for n in range(len(begins)):
            for r in range(width):
                if span[1, n, r] >= 0:
                    begin = int(begins[n])
                    where = (base + begin * width + r, width, entering + n * width + r)
                    wanted.append((int(row[r]), int(span[0, n, r]), int(sizes[n]), number, r, begin, *where))
        base, entering = base + steps * width, entering + len(begins) * width
    wanted.sort(key=lambda cell: cell[0])
    found = cast("list[list[int]]", torch.stack(list_past(runs), 1).tolist())
    assert found == [list(cell) for cell in wanted]
