"""A report on some runs: one table, their learning curves, and what the SAB runs were reminded of.

Shapes: T time, B batch, K recalled memories.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reminding.lab import checkpoint
from reminding.lab.config import RunConfig, plain
from reminding.lab.plots import Curve, learning_curves, recall_map
from reminding.lab.runlog import read_log

COLUMNS = ["run", "task", "model", "updates", "metric", "test", "best valid", "ms/update", "peak MB", "parameters"]


@dataclass(frozen=True)
class Report:
    """What was written: the table, and the files."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    files: Sequence[Path]


def write_report(runs: Sequence[Path], out: Path, sequence: int = 0) -> Report:
    """Write report.md, index.html and the figures of some runs, finished or not.

    Args:
        runs: folders of runs.
        out: folder for the report.
        sequence: which test sequence to draw, from 0.

    Raises:
        FileNotFoundError: a folder is no run.
        ValueError: there are no runs, or the sequence is out of range.
    """
    if not runs:
        raise ValueError("runs: at least one folder is needed")
    if sequence < 0:
        raise ValueError(f"sequence must be at least 0, got {sequence}")
    configs = {folder: RunConfig.load(folder / checkpoint.CONFIG_NAME) for folder in runs}
    out.mkdir(parents=True, exist_ok=True)
    figures = draw_learning_curves(configs, out) + draw_recalls(configs, out, sequence)
    rows = [summary_row(folder, config) for folder, config in configs.items()]
    text = out / "report.md"
    text.write_text(_markdown(rows, [figure.name for figure in figures], runs))
    page = out / "index.html"
    page.write_text(_page(rows, figures, runs))
    return Report(COLUMNS, rows, [page, text, *figures])


def summary_row(folder: Path, config: RunConfig) -> list[str]:
    """One run in the table; what an unfinished run does not know yet is left open."""
    summary = checkpoint.read_summary(folder)
    task = config.task
    numbers = ", ".join(f"{name}={value}" for name, value in plain(task).items() if isinstance(value, int))
    last = max((record["step"] for record in read_log(folder)), default=0)
    peak = summary.get("peak_resident_bytes")
    return [
        folder.name,
        f"{task.name} {numbers}".strip(),
        config.model.model,
        str(summary.get("steps", last)),
        task.metric,
        _number(summary.get(task.metric), ".4f"),
        _number(summary.get(f"valid_{task.metric}"), ".4f"),
        _number(summary.get("ms_per_update"), ".0f"),
        _number(None if peak is None else peak / 1e6, ".0f"),
        _number(summary.get("parameters"), ","),
    ]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def draw_learning_curves(configs: dict[Path, RunConfig], out: Path) -> list[Path]:
    """One figure a task: the main metric on the validation split against updates."""
    files: list[Path] = []
    for name in dict.fromkeys(config.task.name for config in configs.values()):
        members = {folder: config for folder, config in configs.items() if config.task.name == name}
        task = next(iter(members.values())).task
        curves = [_curve(folder, config) for folder, config in members.items()]
        path = out / f"curves-{name}.png"
        learning_curves(curves, f"{task.metric}, validation", name, path, _chance(task))
        files.append(path)
    return files


def _curve(folder: Path, config: RunConfig) -> Curve:
    records = [record for record in read_log(folder) if record["kind"] == "valid"]
    label = f"{config.model.model} ({folder.name})"
    return Curve(label, [record["step"] for record in records], [record[config.task.metric] for record in records])


def _chance(task: Any) -> tuple[float, str] | None:
    """What is reached without looking at the input, where that is known."""
    if task.name == "copying":
        return 1 / task.alphabet, "chance"
    if task.metric == "accuracy":
        return 1 / task.output_size, "chance"
    return (1 / 6, "always predicting the mean") if task.name == "adding" else None


def draw_recalls(configs: dict[Path, RunConfig], out: Path, sequence: int) -> list[Path]:
    """One figure a trained SAB run: which earlier step each step of a test sequence recalled."""
    files: list[Path] = []
    for folder, config in configs.items():
        if config.model.model != "sab" or not (folder / checkpoint.WEIGHTS_NAME).exists():
            continue
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
        path = out / f"recall-{folder.name}.png"
        recall_map(
            top.step[:, 0].numpy(),
            top.weight[:, 0].double().numpy(),
            path,
            title=f"What {folder.name} was reminded of: test sequence {sequence} of {config.task.name}",
            strip=shown.double().numpy(),
            marks=[str(int(token)) if token else "" for token in shown] if tokens.dim() == 2 else [""] * len(shown),
        )
        files.append(path)
    return files


def _markdown(rows: Sequence[Sequence[str]], figures: Sequence[str], runs: Sequence[Path]) -> str:
    lines = ["# Report", "", f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", "Commands:", ""]
    lines += [f"    {_command(folder)}" for folder in runs]
    return "\n".join([*lines, "", *(f"![{name}]({name})" for name in figures), ""])


def _command(folder: Path) -> str:
    return str(checkpoint.read_summary(folder).get("command", f"unfinished: {folder}"))


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


def _page(rows: Sequence[Sequence[str]], figures: Sequence[Path], runs: Sequence[Path]) -> str:
    """The report as one self-contained page."""
    head = "".join(f"<th>{html.escape(column)}</th>" for column in COLUMNS)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    commands = "\n".join(_command(folder) for folder in runs)
    images = "".join(
        f'<h2>{html.escape(figure.stem)}</h2><img alt="{html.escape(figure.stem)}" '
        f'src="data:image/png;base64,{base64.b64encode(figure.read_bytes()).decode()}">'
        for figure in figures
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>reminding: report</title>'
        f"<style>{STYLE}</style><h1>Report</h1>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f"{images}<h2>Commands</h2><pre>{html.escape(commands)}</pre></html>\n"
    )
