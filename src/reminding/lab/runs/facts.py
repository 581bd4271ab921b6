"""facts.json: what a run has learned from its training data, so that the run can be used without them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reminding.disk.errors import DamagedFileError, what_is_wrong
from reminding.disk.records import read_json, write_json
from reminding.tasks.data.fingerprint import check_unchanged, fingerprint

FACTS_NAME = "facts.json"
FACTS_VERSION = 1


def save_facts(folder: Path, task: Any, *, files: bool = True) -> None:
    """Write the facts of a task.

    Args:
        files: whether to read the task's files, and to write their fingerprints.

    Raises:
        ValueError: a fact is not finite.
    """
    content = {
        "format": FACTS_VERSION,
        "task": task.name,
        "facts": task.facts(),
        "files": {name: fingerprint(path) for name, path in task.files().items()} if files else {},
    }
    json.dumps(content, allow_nan=False)
    write_json(folder / FACTS_NAME, content)


def read_facts(folder: Path) -> dict[str, Any] | None:
    """The content of facts.json: "facts" and "files". None if there is none: version 0.1 wrote no such file.

    Raises:
        ValueError: it cannot be read; the message says why.
    """
    path = folder / FACTS_NAME
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        if content["format"] != FACTS_VERSION:
            raise ValueError(f"format {content['format']}, expected {FACTS_VERSION}")
        return {"facts": dict(content["facts"]), "files": dict(content["files"])}
    except DamagedFileError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {what_is_wrong(error)}") from error


def informed(task: Any, folder: Path) -> Any:
    """A task with the facts of its run.

    A run of version 0.1 has no facts.json; its facts are read from its training data.

    Raises:
        ValueError: facts.json cannot be read; or there is none, and the training data are missing or have changed.
    """
    saved = read_facts(folder)
    if saved is not None:
        return task.with_facts(saved["facts"])
    try:
        return task.with_facts(task.facts())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} has no {FACTS_NAME}, so that it cannot be used without its training data, and these cannot be "
            f"read: {error}"
        ) from error


def check_files(task: Any, saved: Mapping[str, Any], folder: Path, purpose: str, advice: str) -> None:
    """Refuse other data than a run's own: its files must be as they were at its start, or longer.

    Args:
        saved: what `read_facts` returned.
        purpose: the action that needs the data, which begins a message; advice: ends it.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file was changed, removed or added; the message names it.
    """
    recorded: Mapping[str, Any] = saved["files"]
    try:
        now: dict[str, Path] = task.files()
    except FileNotFoundError as error:  # of a pattern that matches none
        raise FileNotFoundError(f"{purpose}: {error}; {advice}") from error
    if now and not recorded:  # as where `save_portable` wrote the folder
        raise ValueError(f"{purpose}: {folder} was saved to be used without its training data; {advice}")
    lines = saved["facts"].get("vocabulary") is None
    for names, what in ((recorded.keys() - now.keys(), "lacks"), (now.keys() - recorded.keys(), "has gained")):
        if names:
            raise ValueError(f"{purpose}: the data of {folder} {what} {sorted(names)[0]}; {advice}")
    for name, path in now.items():
        try:
            check_unchanged(path, recorded[name], lines=lines)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{purpose}: {error}; {folder} was trained on it; {advice}") from error
        except ValueError as error:
            raise ValueError(f"{purpose}: {error} when {folder} was begun; {advice}") from error


def check_own_data(task: Any, folder: Path, purpose: str, advice: str) -> None:
    """`check_files` of a run that is used on its own data. A run of version 0.1 kept nothing to compare them with."""
    if (saved := read_facts(folder)) is not None:
        check_files(task, saved, folder, purpose, advice)
