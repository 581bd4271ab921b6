"""The charts of a report: means over seeds, and a dot for each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reminding.lab.report.curves import mean_curve, seed_charts
from reminding.lab.report.groups import group
from reminding.lab.runs.records import Run, find_runs
from tests.lab.conftest import small
from tests.lab.report.conftest import write


def test_the_curve_of_the_mean_does_not_fall_when_a_seed_has_reached_its_target(tmp_path: Path) -> None:
    write(tmp_path / "sab-seed0", small(seed=0), [(2, 1.0, 1.0)], stopped="target")
    write(tmp_path / "sab-seed1", small(seed=1), [(2, 1.0, 0.2), (4, 2.0, 0.4)])
    (both,) = group(map(Run.read, find_runs([tmp_path])))
    curve = mean_curve(both)
    assert (curve.steps, curve.values, curve.band) == ([2, 4], pytest.approx([0.6, 0.7]), [(0.2, 1.0), (0.4, 1.0)])


def test_seeds_are_shown_where_there_are_several_the_best_method_on_top(runs: Path, tmp_path: Path) -> None:
    (chart,) = seed_charts(group(map(Run.read, find_runs([runs]))), tmp_path)
    assert chart.figure.is_file()
    dots = json.loads(chart.plot)["data"][0]
    assert list(zip(dots["y"], dots["x"], strict=True)) == [("sab", 0.9), ("sab", 0.8), ("lstm", 0.7)]
    assert (
        seed_charts([each for each in group(map(Run.read, find_runs([runs]))) if each.method == "lstm"], tmp_path)
        == []
    )
