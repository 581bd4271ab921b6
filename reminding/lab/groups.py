"""Runs that differ in their seed alone, and what they say together.

Shapes: none; numbers come from each run's summary.json, log.jsonl and eval.jsonl.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from reminding.lab import checkpoint
from reminding.lab.config import RunConfig, plain
from reminding.lab.runlog import read_log
from reminding.tasks import TRAINING

_SEED = re.compile(r"-seed\d+$")


@dataclass(frozen=True)
class Progress:
    """A validation result, and the best so far, after some updates and some seconds of training."""

    step: int
    seconds: float
    value: float
    best: float


@dataclass(frozen=True)
class Run:
    """A run as its folder tells it, finished or not."""

    folder: Path
    config: RunConfig
    summary: dict[str, Any]
    valid: Sequence[Progress]
    evaluations: Sequence[dict[str, Any]]

    @staticmethod
    def read(folder: Path) -> Run:
        """Read a folder.

        Raises:
            FileNotFoundError: it is no run.
            ValueError: its config.json cannot be read.
        """
        config = RunConfig.load(folder / checkpoint.CONFIG_NAME)
        valid = _progress(read_log(folder), config.task)
        return Run(folder, config, checkpoint.read_summary(folder), valid, checkpoint.read_evaluations(folder))

    @property
    def test(self) -> float | None:
        """The main metric on the test split."""
        return self.summary.get(self.config.task.metric)

    @property
    def updates(self) -> int:
        """Updates done so far; of an unfinished run those before its last evaluation."""
        return int(self.summary.get("steps", self.valid[-1].step if self.valid else 0))


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
    def task(self) -> Any:
        """The task of all of them."""
        return self.runs[0].config.task

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


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Folders of runs: those given, and all that lie below one that is no run itself.

    Raises:
        FileNotFoundError: there is none in a folder.
    """
    found: list[Path] = []
    for path in paths:
        inside = [path] if (path / checkpoint.CONFIG_NAME).is_file() else _below(path)
        if not inside:
            raise FileNotFoundError(f"{path} is not a run, and there is none below it: no {checkpoint.CONFIG_NAME}")
        found += inside
    return list(dict.fromkeys(found))


def _below(path: Path) -> list[Path]:
    return sorted((file.parent for file in path.rglob(checkpoint.CONFIG_NAME)), key=_natural)


def _natural(path: Path) -> list[Any]:
    """T200 before T1000."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]


def group(folders: Iterable[Path]) -> list[Group]:
    """Runs by what they share: the same name but for the seed, in the same place, with the same options."""
    members: dict[tuple[str, ...], list[Run]] = {}
    for folder in folders:
        run = Run.read(folder)
        options = {n: v for n, v in run.config.settings().items() if n not in ("train.seed", "train.steps")}
        key = (str(folder.parent), _SEED.sub("", folder.name), str(options))
        members.setdefault(key, []).append(run)
    return [Group(setting_name(runs[0].config.task), name, runs) for (_, name, _), runs in members.items()]


def setting_name(task: Any) -> str:
    """A task with its length T, and with what else is other than usual of what is measured."""
    usual = {field.name: field.default for field in fields(task)}
    usual |= {field.name: getattr(task, field.name) for field in fields(task) if TRAINING in field.metadata}
    told = [f"{name}={value}" for name, value in plain(task).items() if name == "T" or value != usual[name]]
    return f"{task.name} {', '.join(part for part in told if not part.startswith('data'))}".strip()


def spread(values: Sequence[float], form: str = ".4f") -> str:
    """Mean and, of several values, standard deviation over the runs; "-" where there is none."""
    if not values:
        return "-"
    mean = format(statistics.fmean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):{form}}"


def _progress(records: Sequence[dict[str, Any]], task: Any) -> list[Progress]:
    seconds = {record["step"]: record["seconds"] for record in records if record["kind"] == "train"}
    found: list[Progress] = []
    for record in records:
        if record["kind"] != "valid":
            continue
        value = record[task.metric]
        known = [value, *(each.best for each in found[-1:])]
        best = max(known) if task.maximize else min(known)
        found.append(Progress(record["step"], seconds.get(record["step"], 0.0), value, best))
    return found
