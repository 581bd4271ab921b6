"""Tables that change while they are read, or end within a line.

Shapes: n rows.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reminding.tasks.data.tables import Asked, TableSource, Wanted, database
from reminding.tasks.data.tables.source import CUT_OFF, GROWS, OPEN_END

OF_A_RUN = Wanted(("a", "b"), asked=Asked(fixed=True), known=True)
ROWS = [[float(i), i + 0.5] for i in range(300)]
TEXT = "a,b\n" + "".join(f"{a:g},{b}\n" for a, b in ROWS)


def rows(table: TableSource) -> list[list[float]]:
    return table.read(0, table.steps()).tolist()


def notes(table: TableSource) -> list[str]:
    return [each for each in table.reading().notes if each in (GROWS, CUT_OFF, OPEN_END)]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """What happens each time that a table has been read for the first time, and before it is read again."""

    def during(change: Callable[[], object]) -> None:
        before = TableSource._first_reading  # pyright: ignore[reportPrivateUsage]

        def reading(self: TableSource) -> Any:
            try:
                return before(self)
            finally:
                change()

        monkeypatch.setattr(TableSource, "_first_reading", reading)

    return during


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def replace(path: Path, text: str) -> None:
    path.with_name("other").write_text(text)
    os.replace(path.with_name("other"), path)


def test_a_file_that_changes_after_it_was_read_has_no_effect(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a\n1\n2\n")
    table = TableSource(path)
    path.write_text("a\n8\n9\n7\n")
    assert rows(table) == [[1], [2]]


@pytest.mark.parametrize("change", ["replaced", "replaced by a longer one", "cut", "grown"])
@pytest.mark.parametrize(
    ("wanted", "advice"), [(Wanted(), ", or train on it with --follow"), (Wanted(missing="drop"), "$")]
)
def test_training_data_that_change_meanwhile_are_refused(
    tmp_path: Path, meanwhile: Callable[..., None], change: str, wanted: Wanted, advice: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(TEXT)
    text = {"replaced": TEXT, "replaced by a longer one": TEXT + "1,2\n", "cut": TEXT[:-9], "grown": "1,2\n"}[change]
    meanwhile(lambda: append(path, text) if change == "grown" else replace(path, text))
    with pytest.raises(
        ValueError, match=r"a\.csv changed while it was read; give a copy that stays as it is" + advice
    ):
        TableSource(path, wanted)


@pytest.mark.parametrize("change", ["replaced", "replaced by a longer one", "cut"])
def test_the_input_of_a_run_may_only_grow(tmp_path: Path, meanwhile: Callable[..., None], change: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(TEXT)
    text = {"replaced": TEXT, "replaced by a longer one": TEXT + "1,2\n", "cut": TEXT[:-9]}[change]
    meanwhile(lambda: replace(path, text))
    with pytest.raises(ValueError, match=r"a\.csv (changed while it was read|was replaced, cut or written anew)"):
        TableSource(path, OF_A_RUN)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    "pieces", [["300,300.5\n"], ["300,300.5\n301,30", "1.5\n302,302.5\n"], ["3", "00,300.5\n30"]]
)
@pytest.mark.parametrize("begun", [None, 250])
def test_rows_that_were_complete_are_read_of_a_table_that_grows(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[..., None],
    wide: bool,
    pieces: list[str],
    begun: int | None,
) -> None:
    if wide:
        monkeypatch.setattr(database, "WIDE", 0)
    path, waiting = tmp_path / "a.csv", list(pieces)
    path.write_text(TEXT)
    meanwhile(lambda: append(path, waiting.pop(0) if waiting else "9"))
    table = TableSource(path, Wanted(("a", "b"), rows=begun, asked=Asked(fixed=True), known=True))
    found = rows(table)
    assert found == ([*ROWS, [300, 300.5]][: len(found)] if begun is None else ROWS[:250])
    assert begun is not None or len(found) == 300 + pieces[0].count("\n")  # what was complete at the second reading
    assert notes(table) == ([] if begun else [GROWS])


@pytest.mark.parametrize(
    ("text", "expected", "note"),
    [
        (TEXT, ROWS, []),
        (TEXT.replace("\n", "\r"), ROWS, []),
        (TEXT.encode("utf-16"), ROWS, []),
        (TEXT[:-1], ROWS, [OPEN_END]),
        (TEXT[:-3], [*ROWS[:-1], [299, 299]], [OPEN_END]),  # nothing tells 299 from 299.5
        (TEXT[:-3].encode("utf-16"), [*ROWS[:-1], [299, 299]], [OPEN_END]),
        (TEXT[:-7], ROWS[:-1], [CUT_OFF]),
        (TEXT[:-8] + '"', ROWS[:-1], [CUT_OFF]),
        (TEXT[:-6] + '"2', ROWS[:-1], [CUT_OFF]),
        (TEXT[:-6], ROWS[:-1], [CUT_OFF]),
        (TEXT[:-6] + "-", ROWS[:-1], [CUT_OFF]),
    ],
    ids=[
        "whole",
        "CR",
        "UTF-16",
        "no line end",
        "digits lack",
        "UTF-16, digits lack",
        "a cell lacks",
        "quote",
        "open",
        "a value lacks",
        "a sign alone",
    ],
)
def test_an_input_that_ends_within_a_line(
    tmp_path: Path, text: str | bytes, expected: list[list[float]], note: list[str]
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    table = TableSource(path, OF_A_RUN)
    assert rows(table) == expected
    assert notes(table) == note


def test_a_fault_elsewhere_is_told_though_the_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(TEXT.replace("7.5", "x") + "1")
    with pytest.raises(ValueError, match=r"a\.csv, line 9, column 'b': 'x' is not a number"):
        TableSource(path, OF_A_RUN)
    path.write_text(TEXT + "1")
    with pytest.raises(ValueError, match=r"a\.csv, line 302: 1 cell, expected 2"):
        TableSource(path)  # of training data nothing is left out
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress((TEXT + "1").encode()))
    with pytest.raises(ValueError, match=r"line 302: 1 cell, expected 2"):
        TableSource(packed, OF_A_RUN)
