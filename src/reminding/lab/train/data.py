"""What was read of a user's own files: said on the terminal, and recorded beside config.json."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from reminding.disk.records import write_json
from reminding.lab.runs.checkpoint import DATA_NAME
from reminding.lab.show.terminal import doing, say
from reminding.lab.train.group import is_first
from reminding.tasks.data.reading import Reading


def reading_shown(task: Any) -> AbstractContextManager[None]:
    """Says on a terminal that a task's files are read; of several processes one says it."""
    return doing(f"reading the data of {task.name}") if is_first() else nullcontext()


def reading_of(task: Any) -> Reading | None:
    """What a task read of files of one's own, after a look at its held-out parts; None: it reads no such files.

    Raises:
        ValueError: a file cannot be read, or a part of it is too short; the message names it.
    """
    read = getattr(task, "reading", None)
    return None if read is None else read()


def tell_reading(reading: Reading | None) -> None:
    """Print what was read, if anything."""
    for line in () if reading is None else reading.lines():
        say(line)


def record_reading(reading: Reading, folder: Path) -> None:
    """Print what was read, and write it to data.json in the folder of a run."""
    tell_reading(reading)
    write_json(folder / DATA_NAME, reading.record(), ascii_only=False)
