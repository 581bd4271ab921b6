"""A run's files compared with their checksums and with each other, and what can be done with the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from reminding.disk.commits import Commits
from reminding.disk.lock import holder
from reminding.disk.records import read_json, read_lines
from reminding.disk.writing import check_name, is_leftover
from reminding.lab.runs import checkpoint
from reminding.lab.runs.checkpoint import DATA_NAME, WEIGHTS_NAME
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.facts import FACTS_NAME, informed, read_facts
from reminding.lab.runs.model import SequenceModel
from reminding.lab.runs.runlog import LOG_NAME, damaged_lines
from reminding.nn.state.storage import load_tensors


@dataclass(frozen=True)
class CheckedFile:
    """One file of a run.

    Attributes:
        name: its path in the run's folder; problem: what is wrong with it, "" if nothing is.
    """

    name: str
    problem: str = ""


@dataclass(frozen=True)
class RunCheck:
    """The files of a run, and what can be done with it.

    Attributes:
        files: those that there are.
        findings: in sentences; the last one says what can be done.
    """

    files: list[CheckedFile]
    findings: list[str]

    @property
    def damaged(self) -> list[CheckedFile]:
        """The files that are not as they were written."""
        return [file for file in self.files if file.problem]


def check_run(folder: Path) -> RunCheck:
    """Read every file of a run, and change nothing.

    Raises:
        FileNotFoundError: the folder is not a run.
        ValueError: its name is no UTF-8 text.
    """
    check_name(folder)
    if not (folder / checkpoint.CONFIG_NAME).is_file():
        raise FileNotFoundError(f"{folder} is not a run: it has no {checkpoint.CONFIG_NAME}")
    files = [*_records(folder), *_weights(folder), *_checkpoints(folder)]
    if any(file.name.startswith(checkpoint.CHECKPOINTS_NAME) for file in files):
        there = {file.name for file in files}
        files += [CheckedFile(name, "it is missing") for name in (WEIGHTS_NAME, LOG_NAME) if name not in there]
    return RunCheck(files, [*_circumstances(folder), *_findings(folder, files), _advice(folder, files)])


def _problem(path: Path, read: Callable[[], Any]) -> str:
    """What an attempt to read a file says is wrong with it."""
    try:
        read()
    except (ValueError, OSError, ImportError) as error:
        return _told(path, error)
    return ""


def _told(path: Path, error: Exception) -> str:
    return str(error).removeprefix(f"{path} is damaged: ")


def _records(folder: Path) -> Iterator[CheckedFile]:
    """The files of JSON."""
    readers: dict[str, Callable[[], Any]] = {
        checkpoint.CONFIG_NAME: lambda: _try_options(folder),
        FACTS_NAME: lambda: read_facts(folder),
        DATA_NAME: lambda: read_json(folder / DATA_NAME),
        checkpoint.SUMMARY_NAME: lambda: read_json(folder / checkpoint.SUMMARY_NAME),
    }
    for name, read in readers.items():
        if (folder / name).is_file():
            yield CheckedFile(name, _problem(folder / name, read))
    for name, damaged, missing in (
        (LOG_NAME, damaged_lines(folder), checkpoint.missing_lines(folder)),
        (checkpoint.EVALUATIONS_NAME, read_lines(folder / checkpoint.EVALUATIONS_NAME).damaged, 0),
    ):
        if (folder / name).is_file():
            lines = "line" if len(damaged) == 1 else "lines"
            problems = [f"{lines} {', '.join(map(str, damaged))} cannot be read"] if damaged else []
            problems += [f"{missing} lines are missing that the last checkpoint counts"] if missing else []
            yield CheckedFile(name, "; ".join(problems))


def _try_options(folder: Path) -> None:
    """Read the options, and make the network they describe if facts.json tells what it needs to know of the data."""
    config = RunConfig.load(folder / checkpoint.CONFIG_NAME, facts=False)
    if (folder / FACTS_NAME).is_file() and not _problem(folder / FACTS_NAME, lambda: read_facts(folder)):
        _network(replace(config, task=informed(config.task, folder)))


def _network(config: RunConfig) -> SequenceModel:
    return SequenceModel(config.task, config.model)


def _weights(folder: Path) -> Iterator[CheckedFile]:
    """The weights of model.safetensors, which must also fit config.json if that can be read."""
    path = folder / WEIGHTS_NAME
    if not path.is_file():
        return
    problem = _problem(path, lambda: load_tensors(path))
    if not problem and not _problem(path, lambda: _network(RunConfig.load(folder / checkpoint.CONFIG_NAME))):
        problem = _problem(path, lambda: checkpoint.load_run(folder))
    yield CheckedFile(WEIGHTS_NAME, problem)


def _checkpoints(folder: Path) -> Iterator[CheckedFile]:
    commits = Commits(folder / checkpoint.CHECKPOINTS_NAME)
    for number in commits.numbers():
        wrong = commits.check(number)
        place = f"{checkpoint.CHECKPOINTS_NAME}/{number}"
        if not wrong:
            yield CheckedFile(place)
        for error in wrong:
            yield CheckedFile(f"{place}/{error.path.name}", _told(error.path, error))
    old = folder / checkpoint.OLD_CHECKPOINT_NAME
    if old.is_file():
        yield CheckedFile(old.name, _problem(old, lambda: _read_old(old)))


def _read_old(path: Path) -> None:
    """Try to read a checkpoint of version 0.1, which has no checksums."""
    try:
        torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise ValueError(f"it cannot be read: {str(error).splitlines()[0]}") from error


def _circumstances(folder: Path) -> Iterator[str]:
    if (process := holder(folder)) is not None:
        yield f"The run is in use by {process}, so its files may change while they are read."
    places = (folder, folder / checkpoint.CHECKPOINTS_NAME)
    left = [path for place in places if place.is_dir() for path in place.iterdir() if is_leftover(path)]
    if left:
        yield f"{len(left)} unfinished files of killed processes are left; --resume removes them."


def _findings(folder: Path, files: list[CheckedFile]) -> Iterator[str]:
    """What is lost with each damaged file."""
    lost = {
        checkpoint.CONFIG_NAME: "its options are lost: the run cannot be used unless you restore the file.",
        FACTS_NAME: "without it the run needs its training data: delete the file, and they are read again.",
        DATA_NAME: "only the record of what was read of your files is lost; --resume writes it again.",
        checkpoint.SUMMARY_NAME: "the results of the test are lost; --resume tests again.",
        LOG_NAME: "these records are lost; --resume keeps the others.",
        checkpoint.EVALUATIONS_NAME: "these further tests are lost; `reminding eval` makes them again.",
    }
    for file in files:
        if file.problem and file.name in lost:
            yield f"{file.name}: {lost[file.name]}"
    weights = next((file for file in files if file.name == WEIGHTS_NAME), None)
    if weights is not None and weights.problem:
        copied = any(file.name.startswith(checkpoint.CHECKPOINTS_NAME) and not file.problem for file in files)
        yield f"{weights.name}: {'--resume restores it from a checkpoint.' if copied else 'the weights are lost.'}"
    elif weights is not None and (told := _other_step(folder)):
        yield told


def _other_step(folder: Path) -> str:
    """Whether the summary is of other weights than those that are there, as after a run that went on was killed."""
    if _problem(folder, lambda: checkpoint.read_summary(folder)):
        return ""
    tested = checkpoint.read_summary(folder).get("best_step")
    step = checkpoint.weights_step(folder)
    if tested is None or step is None or tested == step:
        return ""
    return (
        f"summary.json is of the weights of update {tested}, {WEIGHTS_NAME} of update {step}; --resume tests again."
    )


def _has_finished(folder: Path) -> bool:
    """Whether a run, whose summary is whole if it has one, has come to its end."""
    summary = checkpoint.read_summary(folder)
    return bool(summary) and summary.get("stopped") not in checkpoint.UNTESTED


def _advice(folder: Path, files: list[CheckedFile]) -> str:
    """What can be done with the run."""
    state = {file.name: file.problem for file in files}
    if state.get(checkpoint.CONFIG_NAME) or state.get(FACTS_NAME):
        return "The run cannot be resumed as it is."
    commits = Commits(folder / checkpoint.CHECKPOINTS_NAME)
    whole = [number for number in commits.numbers() if f"{checkpoint.CHECKPOINTS_NAME}/{number}" in state]
    if whole:
        newest = commits.numbers()[0]
        lost = "" if whole[0] == newest else f"; the updates from there to {newest} are lost, and will be made again"
        done = "The run has finished. " if not any(state.values()) and _has_finished(folder) else ""
        return f"{done}It can go on from update {whole[0]}{lost}."
    if not commits.numbers() and state.get(checkpoint.OLD_CHECKPOINT_NAME) == "":
        return "It is of version 0.1, and can go on from its checkpoint, which has no checksums."
    if WEIGHTS_NAME in state and not state[WEIGHTS_NAME]:
        return "It has no whole checkpoint and cannot go on, but its weights can be used."
    return "It has no whole checkpoint, so that --overwrite must begin it anew."
