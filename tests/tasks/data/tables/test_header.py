"""Which line holds the names of the columns, where names are numbers or times stand beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from reminding.tasks.data.tables import Asked, FollowedTable, TableSource, Wanted

TIMES = ("2024-01-01 00:00:00", "2024-01-01T00:05", "31/12/2024 10:00", "1/2/24", "2024-01-01 1:00 pm CET", "10:30")


@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize(
    "header", ["timestamp,773869,767541", "date,5,10", "date,0.5,1.0", "t,0,1", ",773869,767541", 't,"77386","76754"']
)
def test_a_text_above_times_makes_numbers_beside_it_names(tmp_path: Path, header: str, time: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n" + f"{time},60.1,61.2\n{time},60.2,61.3\n")
    for table in (TableSource(path, Wanted()), FollowedTable(path, Wanted())):
        assert table.columns == tuple(header.replace('"', "").split(",")[1:])
        np.testing.assert_array_equal(table.read(0, table.steps()), [[60.1, 61.2], [60.2, 61.3]])


@pytest.mark.parametrize(
    "content",
    [
        *(f"{time},1,2\n{time},3,4\n" for time in TIMES),
        ",7,2\nx,3,4\n",
        "7,,2\n1,2024-01-01,4\n1,2024-01-02,4\n",
        ",7,2\n2024-01-01,3,4\n,5,6\n2024-01-02,3,4\n",
        "NA,1,2\n2024-01-01,3,4\n",
    ],
)
def test_rows_with_times_are_no_header(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    assert TableSource(path, Wanted()).steps() == content.count("\n")


@pytest.mark.parametrize("before", ["", "# a comment\n", "Exported by X\n\n"])
def test_a_text_above_numbers_beside_numbers_may_be_a_name(tmp_path: Path, before: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(before + "temp,5,10\n1,2,3\n4,5,6\n7,8,9\n")
    for kind in (TableSource, FollowedTable):
        message = "column '0': 'temp' is not a number; --header yes reads the line as names, --na"
        with pytest.raises(ValueError, match=message):
            kind(path, Wanted()).read(0, 1)
    path.write_text("0,5\nx,2\n1,3\n2,3\n3,4\n")
    with pytest.raises(ValueError, match="'x' is not a number; --na"):
        TableSource(path, Wanted(columns=("0",)))


@pytest.mark.parametrize(
    ("lines", "columns"),
    [
        ("Price,Close,Open\nTicker,X,X\nDate,,\n", ("Close", "Open")),
        ("Price,Close,Close\nTicker,X,Y\nDate,,\n", ("Close X", "Close Y")),
        (",Close,Open\nDate,,\n", ("Close", "Open")),
    ],
)
def test_a_line_of_pandas_names_the_column_of_times(tmp_path: Path, lines: str, columns: tuple[str, ...]) -> None:
    path = tmp_path / "a.csv"
    path.write_text(lines + "2024-01-01,1,2\n2024-01-02,3,4\n")
    followed, table = FollowedTable(path, Wanted()), TableSource(path, Wanted(time="Date"))
    assert followed.columns == table.columns == columns
    np.testing.assert_array_equal(table.read(0, 9), [[1, 2], [3, 4]])
    np.testing.assert_array_equal(followed.read(0, 2), [[1, 2], [3, 4]])
    assert (table.described[0].name, table.described[0].unit) == ("Date", "")


@pytest.mark.parametrize("second", ["Ticker,,", "Date,1,", "2024-01-01,,", ",,"])
def test_a_row_without_values_is_no_name(tmp_path: Path, second: str) -> None:
    path = tmp_path / "a.csv"
    cell = "x" if second.startswith("Ticker") else "2024-01-02"
    path.write_text(f"Price,Close,Open\n{second}\n{cell},1,2\n{cell},3,4\n")
    with pytest.raises(ValueError, match=r"line 2, column '(Close|Open)': the value is missing"):
        TableSource(path, Wanted(columns=("Close", "Open")))


@pytest.mark.parametrize("kind", [TableSource, FollowedTable])
def test_whole_numbers_that_grow_beside_a_text_may_be_names(
    tmp_path: Path, kind: type[TableSource | FollowedTable]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("sensor,5,10\na,1.5,2.5\nb,2.5,3.5\n")
    with pytest.raises(
        ValueError, match=r"line 1: 'sensor,5,10' may name the columns or be a row; say which by --he"
    ):
        kind(path, Wanted())
    cases: list[tuple[Literal["yes", "no"], tuple[str, str], int]] = [("yes", ("5", "10"), 2), ("no", ("1", "2"), 3)]
    for header, columns, rows in cases:
        table = kind(path, Wanted(asked=Asked(header=header)))
        assert (table.columns, table.steps()) == (columns, rows)
    assert kind(path, Wanted(columns=("1", "2"), asked=Asked(fixed=True))).steps() == 3


@pytest.mark.parametrize("first", ["a,5,10", "x,10,5", "x,5,10.5"])
def test_a_text_beside_numbers_is_a_row_where_it_stands_again_or_they_do_not_grow(tmp_path: Path, first: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{first}\na,1.5,2.5\nb,2.5,3.5\n")
    assert TableSource(path, Wanted()).steps() == 3


@pytest.mark.parametrize("rows", ["2024-01-01,1.5\n2024-01-02,2.5\n", "a;1\nb;2\n"])
def test_a_title_is_no_name(tmp_path: Path, rows: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"Monthly report\n{rows}")
    with pytest.raises(
        ValueError, match=r"line 1: 'Monthly report' has one cell less .* if it is a title, delete it"
    ):
        TableSource(path, Wanted())
    for name in ('"Monthly mean"', "mean"):  # as R writes the name of a column beside those of rows
        path.write_text(f"{name}\n{rows}")
        assert TableSource(path, Wanted()).columns == (name.strip('"'),)
