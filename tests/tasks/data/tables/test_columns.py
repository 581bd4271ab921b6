"""Columns that cannot be used are refused with what can be done."""

from __future__ import annotations

from pathlib import Path

import pytest

from reminding.tasks.data.tables import Asked, FollowedTable, TableSource, Wanted
from reminding.tasks.data.times.written import is_time

REFUSED = {
    "1,2\n3,4\n": ("P", "columns: .* has no 'P'; it has 0, 1; its header line.* may be missing"),
    '"a, b",b\n1,2\n': ("c", "columns: .* has no 'c'; it has 'a, b', b$"),
    "a,b\n1,on\n2,off\n": ("b", "'on' is not a number, .*; the column holds text alone; write numbers in its place"),
}


@pytest.mark.parametrize(("text", "refused"), REFUSED.items(), ids=REFUSED)
def test_what_can_be_done_is_said(tmp_path: Path, text: str, refused: tuple[str, str]) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=refused[1]):
        TableSource(tmp_path / "a.csv", Wanted(columns=(refused[0],)))


MIXED = {
    "1,5\n2,true\n3,6\n": "line 3, column 'b': 'true' stands in a column of numbers; .*--na 'true' reads it",
    "1,true\n2,False\n3,6\n": "line 4, column 'b': '6' stands in a column of true and false; write all",
    "1,1\n2,0\n3,\n4, FALSE\n": "line 5, column 'b': 'FALSE' stands in a column of numbers",
}


@pytest.mark.parametrize("source", [TableSource, FollowedTable])
@pytest.mark.parametrize(("rows", "refused"), MIXED.items(), ids=MIXED)
def test_true_and_false_do_not_stand_among_numbers(
    tmp_path: Path, source: type[TableSource | FollowedTable], rows: str, refused: str
) -> None:
    (tmp_path / "a.csv").write_text("a,b\n" + rows)
    with pytest.raises(ValueError, match=refused):
        source(tmp_path / "a.csv", Wanted(columns=("a", "b"), missing="zero")).read(0, rows.count("\n"))


@pytest.mark.parametrize("source", [TableSource, FollowedTable])
def test_true_and_false_are_1_and_0_in_a_column_of_their_own(
    tmp_path: Path, source: type[TableSource | FollowedTable]
) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,true\n2,\n3,False\n")
    wanted = Wanted(columns=("a", "b"), missing="zero", masks=("b",))
    assert source(tmp_path / "a.csv", wanted).read(0, 3)[:, 1].tolist()[::2] == [1, 0]


def test_a_word_for_a_missing_value_may_be_true(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,5\n2,true\n3,6\n")
    wanted = Wanted(columns=("b",), missing="carry", asked=Asked(na=("true",)))
    assert TableSource(tmp_path / "a.csv", wanted).read(0, 3)[:, 0].tolist() == [5, 5, 6]


@pytest.mark.parametrize("cell", ["inf", "-inf", "-Infinity", "1e999", "-1e999", "-1.#INF"])
@pytest.mark.parametrize("source", [TableSource, FollowedTable])
def test_what_is_not_finite_is_refused(tmp_path: Path, source: type[TableSource | FollowedTable], cell: str) -> None:
    (tmp_path / "a.csv").write_text(f"a,b\n1,2\n2,{cell}\n3,4\n")
    with pytest.raises(ValueError, match=f"line 3, column 'b': '{cell}' is not"):
        source(tmp_path / "a.csv", Wanted()).read(0, 3)


DATES = (
    *("2024-01-05", "2024/1/5 3:00", "05.01.2024 03:00", "5/1/24", "1/5/2024 3:00 PM", "24-01-05"),
    *("5 Jan 2024", "Jan 5, 2024", "Friday, 5 January 2024"),
    *(
        "2024-01",
        "1/2024",
        "Q1 2024",
        "2024-W05",
        "20240105T0300Z",
        "2024-01-05T03:00:00+01:00",
        "05.01.2024 03:00 CET",
    ),
)


@pytest.mark.parametrize("date", DATES)
@pytest.mark.parametrize("last", ["", "all year"])
def test_a_last_row_without_a_date_is_refused_however_dates_are_written(tmp_path: Path, date: str, last: str) -> None:
    path, rows = tmp_path / "a.csv", "".join(f'"{date}",{i}.5\n' for i in range(9))
    path.write_text("when,load\n" + rows)
    source = TableSource(path)
    assert source.described[0].reason == "times; --time when checks their order"
    assert is_time(date) and source.steps() == 9
    path.write_text("when,load\n" + rows + f"{last},40.5\n")
    with pytest.raises(
        ValueError, match=f"a.csv, line 11: the line has '{last}' in the column 'when' in the place of"
    ):
        TableSource(path)


@pytest.mark.parametrize(
    "text", ["12 volts", "a/b/c", "1-2", "05.2024.01", "2024-1-1-1", "May", "1/2/3/4", "v 2024-01"]
)
def test_what_is_no_date_is_text(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text("what,load\n" + 9 * f"{text},1.5\n" + ",2.5\n")
    source = TableSource(tmp_path / "a.csv")
    assert source.described[0].reason == f"text, such as {text!r} in line 2" and source.steps() == 10


@pytest.mark.parametrize("time", [None, "date"])
def test_a_last_row_with_a_time_may_lack_another(tmp_path: Path, time: str | None) -> None:
    (tmp_path / "a.csv").write_text("date,v,fault\n2024-01-01,1,2023-05-01\n2024-01-02,2,2023-05-01\n2024-01-03,3,\n")
    assert TableSource(tmp_path / "a.csv", Wanted(time=time)).read(0, 9).tolist() == [[1], [2], [3]]


def test_a_last_row_without_any_time_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("from,to,v\n2024-01-01,2024-01-02,1\n2024-01-02,2024-01-03,2\n,,3\n")
    with pytest.raises(ValueError, match=r"line 4: the line has '' in the column 'from' in the place of a time"):
        TableSource(tmp_path / "a.csv", Wanted())


def test_a_name_of_several_lines_is_shown_in_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('"t\n(s)","temp\n(C)",v\n1,2,3\n2,3,4\n')
    lines = TableSource(tmp_path / "a.csv", Wanted(time="t\n(s)")).reading().lines()
    assert lines[1] == r"columns: 't\n(s)' (time), 'temp\n(C)', v"
    assert lines[2].startswith(r"time: 't\n(s)', 1 to 2")
