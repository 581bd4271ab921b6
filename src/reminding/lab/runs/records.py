"""Runs as their folders tell of them: finished or not, and whether or not their data is still there.

Shapes: none; numbers come from each run's config.json, summary.json, log.jsonl and eval.jsonl.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import load_task, read_config
from reminding.lab.runs.runlog import read_log
from reminding.tasks import DERIVED, TASKS, TRAINING


@dataclass(frozen=True)
class Progress:
    """A validation result, and the best so far, after some updates and some seconds of training."""

    step: int
    seconds: float
    value: float
    best: float


@dataclass(frozen=True)
class TaskRecord:
    """What there is to say of a run's task without its data.

    Args:
        name: of the task.
        setting: the name, its length T, and what else is other than usual of what is measured.
        metric: the main one; "" where nothing tells, neither the task nor the run's log.
        maximize: whether a larger one is better.
        chance: what is reached without looking at the input, and what that is called; None where it is not known.
    """

    name: str
    setting: str
    metric: str
    maximize: bool
    chance: tuple[float, str] | None


@dataclass(frozen=True)
class Run:
    """A run as its folder tells it, finished or not.

    Args:
        folder: of the run.
        options: every option by a name such as "train.lr".
        task: what it was trained on.
        summary: of a finished run; empty otherwise.
        valid: validation results so far.
        records: all of its log.
        evaluations: further tests.
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
            FileNotFoundError: it is no run.
            ValueError: its config.json cannot be read.
        """
        path = folder / checkpoint.CONFIG_NAME
        content, records = read_config(path), read_log(folder)
        if content["task"].get("name") not in TASKS:
            raise ValueError(f"{path} cannot be read: there is no task {content['task'].get('name')!r}")
        summary = checkpoint.read_summary(folder)
        task = _task_record(content["task"], summary, records)
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
        """The network's kind."""
        return self.options["model.model"]

    @property
    def updates(self) -> int:
        """Updates done so far; of an unfinished run those before its last evaluation."""
        return int(self.summary.get("steps", self.valid[-1].step if self.valid else 0))

    @property
    def state(self) -> str:
        """Whether it is finished, and how far it is where it is not."""
        if self.summary:
            return f"ended by its {self.summary['stopped']}" if "stopped" in self.summary else "finished"
        return f"{self.updates:,} of {self.options.get('train.steps', 0):,} updates"


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """Folders of runs: those given, and all that lie below one that is no run itself."""
    found: list[Path] = []
    for path in paths:
        found += [path] if (path / checkpoint.CONFIG_NAME).is_file() else find_below(path, checkpoint.CONFIG_NAME)
    return list(dict.fromkeys(found))


def find_below(path: Path, name: str) -> list[Path]:
    """Folders at any depth that hold a file of that name, T200 before T1000."""
    return sorted((file.parent for file in path.rglob(name)), key=_natural)


def _natural(path: Path) -> list[Any]:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]


def _task_record(
    options: Mapping[str, Any], summary: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> TaskRecord:
    """From the task itself where its data is there, and from what the run has told so far where it is not."""
    kind = TASKS[options["name"]]
    try:
        task = load_task(options)
    except (OSError, TypeError, ValueError):  # its data has been moved, or has changed since
        task = None
    evaluated = next((list(record) for record in records if record["kind"] == "valid"), ["", "", ""])
    metric = summary.get("metric") or (evaluated[2] if task is None else task.metric)  # after kind and step
    return TaskRecord(kind.name, setting_name(options), metric, kind.maximize, _chance(task))


def _chance(task: Any) -> tuple[float, str] | None:
    if task is None:
        return None
    if task.name == "copying":
        return 1 / task.alphabet, "chance"
    if task.metric == "accuracy":
        return 1 / task.output_size, "chance"
    return (1 / 6, "always predicting the mean") if task.name == "adding" else None


def setting_name(options: Mapping[str, Any]) -> str:
    """A task with its length T, and with what else is other than usual of what is measured.

    Args:
        options: of the task, and its "name".
    """
    told: list[str] = []
    for field in fields(TASKS[options["name"]]):
        value = options.get(field.name, field.default)
        if field.name == "T" or not _usual(field, value):
            told.append(_told(field.name, value))
    return f"{options['name']} {', '.join(told)}".strip()


def _usual(field: Any, value: Any) -> bool:
    """Whether an option goes without saying."""
    if TRAINING in field.metadata or DERIVED in field.metadata or field.name == "data_dir":
        return True
    default = None if field.default is MISSING else field.default
    return value == default or (isinstance(value, list | tuple) and tuple(value) == default)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _told(name: str, value: Any) -> str:
    if name in ("data", "test"):
        return Path(str(value)).name
    if isinstance(value, list | tuple):
        return f"{name}={'+'.join(map(str, value))}"  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return f"{name}={value}"


def _progress(records: Sequence[Mapping[str, Any]], task: TaskRecord) -> list[Progress]:
    seconds = {record["step"]: record["seconds"] for record in records if record["kind"] == "train"}
    found: list[Progress] = []
    for record in records:
        if record["kind"] != "valid" or task.metric not in record:
            continue
        value = record[task.metric]
        known = [value, *(each.best for each in found[-1:])]
        best = max(known) if task.maximize else min(known)
        found.append(Progress(record["step"], seconds.get(record["step"], 0.0), value, best))
    return found
