"""Names by which a report tells runs, methods and data apart."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reminding.lab.runs.facts import read_facts
from reminding.lab.runs.records import Run, with_data_named

TOLD = 3
"""Options that a name tells; of more it tells the number."""
_NONE = object()


def tails(paths: Iterable[Path]) -> dict[Path, str]:
    """The last parts of each path, as few as tell it from the others."""
    parts = {path: Path(os.path.abspath(path)).parts for path in paths}
    different = set(parts.values())
    return {path: _tail(own, different - {own}) for path, own in parts.items()}


def _tail(own: tuple[str, ...], others: set[tuple[str, ...]]) -> str:
    count = next((n for n in range(1, len(own)) if all(own[-n:] != each[-n:] for each in others)), len(own))
    return Path(*own[-count:]).as_posix()


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """Runs with names of their own. Tasks on different data of one name have settings and titles of their own."""
    names = tails(run.folder for run in runs)
    by_setting: dict[str, list[Run]] = {}
    for run in runs:
        by_setting.setdefault(run.task.setting, []).append(run)
    data = {run.folder: name for members in by_setting.values() for run, name in _data_apart(members)}
    renamed = (replace(run, name=names[run.folder]) for run in runs)
    return [with_data_named(run, data[run.folder]) if run.folder in data else run for run in renamed]


def _data_apart(runs: Sequence[Run]) -> list[tuple[Run, str]]:
    """The runs of one setting with the names of their data, where these are different; else none."""
    read = [
        (run, Path(str(path)), _content_of(run, str(path))) for run in runs if (path := run.options.get("task.data"))
    ]
    places: dict[str, Path] = {}
    for _, path, content in read:
        places.setdefault(content, path)  # a copy in another place has the name of the first
    names = tails(places.values())
    return [(run, names[places[content]]) for run, _, content in read] if len(set(places.values())) > 1 else []


def _content_of(run: Run, path: str) -> str:
    """The fingerprints of a run's files; their place, if they are not recorded."""
    try:
        saved = read_facts(run.folder)
    except ValueError:
        saved = None
    return str(sorted(saved["files"].items())) if saved and saved["files"] else path


def differing(options: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is different in each of several sets of options, such as "lr 0.01, cell gru"."""
    names = dict.fromkeys(name for each in options for name in each)
    different = [
        name for name in names if any(each.get(name, _NONE) != options[0].get(name, _NONE) for each in options)
    ]
    more = f" and {len(different) - TOLD} more options" if len(different) > TOLD else ""
    return [
        ", ".join(f"{name.partition('.')[2]} {each.get(name)}" for name in different[:TOLD]) + more
        for each in options
    ]
