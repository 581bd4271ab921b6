"""How a report opens: its title, and a sentence for each task with the best method, its figure and its baseline."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from reminding.lab.report.groups import Group, settings_of, spread
from reminding.lab.runs.records import Run
from reminding.lab.show.tables import metric_text

METRICS = {"accuracy": "an accuracy", "mse": "a mean squared error"}
"""Metric -> its name in a sentence, if that is another one."""
NAMED = 3
"""Tasks that a title names, or tasks in all if there is only one more."""


def title_of(groups: Sequence[Group], benchmarks: Sequence[str]) -> str:
    """The title of a report: the names of its tasks, or of its benchmarks."""
    tasks = list(dict.fromkeys(each.task.title for each in groups))
    if not tasks:
        return f"Benchmark {_listed(list(benchmarks), 'benchmarks')}"
    return f"Results on {_listed(tasks, 'tasks')}"


def _listed(names: list[str], kind: str) -> str:
    if len(names) > NAMED + 1:
        return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more {kind}"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def sentences(groups: Sequence[Group]) -> list[str]:
    """For each setting the best method, or those that tie, with figure and baseline, and the next method."""
    by_setting = settings_of(groups)
    titles = [members[0].task.title for members in by_setting.values()]
    return [
        _sentence(members[0].task.title if titles.count(members[0].task.title) == 1 else setting, members)
        for setting, members in by_setting.items()
    ]


@dataclass(frozen=True)
class _Result:
    """A method with the finite test results of its seeds."""

    group: Group
    values: Sequence[float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    def figure(self) -> str:
        seeds = f" over {len(self.values)} seeds" if len(self.values) > 1 else ""
        return f"{_figure(self.group.task.metric, spread(self.values))} on the test split{seeds}"


def _sentence(name: str, members: Sequence[Group]) -> str:
    task = members[0].task
    results = [
        _Result(each, [value for value in each.values(lambda run: run.test) if math.isfinite(value)])
        for each in members
    ]
    ranked = sorted((each for each in results if each.values), key=lambda each: each.mean, reverse=task.maximize)
    if not ranked:
        return _unfinished(name, members)
    best, tied = ranked[0], _tied(ranked)
    said = f"{best.group.method} {'is best with' if len(ranked) > 1 else 'reaches'} {best.figure()}"
    if len(tied) > 1:
        said = f"{_listed([each.group.method for each in tied], 'methods')} tie with {_tie(tied)}"
    parts = [f"On {name}, {said}{_beside_baseline(best)}"]
    parts += [_next(best, ranked[len(tied)])] if len(ranked) > len(tied) else []
    left = len(members) - len(ranked)
    parts += [f"{left} of {len(members)} methods {'have' if left > 1 else 'has'} no result yet"] if left else []
    return "; ".join(parts) + "."


def _tied(ranked: Sequence[_Result]) -> list[_Result]:
    """The best method, and those whose mean is the same."""
    return [each for each in ranked if math.isclose(each.mean, ranked[0].mean, rel_tol=1e-9)]


def _tie(tied: Sequence[_Result]) -> str:
    """The figure that methods share."""
    best = tied[0]
    counts = {len(each.values) for each in tied}
    seeds = f" over {min(counts)} seeds each" if len(counts) == 1 and counts != {1} else ""
    return f"{_figure(best.group.task.metric, spread([best.mean]))} on the test split{seeds}"


def _figure(metric: str, value: str) -> str:
    """A value of a metric, in running text."""
    name = METRICS.get(metric, f"a {metric.replace('_', ' ')}")
    return f"{value} {metric.replace('_', ' ')}" if metric.startswith("bits_per_") else f"{name} of {value}"


def _beside_baseline(best: _Result) -> str:
    """The baseline, and on which side of it the method is."""
    known = baseline(best.group)
    if known is None:
        return ", and no baseline is known"
    value, name = known
    better = best.mean - value if best.group.task.maximize else value - best.mean
    if math.isclose(best.mean, value, rel_tol=1e-9):
        return f", the same as {name}"
    return f", {'better' if better > 0 else 'worse'} than {name} ({metric_text(value)})"


def baseline(group: Group) -> tuple[float, str] | None:
    """The result that a method has to beat, and its name: no change, the most frequent class, or chance."""
    unchanged = [value for value in group.summaries("mse_unchanged") if math.isfinite(value)]
    if unchanged and group.task.metric == "mse":
        return statistics.fmean(unchanged), "no change"
    shares = [share for run in group.runs if (share := _majority(run)) is not None]
    if shares and group.task.metric == "accuracy":
        return statistics.fmean(shares), "always predicting the most frequent class"
    return group.task.baseline


def _majority(run: Run) -> float | None:
    """The share of the test sequences that are of the class which is most frequent in training."""
    majority: Any = run.summary.get("errors", {}).get("majority")
    share = cast("Mapping[str, Any]", majority).get("share") if isinstance(majority, dict) else None
    return share if isinstance(share, float) else None


def _next(best: _Result, second: _Result) -> str:
    said = f"next is {second.group.method} with {spread(second.values)}"
    if spread([best.mean]) == spread([second.mean]):
        said += ", which differs in later decimals alone"
    if min(len(best.values), len(second.values)) < 2:
        return said
    apart, deviation = abs(best.mean - second.mean), max(map(statistics.stdev, (best.values, second.values)))
    return f"{said}, closer than the seeds of a method lie apart" if apart < deviation else said


def _unfinished(name: str, members: Sequence[Group]) -> str:
    """The best validation result of runs that have no test result."""
    task = members[0].task
    reached = [
        (run.valid[-1].best, each.method)
        for each in members
        for run in each.runs
        if run.valid and math.isfinite(run.valid[-1].best)
    ]
    if not reached:
        return f"On {name}, no run has a result yet."
    best = (max if task.maximize else min)(value for value, _ in reached)
    methods = list(dict.fromkeys(method for value, method in reached if value == best))
    leads = f"{methods[0]} is best" if len(methods) == 1 else f"{_listed(methods, 'methods')} tie"
    figure = _figure(task.metric, metric_text(best))
    return f"On {name}, no run has a test result yet; {leads} with {figure} on the validation split."
