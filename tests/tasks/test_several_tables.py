"""Several tables as one task: what is known of them holds of all, or the one that differs is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reminding.tasks import FileStream


def hours(path: Path, rows: int, freq: str, unit: str = "") -> None:
    times = pd.date_range("2024-01-01", periods=rows, freq=freq)
    lines = [f"{time},{np.sin(i):.4f}" for i, time in enumerate(times)]
    path.write_text("\n".join(["when,v", *([f",{unit}"] if unit else []), *lines]) + "\n")


def test_what_is_known_of_times_is_of_all_files_and_one_that_differs_is_told(tmp_path: Path) -> None:
    """It was that of the first file, and the others were not looked at."""
    for name, rows, freq in (("a", 60, "h"), ("b", 200, "5min"), ("c", 200, "5min")):
        hours(tmp_path / f"{name}.csv", rows, freq)
    task = FileStream(tmp_path / "[abc].csv", time="when", held_out=9, chunk=5)
    assert task.known.timing is not None
    assert task.known.timing.step == 300
    assert task.reading().notes == (
        "time: a.csv has a row every 1 h, others every 5 min; the network reads rows, and not their times",
    )
    hours(tmp_path / "held.csv", 900, "h")
    task = FileStream(tmp_path / "[bc].csv", test=tmp_path / "held.csv", time="when", held_out=9, chunk=5)
    assert task.known.timing is not None
    assert task.known.timing.step == 300, "the test is no training data"
    assert FileStream(tmp_path / "[bc].csv", time="when", held_out=9, chunk=5).reading().notes == ()


def test_the_decimal_mark_of_the_first_file_reads_the_thousands_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("v;w\n" + "5.332,6;1\n" * 40)
    (tmp_path / "b.csv").write_text("v;w\n" + "5.000;2\n" * 40)
    task = FileStream(tmp_path / "[ab].csv", held_out=5, chunk=5)
    assert task.opened.read(0, 1).tolist() == [[5332.6, 1]]
    assert task.opened.read(40, 41).tolist() == [[5000, 2]]


def test_files_that_have_dates_and_numbers_as_their_times_are_refused(tmp_path: Path) -> None:
    hours(tmp_path / "a.csv", 60, "h")
    (tmp_path / "b.csv").write_text("when,v\n" + "".join(f"{i / 2},{i % 7}\n" for i in range(60)))
    message = r"^time: the column 'when' holds dates in .*a\.csv, numbers in .*b\.csv; write all alike$"
    with pytest.raises(ValueError, match=message):
        FileStream(tmp_path / "[ab].csv", time="when", held_out=9, chunk=5).facts()


def test_a_file_with_another_unit_is_told(tmp_path: Path) -> None:
    hours(tmp_path / "a.csv", 60, "h", "degC")
    hours(tmp_path / "b.csv", 60, "h", "K")
    task = FileStream(tmp_path / "[ab].csv", time="when", held_out=9, chunk=5)
    assert task.reading().notes == (
        "v: its unit is K in b.csv, and degC in the first file; values are read as they are",
    )


def test_a_file_without_a_value_in_a_column_has_no_large_numbers(tmp_path: Path) -> None:
    """Its largest number was infinite, and was said to be beyond 2^53."""
    (tmp_path / "a.csv").write_text("v,w\n" + "0.5,0.25\n0.25,0.5\n" * 30)
    (tmp_path / "b.csv").write_text("v,w\n" + "0.5,\n0.25,\n" * 30)
    assert FileStream(tmp_path / "[ab].csv", missing="carry", held_out=9, chunk=5).reading().notes == ()
