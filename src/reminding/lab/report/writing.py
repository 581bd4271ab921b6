"""A report on runs and benchmarks: tables, curves, recalls, and the commands to repeat everything.

Shapes: T time, B batch, K recalled memories.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from reminding.checks import at_least
from reminding.disk.places import find_below, once
from reminding.disk.writing import make_folder
from reminding.lab.bench.measurement import RECORD_NAME
from reminding.lab.bench.report import SavedMeasurement, read
from reminding.lab.explain.excerpts import STREAM_STEPS, Excerpt, ExplainOptions, excerpts
from reminding.lab.explain.legend import legend_of
from reminding.lab.report.curves import learning_charts, length_charts, seed_charts
from reminding.lab.report.groups import Group, group
from reminding.lab.report.names import told_apart
from reminding.lab.report.opening import sentences, title_of
from reminding.lab.report.page import write_pages
from reminding.lab.report.readings import readings
from reminding.lab.report.sections import (
    Block,
    Chart,
    Lead,
    Lines,
    Picture,
    Section,
    figures_of,
    filled,
    tables_of,
)
from reminding.lab.report.tables import costs, environments, equal_cost, further_tests, methods, warnings
from reminding.lab.runs import checkpoint
from reminding.lab.runs.facts import check_own_data
from reminding.lab.runs.model import recalls_of
from reminding.lab.runs.records import Run, find_runs, read_runs
from reminding.lab.show.charts import growth_chart
from reminding.lab.show.escaping import for_file_name
from reminding.lab.show.growth import growth_curves
from reminding.lab.show.plots import recall_map
from reminding.lab.show.tables import Table, error_tables, metric_text

COLUMNS = ["run", "test", "best valid", "metric", "state", "model", "task"]


@dataclass(frozen=True)
class Report:
    """The sentences that a report opens with, its tables, its files, and what it lacks.

    Attributes:
        lacking: in sentences, such as what could not be drawn.
    """

    sentences: Sequence[str]
    tables: Sequence[Table]
    files: Sequence[Path]
    lacking: Sequence[str] = ()


def write_report(
    runs: Sequence[Path],
    out: Path,
    sequence: int = 0,
    *,
    title: str | None = None,
    remarks: Sequence[str] = (),
    tuning: Sequence[Table] = (),
) -> Report:
    """Write report.md, index.html and the figures of some runs, finished or not, and of benchmarks.

    Runs that differ in their seed alone share one line of the first table, with mean and deviation, and one curve,
    with a band from the worst to the best. A folder that `reminding bench` wrote adds its tables and its growth.

    Args:
        runs: folders of runs or benchmarks, or folders that hold them at any depth.
        out: folder for the report.
        sequence: number of the test sequence to draw, from 0.
        title: of the report; None: the names of its tasks.
        remarks: for the reader.
        tuning: tables of how the methods were tuned.

    Raises:
        FileNotFoundError: a folder neither is nor holds a run or a benchmark.
        ValueError: there are no runs, the sequence is out of range or asked for without a run of SAB, or no run can
            be read.
    """
    if not runs:
        raise ValueError("runs must be at least one folder, got none")
    at_least("sequence", sequence, 0)
    found = _read(runs)
    groups = group(told_apart(found.runs))
    if sequence and not any(run.model == "sab" for members in groups for run in members.runs):
        raise ValueError(f"sequence is of the recalls that are drawn, and no run is of SAB; got {sequence}")
    make_folder(out)
    recalls = draw_recalls(groups, out, sequence)
    title = title_of(groups, [folder.name for folder in found.benchmarks]) if title is None else title
    sections = [
        Section("", [Lead(sentences(groups)), Lines(remarks)]),
        Section("Left out", found.left_out()),
        *_about_runs(groups, out, recalls.blocks),
        Section("Tuning", list(tuning)),
        *_about_benchmarks(found.benchmarks, out),
        _how_it_was_made(groups, found.benchmarks),
    ]
    sections = [section for section in sections if any(map(filled, section.blocks))]
    files = write_pages(title, sections, out)
    return Report(sentences(groups), tables_of(sections), files, [*recalls.undrawn, *_lost_records(groups)])


@dataclass(frozen=True)
class _Found:
    """The runs and benchmarks at or below some paths, and the folders that cannot be read, each with the reason."""

    runs: Sequence[Run]
    benchmarks: Mapping[Path, SavedMeasurement]
    damaged: Mapping[Path, str]

    def left_out(self) -> list[Block]:
        """A table of the folders that cannot be read; no table if there are none."""
        rows = [[str(folder), reason] for folder, reason in self.damaged.items()]
        return [Table("Left out", ["folder", "reason"], rows)] if rows else []


def _read(paths: Sequence[Path]) -> _Found:
    runs, damaged = read_runs(find_runs(paths))
    for run in runs:
        try:
            errors_of(Group(run.task.setting, "", [run]))
        except ValueError as error:
            damaged[run.folder] = f"{run.folder / checkpoint.SUMMARY_NAME}: {error}"
    benchmarks: dict[Path, SavedMeasurement] = {}
    for folder in once(folder for path in paths for folder in find_below(path, RECORD_NAME)):
        try:
            measurement = read(folder)
        except (OSError, ValueError) as error:
            damaged[folder] = str(error)
        else:
            benchmarks |= {} if measurement is None else {folder: measurement}
    found = _Found([run for run in runs if run.folder not in damaged], benchmarks, damaged)
    known = [folder.resolve() for folder in (*(run.folder for run in runs), *benchmarks, *damaged)]
    for path in paths:
        if not any(folder.is_relative_to(path.resolve()) for folder in known):
            other = f", and {RECORD_NAME} is of no benchmark" if (path / RECORD_NAME).is_file() else ""
            raise FileNotFoundError(
                f"{path} is not a run and holds none: there is no {checkpoint.CONFIG_NAME}{other}"
            )
    if damaged and not found.runs and not benchmarks:
        raise ValueError(f"no run can be read: {'; '.join(damaged.values())}")
    return found


def _about_runs(groups: Sequence[Group], out: Path, recalls: Sequence[Block]) -> Iterator[Section]:
    if not groups:
        return
    members = [run for each in groups for run in each.runs]
    yield Section("Methods", [methods(groups), *seed_charts(groups, out)])
    yield Section("Errors", [table for each in groups for table in errors_of(each)])
    yield Section("Data", readings(groups))
    yield Section("Learning curves", learning_charts(groups, out))
    yield Section("At equal cost", equal_cost(groups))
    yield Section("Other lengths", [*further_tests(groups), *length_charts(groups, out)])
    yield Section("Time and memory", [costs(groups)])
    yield Section("Warnings", [*warnings(groups), Lines(_lost_records(groups))])
    yield Section("What was recalled", recalls)
    yield Section("Runs", [Table("Runs", COLUMNS, [summary_row(run) for run in members])])


def _lost_records(groups: Sequence[Group]) -> list[str]:
    """The runs whose curves lack what was recorded."""
    return [
        f"{run.name}: {lost} lines of its log are lost, so that curves and the best validation result may lack "
        f"something; `reminding check {run.folder}` says what can be done"
        for run in (run for each in groups for run in each.runs)
        if (lost := checkpoint.missing_lines(run.folder))
    ]


def errors_of(members: Group) -> list[Table]:
    """The errors by column or class of a method's first finished run."""
    run = next((each for each in members.runs if "errors" in each.summary), None)
    if run is None:
        return []
    return [replace(table, title=f"{table.title}: {run.name}") for table in error_tables(run.summary["errors"])]


def _about_benchmarks(benchmarks: Mapping[Path, SavedMeasurement], out: Path) -> Iterator[Section]:
    for number, (folder, saved) in enumerate(benchmarks.items(), 1):
        measurement = saved.measurement
        blocks: list[Block] = [Lines([measurement.common(), saved.machine])]
        if len(measurement.points) > 1:
            panels = [panel for panel in measurement.panels() if panel.lines]
            for place, panel in enumerate(panels):
                path = out / f"growth-{for_file_name(folder.name)}-{number}-{'ab'[place]}.png"
                growth_curves([panel], measurement.unit, measurement.common(), path)
                blocks.append(Chart(panel.ylabel, path, growth_chart(panel, measurement.unit)))
        blocks += measurement.tables()
        if missing := measurement.left_out():
            blocks.append(Lines([f"Not measured: {line}" for line in missing]))
        yield Section(f"One training step beside nn.LSTM: {folder.name}", blocks)


def _how_it_was_made(groups: Sequence[Group], benchmarks: Mapping[Path, SavedMeasurement]) -> Section:
    """The machines and versions behind the figures, and the commands that made them."""
    commands = [command for each in groups for run in each.runs for command in commands_of(run)]
    commands += [saved.command for saved in benchmarks.values()]
    about = [environments(groups)] if any(run.summary for each in groups for run in each.runs) else []
    return Section("Environment and commands", [*about, Lines(list(dict.fromkeys(commands)), typed=True)])


def summary_row(run: Run) -> list[str]:
    """The row of one run; results that an unfinished run lacks are shown as "-"."""
    return [
        run.name,
        _number(run.test),
        _number(run.valid[-1].best if run.valid else None),
        run.task.metric or "-",
        run.state,
        run.model,
        run.task.setting,
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else metric_text(value)


@dataclass(frozen=True)
class DrawnRecalls:
    """The figures of recalls, with a line in the place of each that could not be drawn; and these lines."""

    blocks: Sequence[Block]
    undrawn: Sequence[str]


def draw_recalls(groups: Sequence[Group], out: Path, sequence: int) -> DrawnRecalls:
    """One figure per method with SAB, of its first trained run: the recalls in one test sequence.

    Raises:
        ValueError: a sequence other than the first was asked for, and none could be drawn.
    """
    blocks: list[Block] = []
    undrawn: list[str] = []
    for members in groups:
        trained = [run for run in members.runs if (run.folder / checkpoint.WEIGHTS_NAME).exists()]
        if not trained or trained[0].model != "sab":
            continue
        folder, name = trained[0].folder, trained[0].name
        path = _unused(out / f"recall-{for_file_name(folder.name)}.png", figures_of([Section("", blocks)]))
        try:
            config, model = checkpoint.load_run(folder)
            check_own_data(config.task, folder, "data", "bring the file back as it was")
            excerpt = _test_sequence(config.task, model.layer, sequence)
            _draw_recall(config.task, model, excerpt, name, path)
        except Exception as error:  # a damaged file makes torch raise almost anything
            undrawn.append(f"{name} could not be drawn: {error}")
            blocks.append(Lines(undrawn[-1:]))
            continue
        explained = folder / "explain" / "index.html"
        link = (explained, f"The explanation of {name}") if explained.is_file() else None
        command = None if link else f"reminding explain {folder}"
        blocks.append(Picture(f"What {name} recalled", path, link, command))
    if sequence and undrawn and len(undrawn) == len(blocks):
        raise ValueError(f"sequence: {undrawn[0]}")
    return DrawnRecalls(blocks, undrawn)


def _test_sequence(task: Any, layer: Any, sequence: int) -> Excerpt:
    """A test sequence as `reminding explain` reads it; of a stream, a chunk more than its memories reach back."""
    reach = (layer.rule.capacity or 0) * layer.k_att if task.streamed else 0
    steps = min(task.chunk + reach, STREAM_STEPS) if task.streamed else None
    (found,) = excerpts(task, ExplainOptions(split="test", sequence=(sequence,), steps=steps))
    return found


def _draw_recall(task: Any, model: torch.nn.Module, excerpt: Excerpt, name: str, path: Path) -> None:
    with torch.no_grad():
        _, _, recall = model(excerpt.input)
    step, weight = recalls_of(recall)
    legend, read = legend_of(task), excerpt.input[:, 0].numpy()
    recall_map(
        step[:, 0],
        weight[:, 0],
        title=f"Recalls of {name}: {excerpt.name} of {task.name}",
        input=legend.shades(read, excerpt.padding, excerpt.absent),
        marks=legend.marks(read),
        times=() if excerpt.times is None else excerpt.times.labels(legend.unit),
        path=path,
    )


def _unused(path: Path, used: Sequence[Path]) -> Path:
    """A file name that no other run's figure has."""
    others = sum(other.stem.rpartition("_")[0] == path.stem or other == path for other in used)
    return path.with_stem(f"{path.stem}_{others + 1}") if others else path


def commands_of(run: Run) -> list[str]:
    """The commands that trained and tested a run."""
    trained = str(run.summary.get("command", f"unfinished: {run.folder}"))
    return [trained, *(str(record["command"]) for record in run.evaluations)]
