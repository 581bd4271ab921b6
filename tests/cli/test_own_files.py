"""Verbs that read a file of the user say what they read of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import reminding
from reminding.cli import main
from reminding.lab.runs.facts import save_facts
from reminding.tasks import Adding, FileStream, Series
from tests.lab.explain.conftest import untrained
from tests.lab.explain.tables import table

SAID = {
    "table": "data: {}: 400 rows, csv, separator comma",
    "text": "data: {}: 400 bytes, bytes",
    "series": "data: {}: 20 examples, labelled series",
    "numbers": "data: {}: 12 steps, numbers",
}


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, tuple[Path, Path]]:
    """A run of each kind of task, and a file to read."""
    text, series, numbers = (tmp_path / name for name in ("text", "series.txt", "numbers.txt"))
    text.write_bytes(b"abcdefgh" * 50)
    series.write_text("".join(f"{'ab'[i % 2]} {i % 2} 1 0 {i % 3} 2 1\n" for i in range(20)))
    numbers.write_text("0.5 0\n" * 12)
    tasks: dict[str, tuple[Any, Path]] = {
        "text": (FileStream(text, chunk=20, held_out=50), text),
        "series": (Series(series), series),
        "numbers": (Adding(T=12), numbers),
    }
    oven, run, _ = table(tmp_path)
    found = {"table": (run, oven)}
    for name, (task, path) in tasks.items():
        folder = untrained(tmp_path / f"run-{name}", task)
        save_facts(folder, task)
        found[name] = (folder, path)
    return found


@pytest.mark.parametrize("kind", SAID)
def test_explain_says_what_it_read(
    runs: dict[str, tuple[Path, Path]], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, path = runs[kind]
    chosen = ["--sequence", "3"] if kind == "series" else []
    main(["explain", str(run), "--input", str(path), *chosen])
    shown = capsys.readouterr().out
    assert shown.count(SAID[kind].format(path)) == 1
    assert ("time: when, 2024-01-01 00:00:00 to" in shown) == (kind == "table")


@pytest.mark.parametrize("kind", ["table", "series"])
def test_predict_says_what_it_read(
    runs: dict[str, tuple[Path, Path]], kind: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run, path = runs[kind]
    future = tmp_path / "next.csv"
    future.write_text("flow,temperature\n300,1\n310,1\n320,1\n")
    steps = ["--steps", "3", "--future", str(future)] if kind == "table" else []
    main(["predict", str(run), "--input", str(path), *steps])
    shown = capsys.readouterr().out
    assert SAID[kind].format(path) in shown
    assert (f"data: {future}: 3 rows, csv" in shown) == (kind == "table")
    # a target, so that it was untrue to say that the training data have no such column
    assert ("ignored: temperature (not among the columns that are needed)" in shown) == (kind == "table")


def test_a_run_without_rows_that_lack_a_value_says_how_to_give_it_rows(tmp_path: Path) -> None:
    """Trained with --missing drop, it takes no row with a gap, and was said to be trained without --missing."""
    pd.DataFrame({"a": [1.0, 2.0] * 60, "b": [None, *[3.0, 4.0] * 59, 5.0]}).to_csv(tmp_path / "a.csv", index=False)
    task = FileStream(tmp_path / "a.csv", target=("a",), missing="drop", chunk=10, held_out=30)
    run = untrained(tmp_path / "run", task)
    save_facts(run, task)
    model = reminding.load(run)
    stepper = model.stepper()
    with pytest.raises(ValueError, match=r"^value: b is missing; .* with --missing drop: leave out this row$"):
        stepper.step({"a": 1.0, "b": float("nan")})
    assert stepper.steps == 0
    (tmp_path / "next.csv").write_text("b,c\n3,1\n,2\n")
    with pytest.raises(
        ValueError, match=r"was trained on rows without missing values, and needs this one; write it$"
    ):
        model.predict(tmp_path / "a.csv", steps=3, future=tmp_path / "next.csv")
