"""Tables of many kinds: read right, or refused with file, line, column and what to do.

Shapes: n rows, C columns.
"""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reminding.tasks.data.tables import Asked, TableSource, Wanted, database
from reminding.tasks.data.tables.database import write_parquet
from reminding.tasks.data.tables.form import is_table

NAN = float("nan")
ASKED = ("separator", "decimal", "header", "encoding", "na")


def source(path: Path, content: str | bytes, **options: Any) -> TableSource:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    asked = Asked(**{name: options.pop(name) for name in ASKED if name in options})
    return TableSource(path, Wanted(asked=asked, **options))


def rows(table: TableSource) -> list[list[float]]:
    return table.read(0, table.steps()).tolist()


READ: list[tuple[str, str | bytes, dict[str, Any], tuple[str, ...], list[Any]]] = [
    ("plain", "a,b\n1,2\n3,4\n", {}, ("a", "b"), [[1, 2], [3, 4]]),
    ("no last line end", "a,b\n1,2\n3,4", {}, ("a", "b"), [[1, 2], [3, 4]]),
    ("byte order mark", "\ufeffa,b\n1,2\n", {}, ("a", "b"), [[1, 2]]),
    ("CR LF", "a,b\r\n1,2\r\n", {}, ("a", "b"), [[1, 2]]),
    ("CR", "a,b\r1,2\r3,4\r", {}, ("a", "b"), [[1, 2], [3, 4]]),
    ("CR CR LF", "a,b\r\r\n1,2\r\r\n3,4\r\r\n", {}, ("a", "b"), [[1, 2], [3, 4]]),
    ("LF CR", "a,b\n\r1,2\n\r", {}, ("a", "b"), [[1, 2]]),
    ("mixed line ends", "a,b\r\n1,2\n3,4\r\n", {}, ("a", "b"), [[1, 2], [3, 4]]),
    ("blank lines", "a,b\n1,2\n\n3,4\n\n\n", {}, ("a", "b"), [[1, 2], [3, 4]]),
    ("blank lines, one column", "a\n1\n3\n\n\n", {}, ("a",), [[1], [3]]),
    ("missing, one column", "a\n1\n\n3\n\n", {"missing": "carry"}, ("a",), [[1, 0], [1, 1], [3, 0]]),
    ("missing, one column, UTF-16", "a\n1\n\n3\n".encode("utf-16"), {"missing": "drop"}, ("a",), [[1], [3]]),
    ("quotes", '"a","b, c"\n"1","2"\n', {}, ("a", "b, c"), [[1, 2]]),
    ("semicolons in quotes", 'x;y;name\n1;2.5;"a;b"\n3;-4e1;c\n', {}, ("x", "y"), [[1, 2.5], [3, -40]]),
    ("line end in a name", 'a,"b\nc"\n1,2\n3,4\n', {}, ("a", "b\nc"), [[1, 2], [3, 4]]),
    ("line feed in a name, CR LF", 'a,"b\nc"\r\n1,2\r\n3,4\r\n', {}, ("a", "b\nc"), [[1, 2], [3, 4]]),
    ("CR in a name, LF", '"a\rb",c\n1,2\n3,4\n', {}, ("a\nb", "c"), [[1, 2], [3, 4]]),
    ("wide blanks", "a,b\n\xa01,2\u3000\n3,\u20094\n5,6\n", {}, ("a", "b"), [[1, 2], [3, 4], [5, 6]]),
    ("tabs", "a\tb\n1\t2\n", {}, ("a", "b"), [[1, 2]]),
    ("bars", "a|b\n1|2\n3|4\n", {}, ("a", "b"), [[1, 2], [3, 4]]),
    ("white space", "  a   b\n  1   2\n 10  20\n", {}, ("a", "b"), [[1, 2], [10, 20]]),
    ("decimal commas", "t;v\n1;2,5\n2;3,5\n", {}, ("t", "v"), [[1, 2.5], [2, 3.5]]),
    ("decimal commas, tabs", "a\tb\n1,5\t2,5\n3,5\t4,5\n", {}, ("a", "b"), [[1.5, 2.5], [3.5, 4.5]]),
    ("decimal commas, quoted", 'a,b\n"1,5",1\n"2,5",2\n', {}, ("a", "b"), [[1.5, 1], [2.5, 2]]),
    ("one column, told", "v\n1,5\n2,5\n", {"decimal": ","}, ("v",), [[1.5], [2.5]]),
    ("-999 with a comma", "v\n-999,00\n1,5\n", {"na": ("-999",), "missing": "drop", "decimal": ","}, ("v",), [[1.5]]),
    ("too large for a number", "v\n1e999\n1\n", {"na": ("1e999",), "missing": "drop"}, ("v",), [[1]]),
    ("points by thousands", "a;b\n1.234,5;1\n1,5;2.000\n", {}, ("a", "b"), [[1234.5, 1], [1.5, 2000]]),
    ("commas by thousands", 'a,b\n"2,146",1\n"1,002,003.5",3\n', {}, ("a", "b"), [[2146, 1], [1002003.5, 3]]),
    ("thousands, told", "a;b\n2,146;1\n", {"decimal": "."}, ("a", "b"), [[2146, 1]]),
    ("decimals, told", "a;b\n2,146;1\n", {"decimal": ","}, ("a", "b"), [[2.146, 1]]),
    ("truth", "a,b\nTrue,1\nfalse,2\n", {}, ("a", "b"), [[1, 1], [0, 2]]),
    ("large", "a\n1000000001\n999999999\n", {}, ("a",), [[1000000001], [999999999]]),
    ("same names", "t,v,v\n1,2,3\n", {}, ("t", "v", "v.1"), [[1, 2, 3]]),
    ("no header", "1,2\n3,4\n", {}, ("0", "1"), [[1, 2], [3, 4]]),
    ("no header, a text", "abc,1,2\ndef,3,4\n", {}, ("1", "2"), [[1, 2], [3, 4]]),
    ("no header, told", "1,2\n3,4\n", {"header": "yes"}, ("1", "2"), [[3, 4]]),
    ("header of years", "city,2001,2002\nParis,15,25\nRome,1,2\n", {}, ("2001", "2002"), [[15, 25], [1, 2]]),
    ("header of numbers", "0,1,2\n0.5,0.6,0.7\n", {}, ("0", "1", "2"), [[0.5, 0.6, 0.7]]),
    ("rows that count", "0,1,2\n3,4,5\n6,7,8\n", {}, ("0", "1", "2"), [[0, 1, 2], [3, 4, 5], [6, 7, 8]]),
    ("index of pandas", ",a,b\n0,1,2\n1,3,4\n", {}, ("a", "b"), [[1, 2], [3, 4]]),
    ("row names of R", '"a","b"\n"1",5,6\n"2",7,8\n', {}, ("a", "b"), [[5, 6], [7, 8]]),
    ("the header ends in a separator", "a;b;\n1,5;2\n3;4\n", {}, ("a", "b"), [[1.5, 2], [3, 4]]),
    ("the header and the units do", "t,v,\ns,C,\n" + "1,2\n" * 20, {}, ("t", "v"), [[1, 2]] * 20),
    ("a title ends in a separator", "of,Berlin,\nk,v\n1,2\n3,4\n", {}, ("k", "v"), [[1, 2], [3, 4]]),
    ("rows end in a separator", "a,b\n1,2,\n3,4,\n", {}, ("a", "b"), [[1, 2], [3, 4]]),
    ("comments first", "# by me\n# a,b\n1,2\n3,4\n", {}, ("a", "b"), [[1, 2], [3, 4]]),
    ("comments between", "a,b\n1,2\n# here, and\n# there\n3,4\n", {}, ("a", "b"), [[1, 2], [3, 4]]),
    ("comments, first column not read", "a,b\n1,2\n#3,4\n5,6\n", {"columns": ("b",)}, ("b",), [[2], [6]]),
    ("comments, late, first not read", "a,b\n" + "1,2\n" * 150 + " %3,4\n#N/A,5\n", {"columns": ("b",)}, ("b",),
     [*[[2]] * 150, [5]]),
    ("comments, late, blanks", "a b\n" + "1 2\n" * 150 + "# 4\n5 6\n", {}, ("a", "b"), [*[[1, 2]] * 150, [5, 6]]),
    ("comments, late, UTF-16", ("a,b\n" + "1,2\n" * 150 + "#3,4\n").encode("utf-16"), {"columns": ("b",)}, ("b",),
     [[2]] * 150),
    ("comments of two kinds", "# by me\n% a\na,b\n1,2\n#3,4\n%5,6\n7,8\n", {}, ("a", "b"), [[1, 2], [7, 8]]),
    ("comments of two kinds, late", "# by me\na,b\n" + "1,2\n" * 150 + "%3,4\n5,6\n#7,8\n", {}, ("a", "b"),
     [*[[1, 2]] * 150, [5, 6]]),
    ("comments of two kinds, late, first not read", "% me\na,b\n" + "k,2\n" * 150 + "#k,4\nk,5\n%k,6\n",
     {"columns": ("b",)}, ("b",), [*[[2]] * 150, [5]]),
    ("comments of a second kind, late, first not read", "# me\na,b\n" + "k,2\n" * 150 + "%k,4\nk,5\n",
     {"columns": ("b",)}, ("b",), [*[[2]] * 150, [5]]),
    ("comments of two kinds, late, of another width", "a,b\n" + "1,2\n" * 150 + "% 3\n# 4\n5,6\n", {}, ("a", "b"),
     [*[[1, 2]] * 150, [5, 6]]),
    ("no comments", "a,b\n1,#ff\n2,#aa\n", {}, ("a",), [[1], [2]]),
    ("units", "time,temp\n(s),degC\n1,2\n3,4\n", {}, ("time", "temp"), [[1, 2], [3, 4]]),
    ("preamble", "Exported by X\n\na,b\n1,2\n3,4\n", {}, ("a", "b"), [[1, 2], [3, 4]]),
    ("months are no numbers", "m,v\n2020_01,1\n2020_02,2\n", {}, ("v",), [[1], [2]]),
    ("latin-1, column not read", "a,b\n1,caf\xe9\n2,x\n".encode("latin-1"), {}, ("a",), [[1], [2]]),
    ("latin-1, late", b"a,b\n" + b"1,x\n" * 400_000 + b"2,\xe9\n", {}, ("a",), [[1]] * 400_000 + [[2]]),
    ("UTF-16", "a,b\n1,2\n".encode("utf-16"), {}, ("a", "b"), [[1, 2]]),
    ("UTF-16 without mark", "a,b\n1,2\n".encode("utf-16-le"), {}, ("a", "b"), [[1, 2]]),
    ("blanks around a name", "T , v\n1,2\n", {"columns": ("T",)}, ("T",), [[1]]),
    ("sentinels", "a,b\n-999,1\n3,?\n4,5\n", {"na": ("-999", "?"), "missing": "drop"}, ("a", "b"), [[4, 5]]),
    ("drop", "a,b\n,NA\n2,3\n", {"missing": "drop"}, ("a", "b"), [[2, 3]]),
    ("carry", "a\n1\nNA\nnan\n4\n", {"missing": "carry"}, ("a",), [[1, 0], [1, 1], [1, 1], [4, 0]]),
    ("NaN of printf", "a,b\n1,-nan\n+nan,2\n3,nan(ind)\n", {"missing": "carry"}, ("a", "b"),
     [[1, NAN, 0, 1], [1, 2, 1, 0], [3, 2, 0, 1]]),
    ("NaN of printf, commas", "a;b\n1,5;-nan\n2,5;3,5\n", {"missing": "drop"}, ("a", "b"), [[2.5, 3.5]]),
    ("#N/A first", "a,b\n#N/A,1\n2,3\n#N/A N/A,4\n", {"missing": "carry"}, ("a", "b"),
     [[NAN, 1, 1], [2, 3, 0], [2, 4, 1]]),
    ("#N/A first, late", "a,b\n" + "1,2\n" * 150 + "#N/A,3\n#NA,4\n", {"missing": "carry"}, ("a", "b"),
     [[1, 2, 0]] * 150 + [[1, 3, 1], [1, 4, 1]]),
    ("#N/A and comments", "# by me\na;b\n#N/A;1\n#N/A means missing\n2;3\n" + "4;5\n" * 150 + "# c\n#N/A;6\n",
     {"missing": "carry"}, ("a", "b"), [[NAN, 1, 1], [2, 3, 0], *[[4, 5, 0]] * 150, [4, 6, 1]]),
    ("#N/A, white space", "a b\n#N/A 1\n2 3\n", {"missing": "drop"}, ("a", "b"), [[2, 3]]),
    ("#N/A, one column", "a\n1\n#N/A\n3\n", {"missing": "carry"}, ("a",), [[1, 0], [1, 1], [3, 0]]),
    ("#N/A, UTF-16", "a,b\n#N/A,1\n2,3\n".encode("utf-16"), {"missing": "drop"}, ("a", "b"), [[2, 3]]),
    ("an error told to be missing", "a,b\n1,2\n#DIV/0!,3\n%,4\n", {"missing": "carry", "na": ("#DIV/0!", "%")},
     ("a", "b"), [[1, 2, 0], [1, 3, 1], [1, 4, 1]]),
    ("sep=, several columns", "sep=;\na;b;c\n1;2;3\n4;5;6\n", {}, ("a", "b", "c"), [[1, 2, 3], [4, 5, 6]]),
    ("sep=, a mark", "\ufeffsep=;\r\na;b\r\n1,5;2\r\n4;5,5\r\n", {}, ("a", "b"), [[1.5, 2], [4, 5.5]]),
    ("sep=, tabs", "sep=\t\na\tb\n1\t2\n", {}, ("a", "b"), [[1, 2]]),
    ("sep=, an unusual one", '"sep=^"\na^b\n1^2\n', {}, ("a", "b"), [[1, 2]]),
    ("sep=, filled up", "sep=;;;\na;b;c\n1;2;3\n", {}, ("a", "b", "c"), [[1, 2, 3]]),
    ("sep=, UTF-16", "sep=;\na;b\n1;2\n".encode("utf-16"), {}, ("a", "b"), [[1, 2]]),
    ("sep=, no header", "sep=;\n1;2\n3;4\n", {}, ("0", "1"), [[1, 2], [3, 4]]),
    ("encoding by another name", "a,b\xe9\n1,2\n".encode("latin-1"), {"encoding": "ISO-8859-1"}, ("a", "b\xe9"),
     [[1, 2]]),
    ("comments, late, first of texts", "k,b\n" + "x,2\n" * 150 + "#x,4\nx,5\n", {}, ("b",), [*[[2]] * 150, [5]]),
    ("two lines of names", ",temp,temp,rh\ndate,in,out,in\n2020-01-01,1,2,3\n2020-01-02,4,5,6\n", {},
     ("temp in", "temp out", "rh in"), [[1, 2, 3], [4, 5, 6]]),
    ("a line of a key and a value", "Station,Berlin\ndate,temp\n2020-01-01,1\n2020-01-02,2\n", {}, ("temp",),
     [[1], [2]]),
    ("lines of keys and values", "Station: X\nUnit: C\ndate,temp\n" + "2020-01-01,1\n" * 50, {}, ("temp",),
     [[1]] * 50),
    ("Markdown", "| a | b |\n|:--|--:|\n| 1 | 2 |\n| 3 | 4 |\n", {}, ("a", "b"), [[1, 2], [3, 4]]),
    ("a title, told to be none", "By X\n1.5;2\n2.5;3\n", {"header": "no"}, ("0", "1"), [[1.5, 2], [2.5, 3]]),
    ("groups with totals", "g,v\nx,1\nTotal,1\ny,2\nTotal,2\n", {}, ("v",), [[1], [1], [2], [2]]),
    ("dates and a remark at the end", "date,note,v\n2020-01-01,,1\n2020-01-02,checked,2\n", {}, ("v",), [[1], [2]]),
    ("first cell empty", "a,b\n,1\n2,3\n", {"missing": "carry"}, ("a", "b"), [[NAN, 1, 1], [2, 3, 0]]),
]  # fmt: skip


@pytest.mark.parametrize("case", READ, ids=[case[0] for case in READ])
def test_read_right(
    tmp_path: Path, case: tuple[str, str | bytes, dict[str, Any], tuple[str, ...], list[Any]]
) -> None:
    _, content, options, columns, expected = case
    table = source(tmp_path / "a.csv", content, **options)
    assert table.columns == columns
    np.testing.assert_array_equal(rows(table), expected)


@pytest.mark.parametrize(
    ("content", "usual", "first"),
    [
        ("a;b\n5.000;1\n5.333;2\n", ",", 5000),
        ("a;b\n5.000;1\n5.33;2\n", ",", 5),
        ("a;b\n5.000;0.5\n5.333;2\n", None, 5),
        ("a;b\n0.125;1\n5.333;2\n", None, 0.125),
        ("a;b\n0.000;1\n5.333;2\n", ",", 0),
        ("a;b\n5.000;x\n5.333;1.5x\n", ".", 5),
        ("a,b\n5.000,1\n5.333,2\n", ",", 5),
        ("a,b\n5.000,1\n5.333,2\n", None, 5),
        ("a\tb\n5.000\t1\n5.333\t2\n", None, 5),
        ("a\n5.000\n5.333\n", ",", 5000),
        ("a;b\n1;2\n3;4\n", ",", 1),
    ],
)
def test_points_before_three_digits_are_of_thousands_where_commas_are_decimal_marks(
    tmp_path: Path, content: str, usual: str | None, first: float
) -> None:
    """A run whose decimal mark is a comma reads whole thousands as it reads 5.332,6; a cell such as 5.33 decides."""
    path = tmp_path / "a.csv"
    path.write_text(content)
    asked = Asked(usual=usual, fixed=usual is not None)
    assert TableSource(path, Wanted(columns=("a",), asked=asked)).read(0, 1).tolist() == [[first]]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("a,b\n1,2\n3,\n", {}, r"a\.csv, line 3, column 'b': the value is missing, one of 1 in 'b'; --missing carry"),
    ("a,b\n1,2\n3\n", {}, r"a\.csv, line 3: 1 cell, expected 2"),
    ("a,b\n1,2\n3,4,5\n", {}, r"a\.csv, line 3: 3 cells, expected 2"),
    ("a,b\n1,2\n\n3,x\n4,5\n", {}, r"a\.csv, line 4, column 'b': 'x' is not a number; --na 'x'"),
    ("a\n1\n\n3\n", {}, r"a\.csv, line 3, column 'a': the value is missing"),
    ("a,b\n1,2\n3,-nan\n", {}, r"a\.csv, line 3, column 'b': the value is missing, one of 1 in 'b'"),
    ("a,b\n1,2\n#DIV/0!,3\n", {}, r"a\.csv, line 3, column 'a': '#DIV/0!' is not a number; --na '#DIV/0!' reads"),
    ("a,b\n" + "1,2\n" * 150 + "#NAME?,3\n", {}, r"line 152, column 'a': '#NAME\?' is not a number"),
    ("a,b\n" + "1,2\n" * 150 + "#N/A\n", {}, "line 152: 1 cell, expected 2"),
    ("a,b\n1,2\n" + "a,b\n3,4\n" * 2, {}, "line 3, column 'a': 'a' is not a number, as 1 more.*the line of names"),
    ("t,b\n2024-01-01,2\nt,b\n2024-01-02,4\n", {"time": "t"}, "line 3, column 'b': 'b' is not.*again.*delete it$"),
    ("# c\na,b\n1,2\n3,inf\n", {}, r"line 4, column 'b': 'inf' is not finite"),
    ('a,b\n1,2\n3,"4\n5,6\n', {}, "line 3: a quotation mark opens here and is not closed"),
    ("", {}, "holds no rows"),
    ("only,words\nand,more\n", {}, "has no column of numbers: 'only' text, such as 'and' in line 2"),
    ("a,b\n1,x\n2,y\n", {"columns": ("b",)}, "line 2, column 'b': 'x' is not a number"),
    ("a,b\n1,\n2,\n", {"columns": ("b",)}, "column 'b' has no values"),
    ("Temp,b\n1,2\n", {"columns": ("temp",)}, r"columns: .* has no 'temp'; it has Temp, b; did you mean 'Temp'"),
    ("a,b\n1,2\n", {"time": "c"}, "time: .* has no 'c'"),
    ("v\n1,5\n2,5\n", {}, "decimal: .*, line 2: '1,5' may be one number or two cells"),
    ("a;b\n2,146;1\n3,123;2\n", {}, r"decimal: .*, line 2, column 'a': '2,146' may be 2146 or 2\.146"),
    ("a;b\n1;5.000\n2;5.333\n", {}, r"decimal: .*, line 2, column 'b': '5\.000' may be 5000 or 5\.000; say which by"),
    ("a;b\n1;\n2;5.333\n", {"missing": "carry"}, r"decimal: .*, line 3, column 'b': '5\.333' may be 5333 or"),
    ("a;b\n1,5;1\n2,5;2.5\n", {}, "decimal: .*, line 3, column 'b': the cell is no number with the decimal mark ','"),
    ("bad,1,2\n3,4,5\n6,7,8\n", {}, "line 1, column '0': 'bad' is not a number; --header yes"),
    ("a,b\n1,\x00\n", {}, "binary data at byte 6"),
    (
        "% c\n@RELATION r\n@ATTRIBUTE a REAL\n@ATTRIBUTE b REAL\n@DATA\n" + "1.5,2\n" * 40,
        {},
        "line 2: '@RELATION r' is of an ARFF",
    ),
    ("@relation r\n@attribute a real\n@data\n" + "{0 1, 1 2}\n" * 40, {}, "line 1: '@relation r' is of an ARFF file"),
    ("By X\n1.5;2\n2.5;3\n", {}, "header: .*, line 1: 'By X' has one cell less than the lines below it"),
    ("a,b\nx,y\ns,m\n1,2\n3,4\n", {}, "header: .*'s, m' is the third of several lines of texts above columns of num"),
    ("[1,2,3]\n[4,5,6]\n", {}, r"line 2: '\[4,5,6\]' has signs around its cells, as in JSON"),
    ("x = [1 2 3;\n4 5 6;\n7 8 9];\n", {}, r"line 3: '7 8 9\];' has signs around its cells"),
    ("(1,2),\n(3,4),\n(5,6);\n", {}, "has signs around its cells"),
    ("d,v\n2020-01-01,1\n2020-01-02,2\nTotal,3\n", {}, "line 4: the line begins as a line of totals does"),
    (
        "d,v\n2020-01-01,1\n2020-01-02,2\nTotal,3\n",
        {"columns": ("v",)},
        "line 4: the line begins as a line of totals",
    ),
    ("n,v\nx,1\ny,2\nMean:,1.5\nmax,2\n", {}, "line 4: the line begins as a line of totals does"),
    ("d,v\n2020-01-01,1\n2020-01-02,2\n,3\n", {}, "line 4: the line has '' in the column 'd' in the place of a time"),
    ("v,d\n1,2020-01-01\n2,2020-01-02\n3,all\n", {}, "line 4: the line has 'all' in the column 'd' in the place of"),
]


@pytest.mark.parametrize(("content", "options", "message"), REFUSED)
def test_refused_with_a_place_and_what_to_do(
    tmp_path: Path, content: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        source(tmp_path / "a.csv", content, **options)


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "index", "Row", "ID"])
def test_row_numbers_are_ignored_unless_they_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{name},x\n" + "".join(f"{i},{i % 3}\n" for i in range(9)))
    table = TableSource(path)
    assert table.columns == ("x",)
    assert table.described[0].reason == "row numbers"
    assert TableSource(path, Wanted(columns=(name or "column 1", "x"))).columns == (name or "column 1", "x")
    path.write_text(f"{name},x\n" + "".join(f"{2 * i},{i % 3}\n" for i in range(9)))
    assert len(TableSource(path).columns) == 2, "it does not count the rows"


@pytest.mark.parametrize("cell", ["9.007.199.254.740.993,0", "9007199254740993", "-9.007.199.254.740.993,5"])
@pytest.mark.parametrize("missing", ["carry", "zero", "drop"])
def test_they_are_noted_however_they_are_written(tmp_path: Path, cell: str, missing: Any) -> None:
    (tmp_path / "a.csv").write_text(f"n;x\n{cell};1,5\n;2,5\n2;3,5\n")
    notes = TableSource(tmp_path / "a.csv", Wanted(missing=missing)).reading().notes
    assert [note for note in notes if note.startswith("n: numbers beyond 2^53")]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_numbers_beyond_the_digits_of_float64_are_noted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("n,x\n" + "".join(f"{2**53 + i},{2**53 - 1 - i}\n" for i in range(5)))
    if suffix == ".parquet":
        write_parquet(pd.read_csv(path), path)
    (note,) = TableSource(path).reading().notes
    assert note == "n: numbers beyond 2^53 are read to 16 digits; a counter loses its steps of 1"
    assert TableSource(path, Wanted(columns=("x",))).reading().notes == ()


def test_a_table_of_an_open_form_is_not_taken_for_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    for content in ("@relation r\n@attribute a real\n@data\n1\n2\n", "v\n1,5\n2,5\n", "By X\n1.5;2\n2.5;3\n"):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"a\.dat, line \d.*, or read its bytes by --format bytes"):
            is_table(path, Asked())


@pytest.mark.parametrize(
    ("line", "table"),
    [
        ("1/1/2024;17:24:00;4.2;234.8\n", True),
        ("1/1/2024;17:24:00;open;234.8\n", True),
        ("1/1/2024;17:24:00;open;shut\n", False),
        ("1/1/2024;a;b;4.2\n", False),
    ],
)
def test_a_text_is_a_table_if_most_cells_are_numbers_or_times(tmp_path: Path, line: str, table: bool) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Date;Time;a;b\n" + line * 20)
    assert is_table(path, Asked()) == table


def test_packed_tables(tmp_path: Path) -> None:
    plain = b"a,b\n1,2\n3,4\n"
    for name, content in (("a.csv.gz", gzip.compress(plain)), ("a.csv.xz", lzma.compress(plain))):
        assert rows(source(tmp_path / name, content)) == [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match=r"a\.csv\.gz cannot be read: "):
        source(tmp_path / "a.csv.gz", gzip.compress(plain * 1000)[:-9])


def test_names_with_signs_that_a_pattern_has(tmp_path: Path) -> None:
    assert rows(source(tmp_path / "a[1]*'.csv", "a\n1\n2\n")) == [[1], [2]]


def test_rows_are_read_from_anywhere(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5000, 3)).round(4)
    table = source(tmp_path / "a.csv", "a,b,c\n" + "\n".join(",".join(map(str, row)) for row in values.tolist()))
    for start, stop in [(0, 1), (0, 5000), (2047, 2049), (4999, 5000), (77, 77), (4990, 6000)]:
        np.testing.assert_array_equal(table.read(start, stop), values[start:stop])


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 40), width=st.integers(1, 8), seed=st.integers(0, 2**31))
def test_wide_tables_are_read_as_narrow_ones(
    count: int, width: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    cells = rng.choice(["1", "2.5", "-3e2", "NA", "", '"4"', "7"], size=(count, width)).tolist()
    cells[0] = ["1"] * width
    text = ",".join(f"c{i}" for i in range(width)) + "\n" + "\n".join(",".join(row) for row in cells)
    text += "\n" + ",".join(["9"] * width) + "\n"
    folder = tmp_path_factory.mktemp("wide")
    narrow = source(folder / "a.csv", text, missing="carry")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "WIDE", 0)
        wide = source(folder / "b.csv", text, missing="carry")
    assert wide.columns == narrow.columns
    np.testing.assert_array_equal(rows(wide), rows(narrow))


def test_a_table_of_times_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("when\n2024-01-01\n2024-01-02\n")
    with pytest.raises(ValueError, match=r"a\.csv has no column of numbers beside the time$"):
        TableSource(path, Wanted(time="when"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted as Linux lists them")
def test_an_open_table_holds_no_database_and_none_of_its_threads(tmp_path: Path) -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    before = threads()
    tables = [source(tmp_path / f"{i}.csv", f"t,a\n1,{i}\n2,3\n", time="t") for i in range(6)]
    assert threads() - before < len(tables), "a database has several threads of its own"
    assert [rows(table)[0] for table in tables] == [[i] for i in range(6)]
    assert all(table.times(0, 2) is not None and table.reading().times for table in tables)


def test_another_file_has_the_same_columns_by_name_and_the_same_masks(tmp_path: Path) -> None:
    table = source(tmp_path / "a.csv", "a,b\n1,\n2,3\n4,5\n", missing="carry")
    other = tmp_path / "b.csv"
    other.write_text("b;c;a\n30;x;10\n40;y;\n")
    np.testing.assert_array_equal(rows(table.like(other)), [[10, 30, 0], [10, 40, 0]])  # type: ignore[arg-type]
    other.write_text("b\n1\n")
    with pytest.raises(ValueError, match="has no 'a'"):
        table.like(other)


def test_what_was_read_is_said(tmp_path: Path) -> None:
    content = "date;temp;name;valve\n;degC;;\n2020-01-01;1,5;x;0\n2020-01-02;;y;1\n2020-01-04;2;z;1\n"
    table = source(tmp_path / "a.csv", content, missing="carry", time="date", target=("temp",))
    reading = table.reading()
    assert dict(reading.settings) == {
        "separator": ";",
        "header": "in line 1",
        "encoding": "utf-8",
        "decimal mark": ",",
    }
    said = {column.name: (column.role, column.missing, column.unit) for column in reading.columns}
    assert said == {
        "date": ("time", 0, ""),
        "temp": ("input and target", 1, "degC"),
        "name": ("ignored", 0, ""),
        "valve": ("known input", 0, ""),
    }
    assert reading.columns[2].reason == "text, such as 'x' in line 3"
    assert reading.times[0].line() == "time: date, 2020-01-01 00:00:00 to 2020-01-04 00:00:00, every 1.5 d, no gaps"
    assert reading.record()["steps"] == 3
    assert "separator semicolon, header in line 1, encoding utf-8, decimal mark comma" in reading.lines()[0]
    assert any("name (text, such as 'x' in line 3)" in line for line in reading.lines())


def test_what_to_install_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(ImportError, match=r"pip install \"reminding\[data\]\""):
        source(tmp_path / "a.csv", "a\n1\n")


@pytest.mark.parametrize("name", ["nonsense", "base64", "rot13", "undefined", "utf-8\0"])
def test_an_encoding_that_is_none_of_text_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="encoding must be the name of an encoding of text"):
        Asked(encoding=name)
