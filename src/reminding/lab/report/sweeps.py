"""A report on a sweep: its best trials, and what each option did to the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reminding.disk.writing import make_folder
from reminding.lab.report.page import write_pages
from reminding.lab.report.sections import Block, Chart, Lines, Section, tables_of
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig, command
from reminding.lab.show.tables import Table
from reminding.lab.train.sweep.attempts import Attempt
from reminding.lab.train.sweep.pictures import draw
from reminding.lab.train.sweep.record import RECORD_NAME, STATES, SweepRecord
from reminding.lab.train.sweep.sweep import trial_folder

BEST = 10
"""Trials in the first table."""


def is_sweep(folder: Path) -> bool:
    """Whether a folder is that of a sweep."""
    return (folder / RECORD_NAME).is_file()


def write_sweep(folder: Path, out: Path) -> tuple[list[Table], list[Path]]:
    """Write report.md, index.html and the figures of a sweep, finished or not, from its sweep.json.

    Args:
        folder: of the sweep.
        out: folder for the report.

    Returns:
        the tables, and the files.

    Raises:
        ValueError: sweep.json is damaged.
    """
    record = SweepRecord.load(folder)
    make_folder(out)
    charts = [Chart(each.title, each.figure, each.chart) for each in draw(record, out)]
    sections = [
        Section("", [Lines(_about(record))]),
        Section("Best trials", _best(record)),
        Section("Figures", charts),
        Section("Trials", [_trials(record)]),
        Section("Commands", [Lines(_commands(record, folder), typed=True)]),
    ]
    sections = [section for section in sections if section.blocks]
    return tables_of(sections), write_pages(f"Sweep {record.name}", sections, out)


def _about(record: SweepRecord) -> list[str]:
    workers = {each.worker for each in record.attempts if each.settled}
    searched = ", ".join(each.name for each in record.space.dimensions)
    return [
        f"{record.model} on {record.task}, {record.trials} trials over {searched}; attempts: {record.counted()}.",
        f"The result of a trial is its best valid {record.metric}, and "
        f"{'larger' if record.maximize else 'smaller'} is better.",
        f"Workers: {len(workers)}, with the storage {record.storage}.",
    ]


def _best(record: SweepRecord) -> list[Block]:
    ranked = record.ranked()[:BEST]
    names = [each.name for each in record.space.dimensions]
    rows = [
        [
            each.job,
            _cell(each.value),
            *(_cell(each.params.get(name)) for name in names),
            _cell(each.notes.get("test")),
        ]
        for each in ranked
    ]
    columns = ["trial", f"valid {record.metric}", *names, f"test {record.metric}"]
    return [Table("Best trials", columns, rows)] if rows else []


def _trials(record: SweepRecord) -> Table:
    rows = [
        [
            each.job,
            STATES[each.state],
            _cell(each.value),
            _cell(each.notes.get("steps")),
            "-" if each.seconds is None else f"{each.seconds:.0f}",
            each.worker,
            _remark(each),
        ]
        for each in record.attempts
    ]
    columns = ["trial", "state", f"valid {record.metric}", "updates", "seconds", "worker", "remark"]
    return Table("Trials", columns, rows)


def _remark(attempt: Attempt) -> str:
    return str(attempt.notes.get("error") or attempt.notes.get("ended") or "")


def _commands(record: SweepRecord, folder: Path) -> list[str]:
    """The command of the sweep, and that of its best trial as a run of its own."""
    commands = [record.command]
    best = next(iter(record.ranked()), None)
    config = None if best is None else trial_folder(folder, best.job) / checkpoint.CONFIG_NAME
    if config is not None and config.is_file():  # it may lie on another machine
        commands.append(" ".join(["reminding", *command(RunConfig.load(config))]))
    return commands


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
