"""Cells: Python and SQL agree on what each one holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reminding.tasks.data.tables.cells import kind_of, kind_sql, quoted, value_of, value_sql
from reminding.tasks.data.tables.database import connect

TEXTS = st.one_of(
    st.text("0123456789+-.,eE_ ", max_size=9),
    st.sampled_from(
        ["NA", "nan", "n/a", "True", "FALSE", "inf", "-Infinity", "", " ", "?", "-999", "-999.0", "None"]
    ),
    st.floats(allow_nan=False).map(str),
    st.integers().map(str),
    st.integers(0, 10**9).map("{:,}".format),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(texts=st.lists(TEXTS, min_size=1, max_size=60), decimal=st.sampled_from([".", ","]))
def test_python_and_sql_read_the_same(texts: list[str], decimal: str) -> None:
    na = ("-999", "?")
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
