"""Sizes are measured one after the other, and contestants that cost too much are left out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reminding.lab.bench.meter import Cost
from reminding.lab.bench.options import Name, Size
from reminding.lab.bench.process import Refusal
from reminding.lab.bench.report import CpuMeasurement
from reminding.lab.bench.suite import History, measure
from tests.lab.bench.conftest import SMALL, costs, quiet


def test_who_costs_too_much_is_left_out_from_there_on_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """At T=8, attention exceeds the limit when measured. Plain SAB would by extrapolation, and is not measured."""
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
    time, memory = CpuMeasurement(options, points).tables()
    assert [row[3:] for row in time.rows if row[0] == "LSTM, full attention"] == [["-", "-"]]
    assert [row[3:] for row in memory.rows if row[0] == "LSTM, full attention"] == [["0.00 (1.00)", "-"]]
    assert len(CpuMeasurement(options, points).left_out()) == 4
    assert "- LSTM, full attention, T=8: measured 30 s" in CpuMeasurement(options, points).page()


def unbuilt(*_: object, **__: object) -> dict[str, str | None]:
    """The result of `obstacles` if no op is available."""
    return {"cuda": "there is no GPU", "cpu": "nobody built it"}


def test_what_cannot_run_here_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reminding.nn.layer.choice.obstacles", unbuilt)
    costs(monkeypatch, lambda name, size: Cost(1000, 0.001))
    (point,) = measure(replace(SMALL, T=(4,), models=("sab-dot", "sab-dot-replay", "transformer"), H=(6,)), quiet)
    assert list(point.measured) == ["lstm"]
    assert "nobody built it" in point.skipped["sab-dot"]
    assert "nobody built it" in point.skipped["sab-dot-replay"]
    assert "heads must divide hidden_size=6" in point.skipped["transformer"]


def test_a_size_that_fits_no_machine_is_told_and_does_not_end_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    costs(monkeypatch, lambda name, size: Refusal("it failed: no memory"))
    (point,) = measure(replace(SMALL, T=(10**12,), models=("lstm",)), quiet)
    assert point.skipped == {"lstm": "it failed: no memory"}
    assert not point.measured


def test_growth_is_forecast_by_the_power_law_through_the_last_two() -> None:
    history = History([10, 20, 40], [Cost(1, 1.0), Cost(100, 2.0), Cost(400, 8.0)])
    assert history.forecast(80, "T") == Cost(1600, 32.0)
    assert History([10], [Cost(100, 2.0)]).forecast(30, "T") == Cost(300, 6.0)
    assert History([10], [Cost(100, 2.0)]).forecast(30, "B") == Cost(100, 2.0)
    assert History([10, 20], [Cost(None, 4.0), Cost(None, 4.0)]).forecast(40, "T") == Cost(None, 8.0)
