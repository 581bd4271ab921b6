"""Runs read back from their folders, finished or not, with or without their data.

The numbers come from each run's config.json, summary.json, log.jsonl and eval.jsonl.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import load_task, read_config
from reminding.lab.runs.facts import informed
from reminding.lab.runs.runlog import read_log
from reminding.tasks import DERIVED, TASKS, TRAINING

ENDINGS = {
    "steps": "its number of updates",
    "time": "its time limit",
    "patience": "its patience",
    "target": "its target",
    "interrupted": "Ctrl-C",
    "pruned": "its sweep, which has better trials",
}
"""What may stop a run -> how a report names it."""


@dataclass(frozen=True)
class Progress:
    """A validation result and the best so far, after a number of updates and of seconds of training."""

    step: int
    seconds: float
    value: float
    best: float


@dataclass(frozen=True)
class TaskRecord:
    """A run's task, as far as it is known without its data.

    Args:
        name: of the task.
        setting: the name, the length T, and the options of the data and the metrics that are not at their defaults.
        metric: the main metric; "" if neither the task nor the run's log says which it is.
        maximize: whether a larger value is better.
        chance: the value that a model reaches without looking at the input, and its name; None if unknown.
    """

    name: str
    setting: str
    metric: str
    maximize: bool
    chance: tuple[float, str] | None


@dataclass(frozen=True)
class Run:
    """A run read from its folder, finished or not.

    Args:
        folder: of the run.
        options: every option under a name such as "train.lr".
        task: that it was trained on.
        summary: of a finished run; empty otherwise.
        valid: the validation results so far.
        records: the whole log.
        evaluations: the further tests.
    """

    folder: Path
    options: Mapping[str, Any]
    task: TaskRecord
    summary: Mapping[str, Any]
    valid: Sequence[Progress]
    records: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Mapping[str, Any]]

    @staticmethod
    def read(folder: Path) -> Run:
        """Read a folder.

        Raises:
            FileNotFoundError: it is not a run.
            ValueError: its config.json cannot be read.
        """
        path = folder / checkpoint.CONFIG_NAME
        content, records = read_config(path), read_log(folder)
        if content["task"].get("name") not in TASKS:
            raise ValueError(f"{path} cannot be read: there is no task {content['task'].get('name')!r}")
        summary = checkpoint.read_summary(folder)
        task = _task_record(content["task"], summary, records, folder)
        parts = ("task", "model", "train")
        options = {f"{part}.{name}": value for part in parts for name, value in content[part].items()}
        valid = _progress(records, task)
        return Run(folder, options, task, summary, valid, records, checkpoint.read_evaluations(folder))

    @property
    def test(self) -> float | None:
        """The main metric on the test split."""
        return self.summary.get(self.task.metric)

    @property
    def model(self) -> str:
        """The kind of network."""
        return self.options["model.model"]

    @property
    def updates(self) -> int:
        """The number of updates; of an unfinished run those before its last evaluation."""
        return int(self.summary.get("steps", self.valid[-1].step if self.valid else 0))

    @property
    def state(self) -> str:
        """What ended the run, or how far an unfinished one has come."""
        if self.summary:
            stopped = self.summary.get("stopped")
            return f"ended by {ENDINGS.get(stopped, stopped)}" if stopped else "finished"
        return f"{self.updates:,} of {self.options.get('train.steps', 0):,} updates"


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """The folders of runs among some paths, and below those that are not runs themselves."""
    folders: list[Path] = []
    for path in paths:
        folders += [path] if (path / checkpoint.CONFIG_NAME).is_file() else find_below(path, checkpoint.CONFIG_NAME)
    return list(dict.fromkeys(folders))


def find_below(path: Path, name: str) -> list[Path]:
    """Folders at any depth that hold a file of a name, in natural order (T200 before T1000)."""
    return sorted((file.parent for file in path.rglob(name)), key=_natural)


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]


def _task_record(
    options: Mapping[str, Any], summary: Mapping[str, Any], records: Sequence[Mapping[str, Any]], folder: Path
) -> TaskRecord:
    """From the task and its facts, or from the log of a run without facts whose data is missing."""
    kind = TASKS[options["name"]]
    try:
        task = informed(load_task(options), folder)
    except (OSError, TypeError, ValueError):  # the data was moved or has changed
        task = None
    evaluated = next((list(record) for record in records if record["kind"] == "valid"), ["", "", ""])
    metric = summary.get("metric") or (evaluated[2] if task is None else task.metric)  # the entry after kind and step
    return TaskRecord(kind.name, setting_name(options), metric, kind.maximize, _chance(task))


def _chance(task: Any) -> tuple[float, str] | None:
    if task is None:
        return None
    if task.name == "copying":
        return 1 / task.alphabet, "chance"
    if task.metric == "accuracy":
        counts = task.facts().get("counts")
        if counts:
            return max(counts) / sum(counts), "always the most frequent class"
        return 1 / task.output_size, "chance"
    return (1 / 6, "always predicting the mean") if task.name == "adding" else None


def setting_name(options: Mapping[str, Any]) -> str:
    """The name of a task, its length T, and the options of its data and metrics that are not at their defaults.

    Args:
        options: of the task, with its "name".
    """
    shown: list[str] = []
    for field in fields(TASKS[options["name"]]):
        value = options.get(field.name, field.default)
        if field.name == "T" or not _is_usual(field, value):
            shown.append(_shown(field.name, value))
    return f"{options['name']} {', '.join(shown)}".strip()


def _is_usual(field: Any, value: Any) -> bool:
    """Whether an option need not be shown: it is at its default, or concerns neither the data nor the metrics."""
    if TRAINING in field.metadata or DERIVED in field.metadata or field.name == "data_dir":
        return True
    default = None if field.default is MISSING else field.default
    return value == default or (isinstance(value, list | tuple) and tuple(value) == default)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _shown(name: str, value: Any) -> str:
    if name in ("data", "test"):
        return Path(str(value)).name
    if isinstance(value, list | tuple):
        return f"{name}={'+'.join(map(str, value))}"  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return f"{name}={value}"


def _progress(records: Sequence[Mapping[str, Any]], task: TaskRecord) -> list[Progress]:
    seconds = {record["step"]: record["seconds"] for record in records if record["kind"] == "train"}
    results: list[Progress] = []
    for record in records:
        if record["kind"] != "valid" or task.metric not in record:
            continue
        value = record[task.metric]
        candidates = [value, *(each.best for each in results[-1:])]
        best = max(candidates) if task.maximize else min(candidates)
        results.append(Progress(record["step"], seconds.get(record["step"], 0.0), value, best))
    return results
