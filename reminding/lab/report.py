"""A report on some runs: tables, their learning curves, and what the SAB runs were reminded of.

Shapes: T time, B batch, K recalled memories.
"""

from __future__ import annotations

import base64
import html
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reminding.lab import checkpoint
from reminding.lab.groups import Group, Run, find_runs, group, setting_name
from reminding.lab.plots import Curve, learning_curves, length_curves, recall_map
from reminding.lab.tables import Table, equal_cost, further_tests, lengths_of, methods

COLUMNS = ["run", "task", "model", "updates", "metric", "test", "best valid", "ms/update", "peak MB", "parameters"]


@dataclass(frozen=True)
class Report:
    """What was written: the tables, and the files."""

    tables: Sequence[Table]
    files: Sequence[Path]


def write_report(
    runs: Sequence[Path], out: Path, sequence: int = 0, *, title: str = "Report", remarks: Sequence[str] = ()
) -> Report:
    """Write report.md, index.html and the figures of some runs, finished or not.

    Runs that differ in their seed alone are one line of the first table, with mean and deviation, and one curve with
    a band from the worst to the best of them.

    Args:
        runs: folders of runs, or folders that hold runs at any depth.
        out: folder for the report.
        sequence: which test sequence to draw, from 0.
        title: of the report.
        remarks: what to know when reading it.

    Raises:
        FileNotFoundError: a folder is no run and holds none.
        ValueError: there are no runs, or the sequence is out of range.
    """
    if not runs:
        raise ValueError("runs: at least one folder is needed")
    if sequence < 0:
        raise ValueError(f"sequence must be at least 0, got {sequence}")
    groups = group(find_runs(runs))
    out.mkdir(parents=True, exist_ok=True)
    figures = draw_learning_curves(groups, out) + draw_tests(groups, out) + draw_recalls(groups, out, sequence)
    members = [run for each in groups for run in each.runs]
    tables = [methods(groups), *equal_cost(groups), *further_tests(groups)]
    tables.append(Table("Runs", COLUMNS, [summary_row(run) for run in members]))
    commands = [command for run in members for command in commands_of(run)]
    text = out / "report.md"
    text.write_text(_markdown(title, remarks, tables, [figure.name for figure in figures], commands))
    page = out / "index.html"
    page.write_text(_page(title, remarks, tables, figures, commands))
    return Report(tables, [page, text, *figures])


def summary_row(run: Run) -> list[str]:
    """One run in the table; what an unfinished run does not know yet is left open."""
    summary, task = run.summary, run.config.task
    peak = summary.get("peak_resident_bytes")
    return [
        run.folder.name,
        setting_name(task),
        run.config.model.model,
        str(run.updates),
        task.metric,
        _number(run.test, ".4f"),
        _number(summary.get(f"valid_{task.metric}"), ".4f"),
        _number(summary.get("ms_per_update"), ".0f"),
        _number(None if peak is None else peak / 1e6, ".0f"),
        _number(summary.get("parameters"), ","),
    ]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def draw_learning_curves(groups: Sequence[Group], out: Path) -> list[Path]:
    """One figure a setting: the main metric on the validation split against updates, with a band over the seeds."""
    files: list[Path] = []
    for name in dict.fromkeys(each.setting for each in groups):
        members = [each for each in groups if each.setting == name]
        task = members[0].task
        curves = [mean_curve(each) for each in members]
        path = out / f"curves-{file_name(name, groups)}.png"
        learning_curves(curves, f"{task.metric}, validation", name, path, _chance(task))
        files.append(path)
    return files


def mean_curve(members: Group) -> Curve:
    """Mean, least and greatest over the seeds that were evaluated at each number of updates.

    A run that was stopped by its target keeps what it had then.
    """
    found = [{each.step: each.value for each in run.valid} for run in members.runs]
    longest = max(found, key=len)
    for run, values_of in zip(members.runs, found, strict=True):
        if values_of and run.summary.get("stopped") == "target":  # it has what was asked, and would only have kept it
            last = max(values_of)
            values_of.update({step: values_of[last] for step in longest if step > last})
    values = [[each[step] for each in found if step in each] for step in longest]
    several = len(members.runs) > 1
    label = f"{members.method} ({len(members.runs)} seeds)" if several else members.method
    means = [statistics.fmean(each) for each in values]
    return Curve(label, list(longest), means, [(min(each), max(each)) for each in values] if several else None)


def file_name(setting: str, groups: Sequence[Group]) -> str:
    """A setting as part of a file's name: the task alone where all runs of that task have the same sizes."""
    task = setting.split()[0]
    if {each.setting for each in groups if each.task.name == task} == {setting}:
        return task
    return re.sub(r"[^A-Za-z0-9.]+", "-", setting).strip("-")


def draw_tests(groups: Sequence[Group], out: Path) -> list[Path]:
    """One figure a task with a length T: the main metric of trained models at lengths other than in training."""
    files: list[Path] = []
    for name in dict.fromkeys(each.setting for each in groups):
        members = [each for each in groups if each.setting == name]
        curves = [(each.method, lengths_of(each)) for each in members]
        curves = [(method, lengths) for method, lengths in curves if len(lengths) > 1]
        if curves:
            path = out / f"lengths-{file_name(name, groups)}.png"
            lines = [Curve(method, list(lengths), list(lengths.values())) for method, lengths in curves]
            metric, chance = members[0].task.metric, _chance(members[0].task)
            length_curves(lines, metric, f"trained on {name}", path, chance)
            files.append(path)
    return files


def _chance(task: Any) -> tuple[float, str] | None:
    """What is reached without looking at the input, where that is known."""
    if task.name == "copying":
        return 1 / task.alphabet, "chance"
    if task.metric == "accuracy":
        return 1 / task.output_size, "chance"
    return (1 / 6, "always predicting the mean") if task.name == "adding" else None


def draw_recalls(groups: Sequence[Group], out: Path, sequence: int) -> list[Path]:
    """One figure a method, of its first trained SAB run: which earlier step each step of a test sequence recalled."""
    files: list[Path] = []
    for members in groups:
        trained = [run for run in members.runs if (run.folder / checkpoint.WEIGHTS_NAME).exists()]
        if not trained or members.runs[0].config.model.model != "sab":
            continue
        folder, config = trained[0].folder, trained[0].config
        _, model = checkpoint.load_run(folder)
        limit = None if config.task.streamed else sequence + 1
        batch = next(iter(config.task.eval_batches("test", sequence + 1, limit)))
        if batch.input.shape[1] <= sequence:
            raise ValueError(f"sequence must be below {batch.input.shape[1]}, got {sequence}")
        tokens = batch.input[:, sequence : sequence + 1]
        with torch.no_grad():
            _, _, recall = model(tokens)
        top = recall if recall.step.dim() == 3 else type(recall)(recall.summary, recall.step[-1], recall.weight[-1])
        shown = tokens[:, 0] if tokens.dim() == 2 else tokens[:, 0, 0]
        path = _free(out / f"recall-{folder.name}.png", files)
        recall_map(
            top.step[:, 0],
            top.weight[:, 0],
            title=f"What {folder.name} was reminded of: test sequence {sequence} of {config.task.name}",
            input=shown,
            marks=[str(int(token)) if token else "" for token in shown] if tokens.dim() == 2 else None,
            path=path,
        )
        files.append(path)
    return files


def _free(path: Path, taken: Sequence[Path]) -> Path:
    """A name for the figure that no other run's has."""
    others = sum(other.stem.rpartition("_")[0] == path.stem or other == path for other in taken)
    return path.with_stem(f"{path.stem}_{others + 1}") if others else path


def commands_of(run: Run) -> list[str]:
    """What was typed to train and test a run."""
    trained = str(run.summary.get("command", f"unfinished: {run.folder}"))
    return [trained, *(str(record["command"]) for record in run.evaluations)]


def _markdown(
    title: str, remarks: Sequence[str], tables: Sequence[Table], figures: Sequence[str], commands: Sequence[str]
) -> str:
    lines = [f"# {title}", "", *(f"- {remark}" for remark in remarks), *([""] if remarks else [])]
    lines += [table.markdown() for table in tables]
    lines += [f"![{name}]({name})" for name in figures]
    return "\n".join([*lines, "", "## Commands", "", *(f"    {command}" for command in commands), ""])


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ccc; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; height: auto; background: white; }
pre { white-space: pre-wrap; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #e8e8e8; } }
"""


def _page(
    title: str, remarks: Sequence[str], tables: Sequence[Table], figures: Sequence[Path], commands: Sequence[str]
) -> str:
    """The report as one self-contained page."""
    images = "".join(
        f'<h2>{html.escape(figure.stem)}</h2><img alt="{html.escape(figure.stem)}" '
        f'src="data:image/png;base64,{base64.b64encode(figure.read_bytes()).decode()}">'
        for figure in figures
    )
    name, typed = html.escape(title), html.escape("\n".join(commands))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>reminding: {name}</title>'
        f"<style>{STYLE}</style><h1>{name}</h1>{_list(remarks)}{''.join(map(_table, tables))}"
        f"{images}<h2>Commands</h2><pre>{typed}</pre></html>\n"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return (
        f'<h2>{html.escape(table.title)}</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{_list(table.notes)}"
    )


def _list(notes: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return f"<ul>{items}</ul>" if items else ""
