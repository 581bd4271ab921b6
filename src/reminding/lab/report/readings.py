"""What was read of the users' files: their form, columns with scale, missing values, times, classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reminding.lab.report.groups import Group, settings_of
from reminding.lab.report.sections import Block, Lines
from reminding.lab.runs.facts import read_facts
from reminding.lab.show.tables import Table
from reminding.tasks.data.reading import Column, Reading
from reminding.tasks.kinds.facts import DATA

COLUMNS = ["column", "use", "kind", "unit", "missing", "mean", "deviation"]
MOST_COLUMNS = 40
"""Columns that a table lists; facts.json has all."""


def readings(groups: Sequence[Group]) -> list[Block]:
    """What was read of the files of each setting, from the facts of its first run that has them."""
    blocks: list[Block] = []
    for members in settings_of(groups).values():
        for run in (run for each in members for run in each.runs):
            if found := _of_run(run.folder, run.task.title):
                blocks += found
                break
    return blocks


def _of_run(folder: Path, title: str) -> list[Block]:
    try:
        saved = read_facts(folder)
        facts: Mapping[str, Any] = {} if saved is None else saved["facts"]
        if "reading" not in facts.get(DATA, {}):
            return []
        reading = Reading.load(facts[DATA]["reading"])
        table = [_columns(reading, facts, title)] if reading.columns else []
        return [Lines(reading.lines()), *table]
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        return [Lines([f"What {folder.name} read is not known: {error}"])]


def _columns(reading: Reading, facts: Mapping[str, Any], title: str) -> Table:
    """The columns of a table; mean and deviation are those of the training rows."""
    scale = dict(zip(facts["columns"], zip(facts["mean"], facts["deviation"], strict=True), strict=True))
    shown = sorted(reading.columns, key=lambda column: column.role == "ignored")
    rows = [_row(column, scale.get(column.name)) for column in shown[:MOST_COLUMNS]]
    notes = ["Mean and deviation are those of the training rows."]
    if len(shown) > MOST_COLUMNS:
        notes.append(f"{len(shown) - MOST_COLUMNS:,} more columns are in facts.json.")
    return Table(f"Columns of {title}", COLUMNS, rows, notes)


def _row(column: Column, scale: tuple[float, float] | None) -> list[str]:
    use = f"{column.role}: {column.reason}" if column.reason else column.role
    numbers = ["-", "-"] if scale is None else [f"{value:.4g}" for value in scale]
    return [column.name, use, column.kind, column.unit or "-", f"{column.missing:,}", *numbers]
