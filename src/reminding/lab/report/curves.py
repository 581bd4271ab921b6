"""Curves of groups of runs: the metric during training, and at lengths other than in training."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from reminding.lab.report.groups import Group, settings_of
from reminding.lab.report.sections import Chart
from reminding.lab.report.tables import lengths_of
from reminding.lab.show.charts import curves_chart, dots_chart
from reminding.lab.show.plots import Curve, learning_curves, length_curves, seed_dots
from reminding.lab.show.tables import Table

ROWS = 25
"""Greatest number of rows in the table behind a chart; longer curves are thinned out evenly."""


def learning_charts(groups: Sequence[Group], out: Path) -> list[Chart]:
    """One chart per setting: the main metric on the validation split against updates, with a band over the seeds."""
    charts: list[Chart] = []
    for name, members in settings_of(groups).items():
        curves = [curve for curve in (mean_curve(each, _look(each, groups)) for each in members) if curve.steps]
        if not curves:
            continue
        task = members[0].task
        path, label = out / f"curves-{file_name(name, groups)}.png", f"{task.metric}, validation"
        learning_curves(curves, label, name, path, task.chance)
        plot = curves_chart(curves, "updates", label, task.chance)
        charts.append(Chart(name, path, plot, _numbers(curves, "updates")))
    return charts


def seed_charts(groups: Sequence[Group], out: Path) -> list[Chart]:
    """One chart per setting with several seeds: the test result of every seed, the best method first."""
    charts: list[Chart] = []
    for name, members in settings_of(groups).items():
        task = members[0].task
        reached = [(each.method, each.values(lambda run: run.test)) for each in members]
        rows = [(method, values) for method, values in reached if values]
        if max((len(values) for _, values in rows), default=0) < 2:
            continue
        rows.sort(key=lambda row: statistics.fmean(row[1]), reverse=task.maximize)
        path, label = out / f"seeds-{file_name(name, groups)}.png", f"{task.metric}, test"
        seed_dots(rows, label, name, path)
        charts.append(Chart(f"every seed: {name}", path, dots_chart(rows, label)))
    return charts


def length_charts(groups: Sequence[Group], out: Path) -> list[Chart]:
    """One chart per task with a length T: the main metric of trained models at lengths other than in training."""
    charts: list[Chart] = []
    for name, members in settings_of(groups).items():
        tested = [(each, lengths_of(each)) for each in members]
        curves = [
            Curve(each.method, list(lengths), list(lengths.values()), look=_look(each, groups))
            for each, lengths in tested
            if len(lengths) > 1
        ]
        if not curves:
            continue
        metric, chance = members[0].task.metric, members[0].task.chance
        path = out / f"lengths-{file_name(name, groups)}.png"
        length_curves(curves, metric, f"trained on {name}", path, chance)
        plot = curves_chart(curves, "T of the test sequences, steps", metric, chance, logarithmic=True)
        charts.append(Chart(f"trained on {name}", path, plot, _numbers(curves, "T")))
    return charts


def _look(group: Group, groups: Sequence[Group]) -> int:
    """A method's colour and style, the same in all charts of a report."""
    return list(dict.fromkeys(each.method for each in groups)).index(group.method)


def mean_curve(members: Group, look: int | None = None) -> Curve:
    """Mean, least and greatest value at each number of updates, over the seeds that were evaluated there.

    A run that was stopped by its target counts with its last value from then on.
    """
    by_run = [{each.step: each.value for each in run.valid} for run in members.runs]
    longest = max(by_run, key=len)
    for run, value_at in zip(members.runs, by_run, strict=True):
        if value_at and run.summary.get("stopped") == "target":
            last = max(value_at)
            value_at.update({step: value_at[last] for step in longest if step > last})
    values = [[each[step] for each in by_run if step in each] for step in longest]
    several = len(members.runs) > 1
    label = f"{members.method} ({len(members.runs)} seeds)" if several else members.method
    means = [statistics.fmean(each) for each in values]
    return Curve(label, list(longest), means, [(min(each), max(each)) for each in values] if several else None, look)


def file_name(setting: str, groups: Sequence[Group]) -> str:
    """A setting as part of a file name: the task alone if all runs of the task have the same setting."""
    task = setting.split()[0]
    if {each.setting for each in groups if each.task.name == task} == {setting}:
        return task
    return re.sub(r"[^A-Za-z0-9.]+", "-", setting).strip("-")


def _numbers(curves: Sequence[Curve], name: str) -> Table:
    """The values of a chart, for readers who cannot see it or want to copy them."""
    steps = sorted({step for curve in curves for step in curve.steps})
    apart = -(-len(steps) // ROWS)
    shown = sorted(steps[::-1][::apart])  # from the last one backwards, so that it is among them
    of_curve = [dict(zip(curve.steps, map(_cell, *_with_band(curve)), strict=True)) for curve in curves]
    rows = [[f"{step:,}", *(cells.get(step, "-") for cells in of_curve)] for step in shown]
    return Table("", [name, *(curve.label for curve in curves)], rows)


def _with_band(curve: Curve) -> tuple[Sequence[float], Sequence[tuple[float, float] | None]]:
    return curve.values, curve.band or [None] * len(curve.values)


def _cell(value: float, band: tuple[float, float] | None) -> str:
    return f"{value:.4f}" if band is None else f"{value:.4f} ({band[0]:.4f} to {band[1]:.4f})"
