"""Groups of runs that differ in their seed alone."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from reminding.lab.runs.records import Run, TaskRecord
from reminding.lab.show.tables import metric_text

_SEED = re.compile(r"-seed\d+$")


@dataclass(frozen=True)
class Group:
    """The runs of one method on one task.

    Args:
        setting: the task, its length, and its options that are not at their defaults.
        method: the runs' name without the seed.
    """

    setting: str
    method: str
    runs: Sequence[Run]

    @property
    def task(self) -> TaskRecord:
        """The task of all of them."""
        return self.runs[0].task

    def values(self, get: Callable[[Run], float | None]) -> list[float]:
        """The values of `get` for the runs that have one."""
        return [value for value in map(get, self.runs) if value is not None]

    def summaries(self, name: str) -> list[float]:
        """An entry of the summaries that have it."""
        return self.values(lambda run: run.summary.get(name))


def after_steps(steps: int) -> Callable[[Run], float | None]:
    """A function of a run: its best validation result within `steps` updates; None before its first evaluation."""
    return lambda run: next((each.best for each in reversed(run.valid) if each.step <= steps), None)


def after_seconds(seconds: float) -> Callable[[Run], float | None]:
    """A function of a run: its best validation result within `seconds` of training; None before the first."""
    return lambda run: next((each.best for each in reversed(run.valid) if each.seconds <= seconds), None)


def group(runs: Iterable[Run]) -> list[Group]:
    """Group runs that have the same name up to the seed, the same parent folder, and the same options.

    Methods with the same name and setting in several folders get the folder's name in front.
    """
    members: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        options = {name: value for name, value in run.options.items() if name not in ("train.seed", "train.steps")}
        key = (str(run.folder.parent), _SEED.sub("", run.folder.name), str(options))
        members.setdefault(key, []).append(run)
    names = Counter((runs[0].task.setting, name) for (_, name, _), runs in members.items())
    groups: list[Group] = []
    for (_, name, _), runs in members.items():
        setting = runs[0].task.setting
        method = name if names[setting, name] == 1 else f"{runs[0].folder.resolve().parent.name}/{name}"
        groups.append(Group(setting, method, runs))
    return groups


def settings_of(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """The groups of each setting, in the order of the groups."""
    names = dict.fromkeys(each.setting for each in groups)
    return {name: [each for each in groups if each.setting == name] for name in names}


def spread(values: Sequence[float], form: str | None = None) -> str:
    """The mean and, of several values, the standard deviation; "-" of none.

    Args:
        form: of the numbers; None: that of a metric.
    """
    if not values:
        return "-"
    found = [statistics.fmean(values), *([statistics.stdev(values)] if len(values) > 1 else [])]
    return " ± ".join(metric_text(each) if form is None else format(each, form) for each in found)
