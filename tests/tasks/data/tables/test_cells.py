"""Cells: Python and SQL agree on what each one holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reminding.tasks.data.tables.cells import kind_of, kind_sql, quoted, value_of, value_sql
from reminding.tasks.data.tables.database import connect
from tests.drawn import drawn

TEXTS = st.one_of(
    st.text("0123456789+-.,eE_ ", max_size=9),
    st.text("09,. \t\v\x1c\x85\xa0\u2009\u3000", max_size=5),
    st.sampled_from(
        ["NA", "nan", "n/a\t", "True\xa0", "FALSE", "inf", "-Infinity", "", " ", "?", "-999", "-999.0", "None"]
    ),
    st.from_regex(r"\A[+-]?(nan|inf|infinity|1\.#ind|1\.#inf00)(\([a-z0-9_]*\))?\Z"),
    st.sampled_from(["1e999", "-1,5e999", "#N/A", "#n/a N/A", "#NA", "<NA>", "#NAME?", "#DIV/0!", "snan", "nan()"]),
    st.sampled_from(["-999,00", "1.500,0", "1,500.0", "1,500", "1.500", "-9,99e2", " -999 "]),
    st.floats(allow_nan=False).map(str),
    st.integers().map(str),
    st.integers(0, 10**9).map("{:,}".format),
)


@drawn(150)
@given(texts=st.lists(TEXTS, min_size=1, max_size=60), decimal=st.sampled_from([".", ","]))
def test_python_and_sql_read_the_same(texts: list[str], decimal: str) -> None:
    na = ("-999", "?", "1500")
    values = ", ".join(f"({quoted(text)})" for text in texts)
    query = f"SELECT {kind_sql('x', na)}, {value_sql('x', decimal, na)} FROM (VALUES {values}) AS t(x)"
    found = connect().execute(query).fetchall()
    for text, (kind, value) in zip(texts, found, strict=True):
        expected = kind_of(text, na)
        assert kind == expected or {kind, expected} <= {"timestamp", "text"}, text
        number = value_of(text, decimal, na)
        if expected != "infinite":
            assert (np.nan if value is None else value) == pytest.approx(
                number or (0 if number == 0 else np.nan), nan_ok=True
            ), text


@pytest.mark.parametrize(
    "word", ["-nan", "+nan", "NaN", "nan(ind)", "-nan(ind)", "nan(0x8000)", "-1.#IND00", "1.#QNAN"]
)
def test_what_printf_writes_for_nan_is_missing(word: str) -> None:
    kind, value = (
        connect()
        .execute(f"SELECT {kind_sql('x', ())}, {value_sql('x', '.', ())} FROM (SELECT '{word}' x)")
        .fetchone()
    )
    assert (kind_of(word), kind, value) == ("missing", "missing", None)
    assert np.isnan(value_of(word, ".") or 0)


@pytest.mark.parametrize("word", ["inf", "-Infinity", "1e999", "1,5e999", "-1.#INF00"])
def test_what_is_not_finite_is_no_number(word: str) -> None:
    (kind,) = connect().execute(f"SELECT {kind_sql('x', ())} FROM (SELECT '{word}' x)").fetchone()
    assert (kind_of(word), kind) == ("infinite", "infinite")


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        *(("-999,00", "missing"), ("-9,99e2", "missing"), ("1.500,0", "missing"), ("1,500.00", "missing")),
        *(("1,500", "either"), ("1.500", "number"), ("1,5", "comma"), ("-999,5", "comma")),
    ],
)
def test_a_number_for_a_missing_value_is_found_in_every_form_that_is_not_open(cell: str, kind: str) -> None:
    na = ("-999", "1500")
    (found,) = connect().execute(f"SELECT {kind_sql('x', na)} FROM (SELECT '{cell}' x)").fetchone()
    assert (kind_of(cell, na), found) == (kind, kind)


@pytest.mark.parametrize("word", [" x ", "x", "\tx"])
@pytest.mark.parametrize("cell", ["x", "  x"])
def test_white_space_around_a_word_for_a_missing_value_is_of_no_matter(word: str, cell: str) -> None:
    (found,) = connect().execute(f"SELECT {kind_sql('x', [word])} FROM (SELECT '{cell}' x)").fetchone()
    assert (kind_of(cell, [word]), found) == ("missing", "missing")


def test_every_kind_is_read_right() -> None:
    cases: list[tuple[str, str, float | None]] = [
        ("2,146", ".", 2146),
        ("2,146", ",", 2.146),
        ("1.234,5", ",", 1234.5),
        ("1.5", ",", None),
        ("1,5", ".", None),
        ("True", ".", 1),
        ("1_000", ".", None),
        ("-.5e3", ".", -500),
    ]
    for text, decimal, value in cases:
        assert value_of(text, decimal) == value, (text, decimal)
