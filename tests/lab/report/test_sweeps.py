"""The report of a sweep has its best trials, Optuna's figures, and what happened to every trial."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from reminding.cli import main
from reminding.lab.report.sweeps import write_sweep
from reminding.lab.show.figures import pyplot
from reminding.lab.train.sweep.attempts import Attempt
from reminding.lab.train.sweep.record import SweepRecord
from reminding.lab.train.sweep.space import Dimension, Space

BEGAN = datetime(2026, 1, 2, 3, 4, 5)
SPACE = Space(
    [
        Dimension("lr", "train", "lr", "float", 1e-3, 1e-1, log=True),
        Dimension("normalizer", "model", "normalizer", "choice", choices=(None, "softmax1")),
    ]
)


def attempt(number: int, rate: float, value: float | None, state: str = "complete", **notes: object) -> Attempt:
    return Attempt(
        number,
        f"{number:04d}",
        state,  # pyright: ignore[reportArgumentType]
        f"machine:{number % 2}",
        params={"lr": rate, "normalizer": None if number % 2 else "softmax1"},
        value=value,
        intermediate={} if value is None else {2: value / 2, 4: value},
        notes=notes,
        began=BEGAN,
        ended=None if state == "running" else BEGAN + timedelta(seconds=12),
    )


@pytest.fixture
def record() -> SweepRecord:
    """Six complete trials whose result grows with the rate, and one attempt in every other state."""
    attempts = [attempt(number, 0.002 * (1 + number), 0.1 * number, test=0.5, steps=40) for number in range(6)]
    attempts.append(attempt(6, 0.01, 0.05, "pruned"))
    attempts.append(attempt(7, 0.01, None, "failed", error="ValueError: k_top <no>"))
    attempts.append(attempt(8, 0.01, None, "void", ended="its worker showed no sign of life"))
    attempts.append(attempt(9, 0.01, None, "running"))
    command = "reminding sweep copying --space space.toml"
    return SweepRecord("copying-sab", "journal.log", "copying", "sab", "accuracy", True, SPACE, 9, command, attempts)


def test_a_record_is_read_as_it_was_saved(record: SweepRecord, tmp_path: Path) -> None:
    record.save(tmp_path)
    read = SweepRecord.load(tmp_path)
    assert read.attempts == record.attempts
    assert read.space.record() == record.space.record()
    assert [each.job for each in read.ranked()] == ["0005", "0004", "0003", "0002", "0001", "0000"]
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(ValueError, match=r"sweep\.json cannot be read"):
        SweepRecord.load(tmp_path)


def test_the_report_tells_the_best_and_the_fate_of_every_trial(record: SweepRecord, tmp_path: Path) -> None:
    record.save(tmp_path)
    tables, files = write_sweep(tmp_path, tmp_path / "report")
    best, trials = tables
    assert best.columns == ["trial", "valid accuracy", "lr", "normalizer", "test accuracy"]
    assert list(best.rows[0]) == ["0005", "0.5", "0.012", "-", "0.5"]
    assert [row[1] for row in trials.rows[5:]] == [
        "complete",
        "pruned",
        "failed",
        "given back and run again",
        "running",
    ]
    assert trials.rows[7][-1] == "ValueError: k_top <no>"
    assert {file.name for file in files} == {
        "index.html",
        "report.md",
        "sweep-optimization-history.png",
        "sweep-parallel-coordinate.png",
        "sweep-slice.png",
        "sweep-param-importances.png",
        "sweep-intermediate-values.png",
    }
    assert all(file.stat().st_size > 0 for file in files)
    page = (tmp_path / "report" / "index.html").read_text()
    assert '"parcoords"' in page
    assert "k_top <no>" not in page


def test_a_sweep_without_results_is_shown_as_far_as_it_has_come(record: SweepRecord, tmp_path: Path) -> None:
    begun = replace(record, attempts=record.attempts[7:])
    begun.save(tmp_path)
    tables, files = write_sweep(tmp_path, tmp_path / "report")
    assert [table.title for table in tables] == ["Trials"]
    assert [file.name for file in files] == ["index.html", "report.md"]


def test_the_verb_report_knows_a_sweep(
    record: SweepRecord, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record.save(tmp_path)
    main(["report", str(tmp_path)])
    assert "Best trials" in capsys.readouterr().out
    assert (tmp_path / "report" / "index.html").is_file()
    main(["report", str(tmp_path), "--out", str(tmp_path / "elsewhere")])
    assert (tmp_path / "elsewhere" / "index.html").is_file()


def test_a_sweep_of_a_single_option_is_shown_and_leaves_the_style_of_other_figures(
    record: SweepRecord, tmp_path: Path
) -> None:
    alone = replace(record, space=Space(SPACE.dimensions[:1]))
    alone = replace(alone, attempts=[replace(each, params={"lr": each.params["lr"]}) for each in record.attempts])
    alone.save(tmp_path)
    before = dict(pyplot().rcParams)
    _, files = write_sweep(tmp_path, tmp_path / "report")
    assert {"sweep-slice.png", "sweep-intermediate-values.png"} <= {file.name for file in files}
    assert dict(pyplot().rcParams) == before
