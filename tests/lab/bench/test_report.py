"""The benchmark's record, tables and page, from invented costs."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from reminding.lab.bench.meter import Cost
from reminding.lab.bench.process import Refusal
from reminding.lab.bench.report import CpuMeasurement
from reminding.lab.bench.suite import Point, measure
from tests.lab.bench.conftest import SMALL, costs, quiet


def test_the_record_holds_each_repetition_and_what_follows_from_it(points: list[Point]) -> None:
    content = json.loads(json.dumps(CpuMeasurement(SMALL, points).record()))
    assert {"format", "command", "options", "clock", "results", "machine", "processor", "torch", "threads"} <= set(
        content
    )
    assert content["options"]["seed"] == 0
    assert [result["size"] for result in content["results"]] == [{"T": T, "B": 2, "I": 3, "H": 8} for T in (4, 8)]
    for result in content["results"]:
        assert list(result["measured"]) == ["lstm", "sab-additive-reference", "tbptt", "attention"]
        assert result["skipped"] == {}
        base = result["measured"]["lstm"]
        for name, figures in result["measured"].items():
            assert len(figures["laps"]) == SMALL.repetitions
            seconds = [lap["forward_cpu"] + lap["backward_cpu"] for lap in figures["laps"]]
            other = [lap["forward_cpu"] + lap["backward_cpu"] for lap in base["laps"]]
            assert figures["ms"] == pytest.approx(1000 * statistics.median(seconds))
            assert figures["ratio"] == pytest.approx(
                statistics.median(a / b for a, b in zip(seconds, other, strict=True))
            )
            assert figures["peak_bytes"] == result["size"]["T"] * (1000 if name == "lstm" else 2000)
            assert figures["peak_ratio"] == (1 if name == "lstm" else 2)
            assert figures["full_laps"] == []


def test_the_tables_have_a_row_a_contestant_and_a_column_a_size(points: list[Point]) -> None:
    time, memory = CpuMeasurement(SMALL, points).tables()
    assert list(time.columns) == ["", "T=4", "T=8"]
    assert [row[0] for row in time.rows][:2] == ["nn.LSTM", "SAB additive, plain autograd"]
    assert memory.rows[1][1:] == ["0.01 (2.00)", "0.02 (2.00)"]
    assert CpuMeasurement(SMALL, points).left_out() == []


def test_with_the_loss_at_the_end_the_backward_pass_is_compared_with_the_full_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs(monkeypatch, lambda name, size: Cost(1000, 0.001))
    options = replace(SMALL, T=(8,), loss="last")
    points = list(measure(options, quiet))
    assert len(CpuMeasurement(options, points).tables()) == 4
    for figures in CpuMeasurement(options, points).record()["results"][0]["measured"].values():
        assert len(figures["full_laps"]) == options.repetitions
        shares = [
            a["backward_cpu"] / b["backward_cpu"] for a, b in zip(figures["laps"], figures["full_laps"], strict=True)
        ]
        assert figures["backward_share"] == pytest.approx(statistics.median(shares))


def test_without_nn_lstm_there_are_figures_and_no_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    costs(monkeypatch, lambda name, size: Refusal("too slow today") if name == "lstm" else Cost(2_000_000, 0.001))
    points = list(measure(SMALL, quiet))
    assert points[0].skipped == {"lstm": "too slow today"}
    _, memory = CpuMeasurement(SMALL, points).tables()
    assert memory.rows[0][1:] == ["-", "-"]
    assert memory.rows[1][1:] == ["2.00", "2.00"]


def test_all_is_written_and_the_figure_where_a_size_varies(points: list[Point], tmp_path: Path) -> None:
    files = CpuMeasurement(SMALL, points).write(tmp_path / "new")
    assert [file.name for file in files] == ["measured.json", "report.md", "growth.png"]
    assert all(file.stat().st_size > 0 for file in files)
    assert "growth.png" in files[1].read_text()
    of_one = CpuMeasurement(replace(SMALL, T=(4,)), points[:1]).write(tmp_path / "new")
    assert [file.name for file in of_one] == ["measured.json", "report.md"]
    assert "growth.png" not in of_one[1].read_text()
    assert not files[2].exists(), "the figure of what was measured before"
