"""Groups of runs that differ in their seed alone."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reminding.lab.report.names import differing, tails
from reminding.lab.runs.records import Run, TaskRecord, defaults_of
from reminding.lab.show.tables import metric_text
from reminding.tasks import TASKS

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

    Methods with the same name and setting in several folders get the folder's name in front; in one folder, the
    options behind it in which they differ.
    """
    members: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        key = (run.task.setting, str(run.folder.parent), _method(run), str(sorted(_options(run).items())))
        members.setdefault(key, []).append(run)
    groups = [Group(found[0].task.setting, _method(found[0]), found) for found in members.values()]
    alike: dict[tuple[str, str], list[Group]] = {}
    for each in groups:
        alike.setdefault((each.setting, each.method), []).append(each)
    names = {id(each): name for found in alike.values() for each, name in _names(found)}
    return [replace(each, method=names[id(each)]) for each in groups]


def _method(run: Run) -> str:
    return _SEED.sub("", run.folder.name)


def _options(run: Run) -> dict[str, Any]:
    """The options that all runs of a group have. Those that an older version did not know are at their defaults."""
    every = {**defaults_of(TASKS[run.task.name]), **run.options}
    return {name: value for name, value in every.items() if name not in ("train.seed", "train.steps")}


def _names(alike: Sequence[Group]) -> list[tuple[Group, str]]:
    """Groups of one name with names that tell them apart."""
    by_place: dict[Path, list[Group]] = {}
    for each in alike:
        by_place.setdefault(each.runs[0].folder.parent, []).append(each)
    places = tails(by_place)
    found: list[tuple[Group, str]] = []
    for place, members in by_place.items():
        name = members[0].method if len(by_place) == 1 else f"{places[place]}/{members[0].method}"
        told = differing([_options(each.runs[0]) for each in members])
        found += [
            (each, f"{name} ({options})" if options else name) for each, options in zip(members, told, strict=True)
        ]
    return found


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
