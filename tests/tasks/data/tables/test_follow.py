"""A growing table: complete lines count, from anywhere, and missing values are carried across reads.

Shapes: n rows, C columns.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reminding.tasks.data.tables import Asked, FollowedTable, TableSource, Wanted, follow


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


def test_rows_that_are_turned_into_comments_are_left_out_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "1,2\n" * 150)
    source = FollowedTable(path, Wanted(columns=("b",)))
    with path.open("a") as file:
        file.write("#3,4\n5,6\n# 7,8\n#N/A,9\n")
    assert source.steps() == 152
    np.testing.assert_array_equal(source.read(148, 152), [[2], [2], [6], [9]])
    assert "lines that begin with # are left out" in source.reading().notes
    with path.open("a") as file:
        file.write("%3,4\n5,7\n")
    assert source.steps() == 153
    np.testing.assert_array_equal(source.read(151, 153), [[9], [7]])
    assert "lines that begin with # or % are left out" in source.reading().notes


def test_a_table_that_was_replaced_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n2\n")
    source = FollowedTable(path, Wanted())
    path.write_text("a\n9\n9\n9\n9\n")
    with pytest.raises(ValueError, match="was replaced, cut or written anew"):
        source.steps()


@pytest.mark.parametrize(("line", "count"), [("3", 1), ("3,4,5", 3)])
@pytest.mark.parametrize("columns", [(), ("a",)])
def test_a_line_of_too_few_or_many_cells_is_named(
    tmp_path: Path, line: str, count: int, columns: tuple[str, ...]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"a,b\n1,2\n{line}\n4,5\n")
    with pytest.raises(ValueError, match=rf"a\.csv, line 3: {count} cells, expected 2"):
        FollowedTable(path, Wanted(columns=columns)).read(0, 3)


@pytest.mark.parametrize("first", [0, 1])
def test_row_numbers_are_ignored_as_in_a_complete_table(tmp_path: Path, first: int) -> None:
    path = tmp_path / "a.csv"
    path.write_text("index,row,a\n" + "".join(f"{first + i},{2 * i},{i % 3}\n" for i in range(5)))
    followed, whole = FollowedTable(path, Wanted()), TableSource(path)
    assert followed.columns == whole.columns == ("row", "a")
    roles = [(column.name, column.role, column.reason) for column in followed.reading().columns]
    assert roles[0] == ("index", "ignored", "row numbers") == (*roles[0][:2], whole.reading().columns[0].reason)
    assert FollowedTable(path, Wanted(columns=("index", "a"))).columns == ("index", "a")


def test_numbers_beyond_float64_are_noted_as_of_a_complete_table(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n9007199254740993,1,\n1,-2,NA\n2,3,4\n")
    notes = FollowedTable(path, Wanted(missing="carry")).reading().notes
    assert notes == TableSource(path, Wanted(missing="carry")).reading().notes
    assert notes == ("a: numbers beyond 2^53 are read to 16 digits; a counter loses its steps of 1",)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_the_decimal_mark_is_found_in_the_rows_there_are(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "a.csv"
    cells = [["name", "a", "b"], *[["x,y", "20,123", "7"]] * 600, ["x", "0,0", "1"], ["x", "1.234,5", "2"]]
    path.write_text("".join(separator.join(row) + "\n" for row in cells))
    source = FollowedTable(path, Wanted())
    assert source.columns == ("a", "b")
    np.testing.assert_array_equal(source.read(0, 602), TableSource(path, Wanted()).read(0, 602))
    assert source.read(599, 602).tolist() == [[20.123, 7], [0, 1], [1234.5, 2]]
    assert dict(source.reading().settings)["decimal mark"] == ","


def test_a_decimal_mark_that_nothing_decides_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a;b\n2;1\n20,123;1\n")
    with pytest.raises(ValueError, match=r"decimal: .*, line 3, column 'a': '20,123' may be 20123 or 20\.123; say"):
        FollowedTable(path, Wanted())
    for decimal, value in ((".", 20123), (",", 20.123)):
        source = FollowedTable(path, Wanted(asked=Asked(decimal=decimal)))
        assert source.read(1, 2).tolist() == [[value, 1]]
    path.write_text("a;b\n2;1\n2;1\n")
    source = FollowedTable(path, Wanted())
    with path.open("a") as file:
        file.write("20,123;1\n0,5;1\n")
    assert source.steps() == 4
    with pytest.raises(ValueError, match=r"decimal: .*, line 4, column 'a': '20,123' may be"):
        source.read(2, 3)
    with pytest.raises(ValueError, match=r"'0,5' is no number with the decimal mark '\.'; --decimal names the mark"):
        source.read(3, 4)
    assert FollowedTable(path, Wanted()).read(2, 4).tolist() == [[20.123, 1], [0.5, 1]]


def test_points_that_may_be_of_thousands_are_refused_until_a_cell_shows_the_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a;b\n2;1\n")
    source = FollowedTable(path, Wanted())
    with path.open("a") as file:
        file.write("5.000;1\n5.33;1\n5.000;1\n")
    assert source.steps() == 4
    with pytest.raises(ValueError, match=r"decimal: .*, line 3, column 'a': '5\.000' may be 5000 or 5\.000; say"):
        source.read(1, 2)
    assert source.read(2, 4).tolist() == [[5.33, 1], [5, 1]]
    assert FollowedTable(path, Wanted()).read(1, 2).tolist() == [[5, 1]]
    path.write_text("a;b\n5.000;1\n2;1\n")
    with pytest.raises(ValueError, match=r"line 2, column 'a': '5\.000' may be 5000"):
        FollowedTable(path, Wanted())
    known = FollowedTable(path, Wanted(asked=Asked(usual=",", fixed=True)))
    assert known.read(0, 1).tolist() == [[5000, 1]]


def test_rows_that_follow_are_read_with_the_decimal_mark_of_the_run(tmp_path: Path) -> None:
    """Also where the rows there are at first show none."""
    path = tmp_path / "a.csv"
    for usual, value in ((",", 5000), (".", 5), (None, 5)):
        path.write_text("a;b\n2;1\n")
        source = FollowedTable(path, Wanted(asked=Asked(usual=usual, fixed=True)))
        with path.open("a") as file:
            file.write("5.000;1\n5.33;1\n")
        assert source.steps() == 3
        assert source.read(1, 2).tolist() == [[value, 1]]
        if usual == ",":
            with pytest.raises(
                ValueError, match=r"'5\.33' is no number with the decimal mark ','; write all cells alike"
            ):
                source.read(2, 3)
        else:
            assert source.read(2, 3).tolist() == [[5.33, 1]]


@pytest.mark.parametrize("name", ["UTF-8", "utf8", "iso-8859-1", "Latin1", "iso-8859-15", "ascii", "cp1250"])
def test_encodings_have_several_names(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    assert FollowedTable(path, Wanted(asked=Asked(encoding=name))).read(0, 1).tolist() == [[1, 2]]


def test_what_cannot_be_followed_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for encoding in ("utf-16-le", "cp037"):
        path.write_bytes("a,b\n1,2\n".encode(encoding))
        with pytest.raises(ValueError, match=f"is {encoding}, expected UTF-8 or one byte a character"):
            FollowedTable(path, Wanted(asked=Asked(encoding=encoding)))
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(b"a,b\n1,2\n"))
    with pytest.raises(ValueError, match=r"follow: .*a\.csv\.gz is packed, and can only be read when it is complete"):
        FollowedTable(packed, Wanted())


def test_a_carriage_return_within_a_line_ends_no_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n1,2\n3,4\n")
    source = FollowedTable(path, Wanted())
    with path.open("ab") as file:
        file.write(b"5,6\r7,8\n9,10\r\n")
    assert source.steps() == 4
    with pytest.raises(ValueError, match=r"data: .*a\.csv, line 4: the line has a carriage return within it"):
        source.read(0, 4)
    np.testing.assert_array_equal(source.read(3, 4), [[9, 10]])


@pytest.mark.parametrize("content", [b"a,b\n", b"a,b\n1,2", b"a,b\r1,2\r3,4\r"])
def test_a_table_without_a_complete_row_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data: .*a\.csv has no complete row yet; a row ends in a line feed"):
        FollowedTable(path, Wanted())
