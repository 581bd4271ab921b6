"""The picture of what was recalled in a report shows the input as an explanation shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reminding.cli import main
from reminding.lab.report import writing
from reminding.lab.report.writing import write_report
from reminding.tasks import Cue, FileStream, Series
from tests.lab.explain.conftest import untrained
from tests.lab.explain.tables import HOURS, table


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was given to each map of recalls."""
    found: list[dict[str, Any]] = []
    real = writing.recall_map

    def noted(step: Any, weight: Any, **options: Any) -> Any:
        found.append(options)
        return real(step, weight, **options)

    monkeypatch.setattr(writing, "recall_map", noted)
    return found


def test_steps_of_a_table_have_their_dates_and_all_columns(tmp_path: Path, drawn: list[dict[str, Any]]) -> None:
    _, run, values = table(tmp_path)
    write_report([run], tmp_path / "report", 1)
    (options,) = drawn
    shown = len(options["input"])
    assert tuple(options["times"][:shown]) == tuple(HOURS[350 : 350 + shown]), "the second of two rows"
    rows = values[350 : 350 + shown]
    shades = (rows - rows.min(0)) / (rows.max(0) - rows.min(0))
    np.testing.assert_allclose(options["input"], shades, atol=1e-5)
    assert options["title"] == "Recalls of run: test stream 1 of stream"


def test_steps_of_a_stream_are_as_many_as_its_memories_reach(tmp_path: Path, drawn: list[dict[str, Any]]) -> None:
    """In the first chunk alone there may be nothing to recall."""
    task = Cue(lag=90, chunk=10)
    for name, options, steps in (
        ("near", {"k_att": 10, "capacity": 2}, 30),
        ("far", {"k_att": 1, "capacity": 5000}, 1000),
        ("none", {"k_top": 0, "capacity": None}, 10),
    ):
        write_report([untrained(tmp_path / name, task, k_trunc=10, **options)], tmp_path / f"report-{name}")
        assert len(drawn[-1]["input"]) == steps, name


def test_a_sequence_that_no_test_has_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What one run of several has is drawn, and the terminal names the others."""
    rng = np.random.default_rng(0)
    for name, lines in (("few", 20), ("many", 60)):
        rows = [f"{'ab'[i % 2]} {' '.join(map(str, rng.normal(size=8).round(3)))}" for i in range(lines)]
        (tmp_path / f"{name}.txt").write_text("\n".join(rows))
        untrained(tmp_path / name, Series(tmp_path / f"{name}.txt"))
    with pytest.raises(ValueError, match=r"sequence: few could not be drawn: .* has no sequence 5"):
        write_report([tmp_path / "few"], tmp_path / "report", 5)
    main(
        ["report", str(tmp_path / "few"), str(tmp_path / "many"), "--sequence", "5", "--out", str(tmp_path / "both")]
    )
    shown = " ".join(capsys.readouterr().out.split())
    assert "few could not be drawn: " in shown
    assert (tmp_path / "both" / "recall-many.png").is_file()


def test_padding_is_blank(tmp_path: Path, drawn: list[dict[str, Any]]) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{'ab'[i % 2]} {' '.join(map(str, rng.normal(size=12 if i == 0 else 8).round(3)))}" for i in range(20)]
    (tmp_path / "all.txt").write_text("\n".join(lines))
    write_report([untrained(tmp_path / "run", Series(tmp_path / "all.txt"))], tmp_path / "report")
    np.testing.assert_array_equal(np.isnan(drawn[0]["input"][:, 0]), np.arange(12) < 4)


def test_characters_are_written_on_the_strip(tmp_path: Path, drawn: list[dict[str, Any]]) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be, " * 40)
    run = untrained(tmp_path / "run", FileStream(tmp_path / "a.txt", chunk=7, eval_rows=1))
    write_report([run], tmp_path / "report")
    assert "".join(mark or " " for mark in drawn[0]["marks"]) in "to be or not to be, " * 2
    assert drawn[0]["times"][0] == "byte 761", "the last twentieth of 800 bytes is the test"


def test_recalls_that_are_not_finite_do_not_end_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be, " * 40)
    run = untrained(tmp_path / "run", FileStream(tmp_path / "a.txt", chunk=7, eval_rows=1))
    real = writing.recall_map

    def diverged(step: Any, weight: Any, **options: Any) -> Any:
        return real(step, weight * float("nan"), **options)

    monkeypatch.setattr(writing, "recall_map", diverged)
    write_report([run], tmp_path / "report")
    assert "run could not be drawn: weight must be finite" in (tmp_path / "report" / "report.md").read_text()
