"""Reports: the table, the figures, and runs that are not finished."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from reminding.lab import checkpoint
from reminding.lab.report import write_report


def test_the_page_holds_everything_and_needs_no_network(finished: Path, tmp_path: Path) -> None:
    write_report([finished], tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page
    assert finished.name in page


def test_the_table_quotes_the_summary(finished: Path, tmp_path: Path) -> None:
    report = write_report([finished], tmp_path)
    row = dict(zip(report.tables[-1].columns, report.tables[-1].rows[0], strict=True))
    summary = checkpoint.read_summary(finished)
    assert row["test"] == f"{summary['accuracy']:.4f}"
    assert row["updates"] == "6"
    assert f"| {row['test']} |" in (tmp_path / "report.md").read_text()


def test_an_unfinished_run_is_shown_with_what_there_is(finished: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(finished, half)
    (half / checkpoint.SUMMARY_NAME).unlink()
    (half / checkpoint.WEIGHTS_NAME).unlink()
    report = write_report([half, finished], tmp_path / "report")
    row = dict(zip(report.tables[-1].columns, report.tables[-1].rows[0], strict=True))
    assert row["test"] == "-"
    assert row["updates"] == "6"
    assert "unfinished" in (tmp_path / "report" / "report.md").read_text()


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a run"):
        write_report([tmp_path], tmp_path / "report")
    with pytest.raises(ValueError, match="at least one"):
        write_report([], tmp_path / "report")


def test_a_sequence_number_below_zero_is_named(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sequence must be at least 0, got -1"):
        write_report([finished], tmp_path, sequence=-1)


def test_runs_of_one_name_in_two_folders_have_a_picture_each(finished: Path, tmp_path: Path) -> None:
    for place in ("T4", "T5", "T6"):
        shutil.copytree(finished, tmp_path / place / "sab-seed0")
    report = write_report([tmp_path], tmp_path / "report")
    pictures = [path for path in report.files if path.name.startswith("recall-")]
    assert len(set(pictures)) == 3
    assert all(path.is_file() for path in pictures)
