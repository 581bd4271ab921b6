"""The benchmark: what it measures, what it leaves out and says so, and what it writes."""

from __future__ import annotations

import json
import os
import re
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reminding.cli import main
from reminding.lab.bench import meter, process, suite
from reminding.lab.bench.contestants import Problem, TrainingStep, build
from reminding.lab.bench.meter import Cost, cost_in_own_process, peak_bytes
from reminding.lab.bench.options import NAMES, BenchOptions, Name, Size
from reminding.lab.bench.process import Refusal
from reminding.lab.bench.report import left_out, page, record, tables, write
from reminding.lab.bench.suite import History, Point, measure
from reminding.lab.show.plots import spread
from reminding.ops import cpu_op

SMALL = BenchOptions(
    T=(4, 8), B=(2,), H=(8,), I=3, models=("sab-additive-reference", "tbptt", "attention"), repetitions=2
)
OP = {name for name in NAMES if name.startswith("sab-")} - {"sab-additive-reference"}
SIZE = Size(T=4, B=2, I=3, H=8)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the high-water mark can be reset on Linux alone")


def quiet(text: str) -> None:
    """Nobody watches."""


def costs(monkeypatch: pytest.MonkeyPatch, cost: Callable[[Name, Size], Cost | Refusal]) -> list[tuple[Name, Size]]:
    """Let contestants cost what `cost(name, size)` says instead of asking a process; returns who was asked."""
    asked: list[tuple[Name, Size]] = []

    def answer(name: Name, size: Size, options: BenchOptions) -> Cost | Refusal:
        asked.append((name, size))
        return cost(name, size)

    monkeypatch.setattr(suite, "cost_in_own_process", answer)
    return asked


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> list[Point]:
    """The small options measured, the peaks made up: 1000 bytes a step, twice that for all but nn.LSTM."""
    costs(monkeypatch, lambda name, size: Cost(size.T * (1000 if name == "lstm" else 2000), 0.001))
    return list(measure(SMALL, quiet))


def test_every_contestant_trains_at_a_small_size() -> None:
    """Those that the C++ op runs too, where it is built."""
    problem = Problem.random(SIZE, BenchOptions())
    for name in NAMES:
        if cpu_op.missing() and name in OP:
            with pytest.raises(ValueError, match="cannot run"):
                build(name, SIZE, BenchOptions())
            continue
        module = build(name, SIZE, BenchOptions())
        output = TrainingStep(module, problem, "everywhere").forward()
        assert output.shape == (SIZE.T, SIZE.B, SIZE.H)
        TrainingStep(module, problem, "everywhere").run()
        assert all(parameter.grad is not None for parameter in module.parameters())


def test_the_loss_at_the_end_sees_the_last_step_alone() -> None:
    problem = Problem.random(SIZE, SMALL)
    gradients: dict[str, torch.Tensor] = {}
    module = build("lstm", SIZE, SMALL)
    weight = next(module.parameters())
    for loss in ("everywhere", "last"):
        TrainingStep(module, problem, loss).run()
        assert weight.grad is not None
        gradients[loss] = weight.grad.clone()
    alone = torch.zeros_like(problem.d_output)
    alone[-1] = problem.d_output[-1]
    TrainingStep(module, replace(problem, d_output=alone), "everywhere").run()
    torch.testing.assert_close(weight.grad, gradients["last"])
    assert not torch.allclose(gradients["everywhere"], gradients["last"])


def test_the_record_holds_each_repetition_and_what_follows_from_it(points: list[Point]) -> None:
    content = json.loads(json.dumps(record(points, SMALL)))
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
    time, memory = tables(points, SMALL)
    assert list(time.columns) == ["", "T=4", "T=8"]
    assert [row[0] for row in time.rows][:2] == ["nn.LSTM", "SAB additive, plain autograd"]
    assert memory.rows[1][1:] == ["0.01 (2.00)", "0.02 (2.00)"]
    assert left_out(points, SMALL) == []


def test_with_the_loss_at_the_end_the_backward_pass_is_compared_with_the_full_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs(monkeypatch, lambda name, size: Cost(1000, 0.001))
    options = replace(SMALL, T=(8,), loss="last")
    points = list(measure(options, quiet))
    assert len(tables(points, options)) == 4
    for figures in record(points, options)["results"][0]["measured"].values():
        assert len(figures["full_laps"]) == options.repetitions
        shares = [
            a["backward_cpu"] / b["backward_cpu"] for a, b in zip(figures["laps"], figures["full_laps"], strict=True)
        ]
        assert figures["backward_share"] == pytest.approx(statistics.median(shares))


def test_who_costs_too_much_is_left_out_from_there_on_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention is over the limit at T=8 when measured; plain SAB by its growth, and is not asked again."""
    seconds = {"lstm": 0.001, "tbptt": 0.001, "attention": 0.01}

    def cost(name: Name, size: Size) -> Cost:
        if name == "sab-additive-reference":
            return Cost(size.T**2 * 10_000_000, 0.001)
        return Cost(1000, seconds[name] * (1000 if name == "attention" and size.T == 8 else 1))

    asked = costs(monkeypatch, cost)
    options = replace(SMALL, T=(2, 4, 8, 16), max_seconds=1.0, max_gigabytes=0.3)
    points = list(measure(options, quiet))
    assert [list(point.skipped) for point in points[:2]] == [[], []]
    assert points[2].skipped == {
        "sab-additive-reference": "predicted 0.6 GB, over the limit of 0.3 GB",
        "attention": "measured 30 s for 3 steps, over the limit of 1 s",
    }
    assert points[3].skipped == {
        "sab-additive-reference": "left out, as at T=8",
        "attention": "left out, as at T=8",
    }
    assert [size.T for name, size in asked if name == "sab-additive-reference"] == [2, 4]
    assert [size.T for name, size in asked if name == "attention"] == [2, 4, 8]
    time, memory = tables(points, options)
    assert [row[3:] for row in time.rows if row[0] == "LSTM, full attention"] == [["-", "-"]]
    assert [row[3:] for row in memory.rows if row[0] == "LSTM, full attention"] == [["0.00 (1.00)", "-"]]
    assert len(left_out(points, options)) == 4
    assert "- LSTM, full attention, T=8: measured 30 s" in page(points, options)


def test_without_nn_lstm_there_are_figures_and_no_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    costs(monkeypatch, lambda name, size: Refusal("too slow today") if name == "lstm" else Cost(2_000_000, 0.001))
    points = list(measure(SMALL, quiet))
    assert points[0].skipped == {"lstm": "too slow today"}
    _, memory = tables(points, SMALL)
    assert memory.rows[0][1:] == ["-", "-"]
    assert memory.rows[1][1:] == ["2.00", "2.00"]


def unbuilt(*_: object) -> dict[str, str | None]:
    """What `obstacles` says where no op is there."""
    return {"cuda": "there is no GPU", "cpu": "nobody built it"}


def test_what_cannot_run_here_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reminding.nn.forward.compiled.obstacles", unbuilt)
    costs(monkeypatch, lambda name, size: Cost(1000, 0.001))
    (point,) = measure(replace(SMALL, T=(4,), models=("sab-dot", "sab-dot-replay", "transformer"), H=(6,)), quiet)
    assert list(point.measured) == ["lstm"]
    assert "nobody built it" in point.skipped["sab-dot"]
    assert "nobody built it" in point.skipped["sab-dot-replay"]
    assert "heads must divide hidden_size=6" in point.skipped["transformer"]


def test_growth_is_forecast_by_the_power_law_through_the_last_two() -> None:
    history = History([10, 20, 40], [Cost(1, 1.0), Cost(100, 2.0), Cost(400, 8.0)])
    assert history.forecast(80, "T") == Cost(1600, 32.0)
    assert History([10], [Cost(100, 2.0)]).forecast(30, "T") == Cost(300, 6.0)
    assert History([10], [Cost(100, 2.0)]).forecast(30, "B") == Cost(100, 2.0)
    assert History([10, 20], [Cost(None, 4.0), Cost(None, 4.0)]).forecast(40, "T") == Cost(None, 8.0)


@LINUX
def test_the_meter_sees_an_allocation_to_the_megabyte() -> None:
    """Also one that is freed before the end, and though more was held and freed before."""
    torch.ones(100_000_000)
    megabytes = 200

    def action() -> None:
        torch.ones(megabytes * 250_000)

    peak = peak_bytes(action)
    assert peak == pytest.approx(megabytes * 1e6, abs=4e6)
    assert peak_bytes(lambda: None) == pytest.approx(0, abs=1e6)


@LINUX
def test_a_training_step_in_its_own_process_holds_what_it_must() -> None:
    """At least its output and gradients, and no more than it may: beyond the limit it is refused, not killed."""
    options = BenchOptions(max_gigabytes=1.0)
    size = Size(T=100, B=64, I=32, H=64)
    cost = cost_in_own_process("lstm", size, options)
    assert isinstance(cost, Cost)
    assert cost.peak_bytes is not None
    assert cost.peak_bytes > 4 * size.T * size.B * size.H
    refused = cost_in_own_process("lstm", size, replace(options, max_gigabytes=cost.peak_bytes / 4e9))
    assert isinstance(refused, Refusal)
    assert "more than" in refused.reason


def die(*_: Any) -> None:
    """What a process does that the system kills."""
    os._exit(7)


def test_a_process_that_dies_or_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "_cost", die)
    dead = cost_in_own_process("lstm", SIZE, SMALL)
    assert dead == Refusal("its process died with exit code 7, of too little memory perhaps")
    monkeypatch.setattr(process, "START_UP_SECONDS", 0.0)
    hung = cost_in_own_process("lstm", SIZE, replace(SMALL, max_seconds=0.01))
    assert hung == Refusal("stopped: it took more than 0.01 s")


def test_all_is_written_and_the_figure_where_a_size_varies(points: list[Point], tmp_path: Path) -> None:
    files = write(points, SMALL, tmp_path / "new")
    assert [file.name for file in files] == ["measured.json", "report.md", "growth.png"]
    assert all(file.stat().st_size > 0 for file in files)
    assert [file.name for file in write(points[:1], replace(SMALL, T=(4,)), tmp_path)] == [
        "measured.json",
        "report.md",
    ]
    assert "growth.png" in files[1].read_text()
    assert "growth.png" not in (tmp_path / "report.md").read_text()


def test_the_command_measures_shows_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--T", "4", "--B", "2", "--H", "8", "--I", "3", "--repetitions", "1"]
    main(["bench", *sizes, "--models", "lstm", "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "1 of 1 contestants" in shown
    assert "nn.LSTM" in shown
    content = json.loads((tmp_path / "measured.json").read_text())
    assert list(content["results"][0]["measured"]) == ["lstm"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"T": (4, 8), "B": (1, 2)}, "only one of T, B and H may take several values, got several for T and B"),
        ({"T": (8, 4)}, "T must be numbers of at least 1 in growing order, got [8, 4]"),
        ({"H": (0,)}, "H must be numbers of at least 1 in growing order, got [0]"),
        ({"B": ()}, "B must be numbers of at least 1 in growing order, got []"),
        ({"k_att": 0}, "k_att must be at least 1, got 0"),
        ({"max_seconds": 0.0}, "max_seconds must be above 0, got 0.0"),
        ({"models": ("lstm", "gru")}, "got ['gru']"),
        ({"device": "tpu"}, "device must be 'cpu', or 'cuda', which has options of its own; got 'tpu'"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        BenchOptions(**options)


def test_the_command_line_says_what_is_wrong_and_nothing_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--T", "4", "8", "--B", "1", "2"])
    assert "only one of T, B and H may take several values" in " ".join(capsys.readouterr().err.split())


@given(st.lists(st.floats(0, 1), max_size=12).map(sorted))
def test_labels_are_moved_apart_and_no_further(heights: list[float]) -> None:
    gap = 0.05
    placed = spread(heights, gap)
    assert all(upper - lower > gap - 1e-9 for lower, upper in pairwise(placed))
    assert sum(placed) == pytest.approx(sum(heights))
    if all(upper - lower >= gap for lower, upper in pairwise(heights)):
        assert placed == pytest.approx(heights)
