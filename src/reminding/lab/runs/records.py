"""Runs read back from their folders, finished or not, with or without their data.

The numbers come from each run's config.json, summary.json, log.jsonl and eval.jsonl.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from reminding.disk.fields import plain
from reminding.disk.places import find_below, once
from reminding.disk.records import read_json, read_lines
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import ModelOptions, TrainOptions, load_task, named, read_config
from reminding.lab.runs.facts import informed
from reminding.lab.runs.runlog import LOG_NAME
from reminding.tasks import DERIVED, TASKS, TRAINING

ENDINGS = {
    "steps": "its number of updates",
    "time": "its time limit",
    "patience": "its patience",
    "target": "its target",
    "interrupted": "Ctrl-C or another signal",
    "pruned": "its sweep, which has better trials",
}
"""What may stop a run -> how a report names it."""
SIGNALS = {"SIGINT": "Ctrl-C", "SIGHUP": "SIGHUP, as its terminal closed"}
"""Signals that are named by what sends them."""
SUMMARY_NUMBERS = (
    *("seconds", "ms_per_update", "peak_resident_bytes", "parameters", "mse_unchanged"),
    *("backward_steps", "backward_steps_last"),
)
"""Entries of summary.json that are numbers, besides the main metric."""


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
        title: the name, with the length T or the name of the data, if it has one.
        setting: the name, the length T, and the options of the data and the metrics that are not at their defaults.
        metric: the main metric; "" if neither the task nor the run's log says which it is.
        maximize: whether a larger value is better.
        chance: the value that a model reaches without looking at the input, and its name; None if unknown.
        baseline: the chance or, of bits, those of symbols that are all equally likely; None if unknown.
    """

    name: str
    title: str
    setting: str
    metric: str
    maximize: bool
    chance: tuple[float, str] | None
    baseline: tuple[float, str] | None


@dataclass(frozen=True)
class Run:
    """A run read from its folder, finished or not.

    Args:
        folder: of the run.
        name: the folder's; a report makes it longer where several runs have the same.
        options: every option under a name such as "train.lr".
        task: that it was trained on.
        summary: of a finished run; empty otherwise.
        valid: the validation results so far.
        records: the whole log.
        evaluations: the further tests, of these weights.
    """

    folder: Path
    name: str
    options: Mapping[str, Any]
    task: TaskRecord
    summary: Mapping[str, Any]
    valid: Sequence[Progress]
    records: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Mapping[str, Any]]

    @staticmethod
    def read(folder: Path) -> Run:
        """Read a folder.

        A last line of the log without an end is left out: it is still being written, or a crash cut it short.

        Raises:
            FileNotFoundError: it is not a run.
            ValueError: a file of it cannot be read, or holds other values than a run writes; the message names the
                file and, of a log, the line.
        """
        content, records = _config(folder / checkpoint.CONFIG_NAME), _log(folder / LOG_NAME)
        summary = _summary(folder / checkpoint.SUMMARY_NAME)
        task = _task_record(content["task"], summary, records, folder)
        _check(summary, {task.metric: _number_or_none}, folder / checkpoint.SUMMARY_NAME)
        for number, record in enumerate(records, 1):
            _check(record, {task.metric: _number}, f"{folder / LOG_NAME}, record {number},")
        evaluations = checkpoint.of_tested(_evaluations(folder / checkpoint.EVALUATIONS_NAME, task.metric), summary)
        return Run(
            folder, folder.name, named(**content), task, summary, _progress(records, task), records, evaluations
        )

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
            return f"ended by {ending_of(self.summary)}" if self.summary.get("stopped") else "finished"
        return f"{self.updates:,} of {self.options.get('train.steps', 0):,} updates"


def ending_of(summary: Mapping[str, Any]) -> str:
    """What stopped a run, for a reader."""
    sent, stopped = str(summary.get("signal", "")), str(summary["stopped"])
    return SIGNALS.get(sent, sent) or ENDINGS.get(stopped, stopped)


def status_of(summary: Mapping[str, Any]) -> int:
    """The exit status of a program that trained a run: 0, or 128 and the number of the signal that ended it."""
    if summary["stopped"] != "interrupted":
        return 0
    return 128 + signal.Signals[str(summary.get("signal") or "SIGINT")]


def read_runs(folders: Iterable[Path]) -> tuple[list[Run], dict[Path, str]]:
    """The runs in some folders, and the folders that cannot be read, each with the reason."""
    runs: list[Run] = []
    damaged: dict[Path, str] = {}
    for folder in folders:
        try:
            runs.append(Run.read(folder))
        except (OSError, ValueError) as error:
            damaged[folder] = str(error)
    return runs, damaged


def find_runs(paths: Iterable[Path]) -> list[Path]:
    """The folders of runs among some paths, and below those that are not runs themselves, each of them once."""
    folders: list[Path] = []
    for path in paths:
        folders += [path] if (path / checkpoint.CONFIG_NAME).is_file() else find_below(path, checkpoint.CONFIG_NAME)
    return once(folders)


Check = Callable[[Any], bool]
"""Whether a value is one that a run writes."""


def _number(value: Any) -> bool:
    """Whether a value is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def _number_or_none(value: Any) -> bool:
    return value is None or _number(value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _whole(value: Any) -> bool:
    return _number(value) and isinstance(value, int)


def _config(path: Path) -> dict[str, Any]:
    """The options in config.json; see `read_config`."""
    content = read_config(path)
    _check(content["task"], {"name": _text}, path, needed=("name",))
    _check(content["model"], {"model": _text}, path, needed=("model",))
    _check(content["train"], {"steps": _whole}, path)
    if content["task"]["name"] not in TASKS:
        raise ValueError(f"{path} cannot be read: there is no task {content['task']['name']!r}")
    return content


def _summary(path: Path) -> dict[str, Any]:
    """The content of summary.json; {} if there is none yet."""
    content = read_json(path) if path.is_file() else {}
    texts = dict.fromkeys(("metric", "stopped", "command"), _text)
    numbers = dict.fromkeys(SUMMARY_NUMBERS, _number_or_none)
    _check(content, {**texts, **numbers, "steps": _whole, "errors": _mapping}, path)
    return content


def _log(path: Path) -> list[dict[str, Any]]:
    """The records of log.jsonl."""
    records: list[dict[str, Any]] = []
    for place, record in _lines(path):
        _check(record, {"kind": _text, "step": _whole}, place, needed=("kind", "step"))
        if record["kind"] == "warning":
            _check(record, {"what": _text, "advice": _text}, place, needed=("what", "advice"))
        elif record["kind"] in ("train", "valid"):
            _check(record, dict.fromkeys(record.keys() - {"kind"}, _number_or_none), place)
            if record["kind"] == "train":
                _check(record, {"seconds": _number}, place, needed=("seconds",))
        records.append(record)
    return records


def _evaluations(path: Path, metric: str) -> list[dict[str, Any]]:
    """The records of eval.jsonl. Tests at another length have the main metric."""
    records: list[dict[str, Any]] = []
    for place, record in _lines(path):
        _check(record, {"task": _mapping, "command": _text}, place, needed=("task", "command"))
        if "T" in record["task"]:
            _check(record["task"], {"T": _whole}, place)
            _check(record, {metric: _number, "changes": _mapping}, place, needed=(metric,))
            _check(record, {"sequences": lambda value: value is None or _whole(value)}, place)
        records.append(record)
    return records


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines of a file that hold an object each, with their place for messages.

    Raises:
        ValueError: a line is damaged.
    """
    lines = read_lines(path)
    if lines.damaged:
        raise ValueError(f"{path}, line {lines.damaged[0]}, cannot be read: it is damaged, or holds no object")
    for number, record in enumerate(lines.records, 1):
        yield f"{path}, line {number},", record


def _check(
    content: Mapping[str, Any], checks: Mapping[str, Check], place: object, needed: Sequence[str] = ()
) -> None:
    """Refuse entries that a run does not write.

    Raises:
        ValueError: names the entry.
    """
    if absent := [name for name in needed if name not in content]:
        raise ValueError(f"{place} cannot be read: it has no {absent[0]!r}")
    for name, fits in checks.items():
        if name in content and not fits(content[name]):
            raise ValueError(f"{place} cannot be read: {name!r} is {str(content[name])[:40]!r}")


def _task_record(
    options: Mapping[str, Any], summary: Mapping[str, Any], records: Sequence[Mapping[str, Any]], folder: Path
) -> TaskRecord:
    """From the task and its facts, or from the log of a run without facts whose data is missing."""
    kind = TASKS[options["name"]]
    try:
        task = informed(load_task(options), folder)
        metric, chance, bits = task.metric, _chance(task), _bits(task)
    except (OSError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError):
        # The data was moved or has changed, or the facts are damaged.
        evaluated = next((list(record) for record in records if record["kind"] == "valid"), list[str]())
        metric, chance, bits = "".join(evaluated[2:3]), None, None  # the entry after kind and step
    metric = summary.get("metric") or metric
    title, setting = _title(options), setting_name(options)
    return TaskRecord(kind.name, title, setting, metric, kind.maximize, chance, chance or bits)


def defaults_of(task: type[Any]) -> dict[str, Any]:
    """What options are where a run or a sweep says nothing of them, named as in `Run.options`.

    They are those of the dataclasses: an option that came later began with the value that changes nothing.
    """
    own = {each.name: each.default for each in fields(task) if each.default is not MISSING}
    return named(own, plain(ModelOptions()), plain(TrainOptions()))


def with_data_named(run: Run, data: str) -> Run:
    """The run with another name for its data, in the title and the setting of its task."""
    options = {name.removeprefix("task."): value for name, value in run.options.items() if name.startswith("task.")}
    task = replace(run.task, title=_title(options, data), setting=setting_name(options, data))
    return replace(run, task=task)


def _title(options: Mapping[str, Any], data: str | None = None) -> str:
    shown = [_shown(name, options[name], data) for name in ("T", "data") if options.get(name) is not None]
    return " ".join([options["name"], *shown])


def _bits(task: Any) -> tuple[float, str] | None:
    """The bits per symbol if all symbols are equally likely."""
    if not task.metric.startswith("bits_per_") or not task.vocabulary:
        return None
    return math.log2(task.vocabulary), f"taking all {task.vocabulary} {task.unit}s as equally likely"


def _chance(task: Any) -> tuple[float, str] | None:
    if task.name == "copying":
        return 1 / task.alphabet, "chance"
    if task.metric == "accuracy":
        counts = task.facts().get("counts")
        if counts:
            return max(counts) / sum(counts), "always predicting the most frequent class"
        return 1 / task.output_size, "chance"
    return (1 / 6, "always predicting the mean") if task.name == "adding" else None


def setting_name(options: Mapping[str, Any], data: str | None = None) -> str:
    """The name of a task, its length T, and the options of its data and metrics that are not at their defaults.

    Args:
        options: of the task, with its "name".
        data: the name of its data; None: that of the file or folder.
    """
    shown: list[str] = []
    for field in fields(TASKS[options["name"]]):
        value = options.get(field.name, field.default)
        if field.name == "T" or not _is_usual(field, value):
            shown.append(_shown(field.name, value, data))
    return f"{options['name']} {', '.join(shown)}".strip()


def _is_usual(field: Any, value: Any) -> bool:
    """Whether an option need not be shown: it is at its default, or concerns neither the data nor the metrics."""
    if TRAINING in field.metadata or DERIVED in field.metadata or field.name == "data_dir":
        return True
    default = None if field.default is MISSING else field.default
    return value == default or (isinstance(value, list | tuple) and tuple(value) == default)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _shown(name: str, value: Any, data: str | None) -> str:
    if name == "data" and data is not None:
        return data
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
        candidates = [each for each in candidates if math.isfinite(each)] or [math.nan]
        best = max(candidates) if task.maximize else min(candidates)
        results.append(Progress(record["step"], seconds.get(record["step"], 0.0), value, best))
    return results
