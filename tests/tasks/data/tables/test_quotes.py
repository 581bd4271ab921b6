"""Quotation marks: those that open at the beginning of a cell, and those that are characters within one."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from reminding.tasks.data.tables import Asked, TableSource, Wanted
from reminding.tasks.data.tables.database import WIDE, complete_rows
from reminding.tasks.data.tables.dialect import find_dialect
from reminding.tasks.data.text import is_open, logical_lines


@pytest.mark.parametrize(
    ("line", "separator", "wanted"),
    [
        *(('5" pipe,1\n', ",", False), ('1,5" pipe\n', ",", False), ('1,"5"" pipe\n', ",", True)),
        *(('"a ""b"" c",1\n', ",", False), ('1, "a\n', ",", True), ('1, "a\nb", 2\n', ",", False)),
        *(('"a;b",5";"c\n', ";", True), ('"a,5";1\n', ";", False), ('5" "a\n', " ", False), ('5;"a\n', ",", False)),
        *(('5;"a\n', None, True), ('5" pipe;1\n', None, False), ('"a\n', "", True), ('5"\n', "", False)),
    ],
)
def test_a_line_ends_within_marks_that_open_at_the_beginning_of_a_cell(
    line: str, separator: str | None, wanted: bool
) -> None:
    assert is_open(line, separator) == wanted


def test_lines_with_inch_marks_are_lines_of_their_own() -> None:
    text = StringIO('5" pipe,1\n6" pipe,2\n"7"" pipe,\nlong",3\n8" pipe,4')
    numbered = list(logical_lines(text, ","))
    assert [number for number, _ in numbered] == [1, 2, 3, 5]
    assert "".join(line for _, line in numbered) == text.getvalue()


@pytest.mark.parametrize("separator", [",", " "])
def test_a_table_with_inch_marks_keeps_its_rows_where_its_end_is_cut_off(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "a.csv"
    rows = [["part", "width", "height"], *([f'{i}"', f"{i}.5", f"{-i}"] for i in range(9)), ['9"', "9.5"]]
    path.write_text("\n".join(separator.join(row) for row in rows))
    asked = Asked(fixed=True)
    source = TableSource(path, Wanted(asked=asked))
    np.testing.assert_array_equal(source.read(0, 99), [[i + 0.5, -i] for i in range(9)])
    assert complete_rows(path, find_dialect(path, asked)) == 9


def test_a_wide_table_with_inch_marks_keeps_its_rows(tmp_path: Path) -> None:
    names = ["part", *(f"c{i}" for i in range(WIDE))]
    rows = [[f'{row}" pipe', *(str(i + row) for i in range(WIDE))] for row in range(5)]
    (tmp_path / "wide.csv").write_text("".join(",".join(row) + "\n" for row in [names, *rows]))
    found = TableSource(tmp_path / "wide.csv").read(0, 99)
    np.testing.assert_array_equal(found, np.arange(WIDE) + np.arange(5)[:, None])


def test_blanks_before_marks_do_not_make_them_characters(tmp_path: Path) -> None:
    """As DuckDB reads them, so that the first lines show the same cells as the rows."""
    rows = "".join(f'{i}.5, "x, y", {-i}\n' for i in range(5))
    (tmp_path / "a.csv").write_text('width, "name, in full", "height"\n' + rows)
    source = TableSource(tmp_path / "a.csv")
    assert source.columns == ("width", "height")
    np.testing.assert_array_equal(source.read(0, 99), [[i + 0.5, -i] for i in range(5)])
