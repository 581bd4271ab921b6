"""A growing table: complete lines count, from anywhere, and missing values are carried across reads.

Shapes: n rows, C columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reminding.tasks.data.tables import FollowedTable, TableSource, Wanted, follow


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 60), stride=st.integers(1, 9), block=st.integers(60, 200), data=st.data())
def test_rows_are_found_wherever_the_reading_begins(
    rows: int, stride: int, block: int, data: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(rows)
    cells = rng.choice(["1", "2.5", "NA", "-3"], size=(rows, 2))
    cells[0] = "0"
    path = tmp_path_factory.mktemp("data") / "a.csv"
    path.write_text("name,a,b\n" + "".join(f"x,{a},{b}\n" for a, b in cells.tolist()))
    wanted = Wanted(columns=("a", "b"), missing="carry", masks=("a", "b"))
    whole = TableSource(path, wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(follow, "STRIDE", stride)
        patch.setattr(follow, "BLOCK", block)
        source = FollowedTable(path, wanted)
        assert source.steps() == rows
        start = data.draw(st.integers(0, rows - 1))
        stop = data.draw(st.integers(start, rows))
        np.testing.assert_array_equal(source.read(start, stop), whole.read(start, stop))


def test_a_growing_table_counts_finished_lines(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(400, 2)).round(4)
    path = tmp_path / "a.csv"
    whole = ("a,b\n" + "".join(f"{a},{b}\n" for a, b in values.tolist())).encode()
    path.write_bytes(whole[:100])
    source = FollowedTable(path, Wanted())
    for size in range(100, len(whole) + 1, 37):
        with path.open("r+b") as file:
            file.seek(size - 37 if size > 100 else 0)
            file.write(whole[file.tell() : size])
        found = source.steps()
        assert found == whole[:size].count(b"\n") - 1
        np.testing.assert_array_equal(source.read(0, found), values[:found])


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("# log\na,b\n1,2\n3,4\n\n5,x\n7\n8,\n")
    source = FollowedTable(path, Wanted(columns=("a", "b")))
    assert source.steps() == 5
    with pytest.raises(ValueError, match="line 6, column 'b': 'x' is not a number"):
        source.read(0, 3)
    with pytest.raises(ValueError, match="line 7: 1 cells, expected 2"):
        source.read(3, 4)
    with pytest.raises(ValueError, match="line 8, column 'b': '' is missing; --missing carry or zero"):
        source.read(4, 5)
    for wanted in (Wanted(time="a"), Wanted(missing="drop")):
        with pytest.raises(ValueError, match="needs a file that is complete"):
            FollowedTable(path, wanted)


def test_a_row_that_begins_with_an_error_of_a_spreadsheet_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("# log\na,b\n1,2\n#N/A,4\n# note\n#N/A,5\n")
    source = FollowedTable(path, Wanted(missing="carry"))
    assert source.read(0, source.steps()).tolist() == [[1, 2, 0, 0], [1, 4, 1, 0], [1, 5, 1, 0]]


def test_a_table_that_was_replaced_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n2\n")
    source = FollowedTable(path, Wanted())
    path.write_text("a\n9\n9\n9\n9\n")
    with pytest.raises(ValueError, match="was replaced, cut or written anew"):
        source.steps()
