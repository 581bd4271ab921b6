"""Curves of groups of runs: the metric during training, and at lengths other than in training."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path

from reminding.lab.report.groups import Group, settings_of
from reminding.lab.report.sections import Block, Chart, Lines
from reminding.lab.report.tables import lengths_of
from reminding.lab.runs.records import Run
from reminding.lab.show.charts import curves_chart, dots_chart
from reminding.lab.show.escaping import MOST_LETTERS
from reminding.lab.show.plots import Curve, learning_curves, length_curves, seed_dots
from reminding.lab.show.tables import Table, metric_text

ROWS = 25
"""Greatest number of rows in the table behind a chart; longer curves are thinned out evenly."""


def learning_charts(groups: Sequence[Group], out: Path) -> list[Block]:
    """One chart per setting: the main metric on the validation split against updates, with a band over the seeds.

    Below it are remarks about means whose seeds ended at different updates.
    """
    charts: list[Block] = []
    for name, members in settings_of(groups).items():
        means = [mean_curve(each, _look(each, groups)) for each in members]
        remarks = [line for each, curve in zip(members, means, strict=True) if (line := remark(each, curve))]
        curves = [curve for curve in means if curve.steps]
        if not curves:
            charts += [Lines(remarks)] if remarks else []
            continue
        task = members[0].task
        path, label = out / f"curves-{file_name(name, groups)}.png", f"{task.metric}, validation"
        learning_curves(curves, label, name, path, task.chance)
        plot = curves_chart(curves, "updates", label, task.chance)
        charts.append(Chart(name, path, plot, _numbers(curves, "updates")))
        charts += [Lines(remarks)] if remarks else []
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
        means = [length_curve(each, _look(each, groups)) for each in members]
        curves = [curve for curve in means if len(curve.steps) > 1]
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
    """Mean, least and greatest value at each number of updates at which every seed has one.

    A seed that reached its target counts with its last value from then on. The curve ends where the first other seed
    ends, as a mean of the rest would jump. Seeds that were not evaluated yet are left out; the label counts them.
    """
    by_run = [_values(run) for run in members.runs if run.valid]
    last = max((max(each) for each in by_run), default=0)
    for run, value_at in zip((run for run in members.runs if run.valid), by_run, strict=True):
        if _reached(run):
            end = max(value_at)
            value_at.update({step: value_at[end] for each in by_run for step in list(each) if end < step <= last})
    return _over_seeds(members, by_run, look)


def length_curve(members: Group, look: int | None = None) -> Curve:
    """Mean, least and greatest test result at each length at which every seed was tested.

    Seeds without such tests are left out; the label counts them.
    """
    return _over_seeds(members, lengths_of(members.runs), look)


def _over_seeds(members: Group, by_run: Sequence[Mapping[int, float]], look: int | None) -> Curve:
    """Mean, least and greatest of the values of some seeds, where all of them have one."""
    steps = sorted(set[int]().union(*by_run).intersection(*by_run))
    values = [[each[step] for each in by_run] for step in steps]
    all_runs, several = len(members.runs), len(by_run) > 1
    seeds = f"{all_runs} seeds" if len(by_run) == all_runs else f"{len(by_run)} of {all_runs} seeds"
    label = f"{members.method} ({seeds})" if all_runs > 1 else members.method
    means = [statistics.fmean(each) for each in values]
    return Curve(label, steps, means, [(min(each), max(each)) for each in values] if several else None, look)


def _values(run: Run) -> dict[int, float]:
    """The value of each evaluation."""
    return {each.step: each.value for each in run.valid}


def _reached(run: Run) -> bool:
    """Whether a run was stopped by its target."""
    return run.summary.get("stopped") == "target"


def remark(members: Group, curve: Curve) -> str | None:
    """A sentence for readers of a mean whose seeds ended at different updates; None if they did not."""
    ends = {run.valid[-1].step for run in members.runs if run.valid}
    if len(ends) < 2:
        return None
    if not curve.steps:
        return f"{members.method} has no curve: its seeds were not evaluated after equal numbers of updates."
    end, parts = curve.steps[-1], list[str]()
    if any(_reached(run) and run.valid[-1].step < end for run in members.runs if run.valid):
        parts.append("a seed that reached its target counts with its last value from then on")
    if max(ends) > end:
        parts.append(
            f"the mean ends at update {end:,}, the last at which every seed has a value; one went on to {max(ends):,}"
        )
    return f"{members.method}: {'; '.join(parts)}." if parts else None


def file_name(setting: str, groups: Sequence[Group]) -> str:
    """A setting as part of a file name: the task alone if all runs of the task have the same setting.

    No two settings of a report have the same, also where a file system takes large and small letters for one.
    """
    names: dict[str, str] = {}
    tasks = {each.setting: each.task.name for each in groups}
    for each, task in tasks.items():
        alone = [other for other in tasks if tasks[other] == task] == [each]
        name = task if alone else re.sub(r"[^A-Za-z0-9.]+", "-", each)[:MOST_LETTERS].strip("-")
        used = {other.lower() for other in names.values()}
        names[each] = next(new for new in chain([name], (f"{name}_{n}" for n in count(2))) if new.lower() not in used)
    return names[setting]


def _numbers(curves: Sequence[Curve], name: str) -> Table:
    """The values of a chart, for readers who cannot see it or want to copy them."""
    steps = sorted({step for curve in curves for step in curve.steps})
    apart = -(-len(steps) // ROWS)
    shown = sorted(steps[::-1][::apart])  # from the last one backwards, so that it is among them
    bands = [curve.band or [None] * len(curve.values) for curve in curves]
    of_curve = [
        dict(zip(curve.steps, map(_cell, curve.values, band), strict=True))
        for curve, band in zip(curves, bands, strict=True)
    ]
    rows = [[f"{step:,}", *(cells.get(step, "-") for cells in of_curve)] for step in shown]
    return Table("", [name, *(curve.label for curve in curves)], rows)


def _cell(value: float, band: tuple[float, float] | None) -> str:
    told = metric_text(value)
    return told if band is None else f"{told} ({metric_text(band[0])} to {metric_text(band[1])})"
