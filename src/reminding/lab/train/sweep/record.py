"""The record of a sweep beside its runs: sweep.json, from which a report is made without the storage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from reminding.disk.errors import DamagedFileError, what_is_wrong
from reminding.disk.records import read_json, write_json
from reminding.lab.train.sweep.attempts import Attempt, State
from reminding.lab.train.sweep.space import Dimension, Space

RECORD_NAME = "sweep.json"
TRIALS_NAME = "trials"
FORMAT_VERSION = 1
STATES: dict[State, str] = {
    "complete": "complete",
    "pruned": "pruned",
    "failed": "failed",
    "running": "running",
    "void": "given back and run again",
}
"""State of an attempt -> how it is told."""


@dataclass(frozen=True)
class SweepRecord:
    """What a sweep searches, and all attempts at its trials so far.

    Args:
        name: of the study.
        storage: its address, without a password.
        task: the name of the task; model: the kind of network; metric: the result of a trial, on validation data.
        maximize: whether a larger result is better.
        space: the options that are searched.
        trials: the number of trials that the sweep shall have.
        command: that was typed.
        attempts: at the trials.
    """

    name: str
    storage: str
    task: str
    model: str
    metric: str
    maximize: bool
    space: Space
    trials: int
    command: str
    attempts: Sequence[Attempt]

    def counted(self) -> str:
        """How many attempts are in each state, for a reader."""
        states = [each.state for each in self.attempts]
        return ", ".join(f"{states.count(state)} {told}" for state, told in STATES.items() if state in states)

    def ranked(self) -> list[Attempt]:
        """The complete trials, the best first."""
        done = [each for each in self.attempts if each.state == "complete" and each.value is not None]
        return sorted(done, key=lambda each: -_number(each) if self.maximize else _number(each))

    def check_holds(self, earlier: SweepRecord, folder: Path) -> None:
        """Refuse a study that has no attempt of those in the folder's sweep.json: it is another, of the same address.

        Raises:
            ValueError: names the storage.
        """
        known = {(each.number, each.job, each.worker) for each in self.attempts}
        if earlier.attempts and not any((each.number, each.job, each.worker) in known for each in earlier.attempts):
            told = f"{self.storage} has none of the attempts in its {RECORD_NAME}"
            raise ValueError(f"out: {folder} holds another sweep (storage: {told}); choose another folder")

    def save(self, folder: Path) -> None:
        """Write sweep.json; workers that share the folder replace each other's."""
        content = {
            **{name: getattr(self, name) for name in ("name", "storage", "task", "model", "metric", "maximize")},
            **{"format": FORMAT_VERSION, "trials": self.trials, "command": self.command},
            "space": self.space.record(),
            "attempts": [_plain(each) for each in self.attempts],
        }
        write_json(folder / RECORD_NAME, content)

    @staticmethod
    def load(folder: Path) -> SweepRecord:
        """Read sweep.json.

        Raises:
            ValueError: it is damaged, or of another version.
        """
        path = folder / RECORD_NAME
        try:
            content = read_json(path)
            if (version := content.pop("format")) != FORMAT_VERSION:
                raise ValueError(f"format {version}, expected {FORMAT_VERSION}")
            space = Space([Dimension.of_record(name, each) for name, each in content.pop("space").items()])
            attempts = [_attempt(each) for each in content.pop("attempts")]
            return SweepRecord(**content, space=space, attempts=attempts)
        except DamagedFileError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} cannot be read: {what_is_wrong(error)}") from error


def check_folder(folder: Path, name: str, storage: str) -> None:
    """Refuse the folder of another sweep, of another study or storage: its sweep.json would be replaced.

    Workers may see one storage under several addresses: a file by several paths, a database on several hosts. So only
    what differs for certain counts, and a sweep.json that cannot be read counts as none.

    Args:
        storage: the address, without a password.

    Raises:
        ValueError: names what differs.
    """
    try:
        found = read_json(folder / RECORD_NAME)
    except (DamagedFileError, OSError):
        return
    before, there = found.get("name"), found.get("storage")
    differing: list[str] = []
    if isinstance(before, str) and before != name:
        differing.append(f"study: {before} there, {name} here")
    if isinstance(there, str) and not _may_be_same(there, storage):
        differing.append(f"storage: {there} there, {storage} here")
    if differing:
        raise ValueError(f"out: {folder} holds another sweep ({'; '.join(differing)}); choose another folder")


def _may_be_same(one: str, other: str) -> bool:
    """Whether two addresses may be those of one storage."""
    if _kind(one) != _kind(other):
        return False
    files = [Path(each.removeprefix("sqlite:///").partition("?")[0]) for each in (one, other)]
    if _kind(one) in ("", "sqlite") and files[0].exists():
        return files[1].exists() and files[0].samefile(files[1])
    return files[0].name == files[1].name


def _kind(storage: str) -> str:
    """The kind of a database, such as postgresql; of a journal file none."""
    kind, address, _ = storage.partition("://")
    return kind.partition("+")[0].replace("postgresql", "postgres") if address else ""


def _number(attempt: Attempt) -> float:
    return math.nan if attempt.value is None else attempt.value


def _plain(attempt: Attempt) -> dict[str, Any]:
    times = {name: getattr(attempt, name) for name in ("began", "ended")}
    return {
        **{name: getattr(attempt, name) for name in ("number", "job", "state", "worker", "value", "notes")},
        "params": dict(attempt.params),
        "intermediate": sorted(attempt.intermediate.items()),
        **{name: None if value is None else value.isoformat() for name, value in times.items()},
    }


def _attempt(content: dict[str, Any]) -> Attempt:
    times = {name: content.pop(name) for name in ("began", "ended")}
    read: dict[str, Any] = {name: value and datetime.fromisoformat(value) for name, value in times.items()}
    return Attempt(intermediate=dict(content.pop("intermediate")), **content, **read)
