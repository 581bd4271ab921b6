"""Runs that differ in their seed alone, and what they say together.

Shapes: none.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reminding.lab.runs.records import Run, TaskRecord

_SEED = re.compile(r"-seed\d+$")


@dataclass(frozen=True)
class Group:
    """The runs of one method on one task.

    Args:
        setting: the task, its length, and what else of it is other than usual.
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
        """A number of each run that has it."""
        return [value for value in map(get, self.runs) if value is not None]

    def summaries(self, name: str) -> list[float]:
        """A number of each summary that has it."""
        return self.values(lambda run: run.summary.get(name))


def after_steps(steps: int) -> Callable[[Run], float | None]:
    """What gives a run's best validation result within so many updates; None before its first evaluation."""
    return lambda run: next((each.best for each in reversed(run.valid) if each.step <= steps), None)


def after_seconds(seconds: float) -> Callable[[Run], float | None]:
    """What gives a run's best validation result within so many seconds of training."""
    return lambda run: next((each.best for each in reversed(run.valid) if each.seconds <= seconds), None)


def group(folders: Iterable[Path]) -> list[Group]:
    """Runs by what they share: the same name but for the seed, in the same place, with the same options.

    Methods of one name at one setting, in several places, are told apart by their folder.
    """
    members: dict[tuple[str, ...], list[Run]] = {}
    for folder in folders:
        run = Run.read(folder)
        options = {name: value for name, value in run.options.items() if name not in ("train.seed", "train.steps")}
        key = (str(folder.parent), _SEED.sub("", folder.name), str(options))
        members.setdefault(key, []).append(run)
    names = Counter((runs[0].task.setting, name) for (_, name, _), runs in members.items())
    groups: list[Group] = []
    for (_, name, _), runs in members.items():
        setting = runs[0].task.setting
        told = name if names[setting, name] == 1 else f"{runs[0].folder.resolve().parent.name}/{name}"
        groups.append(Group(setting, told, runs))
    return groups


def spread(values: Sequence[float], form: str = ".4f") -> str:
    """Mean and, of several values, standard deviation over the runs; "-" where there is none."""
    if not values:
        return "-"
    mean = format(statistics.fmean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):{form}}"
