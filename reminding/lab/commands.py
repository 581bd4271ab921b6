"""What each verb of the command line does, and what it prints."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from reminding.lab import checkpoint, trainer
from reminding.lab.bench import report as bench_report
from reminding.lab.bench.options import BenchOptions
from reminding.lab.bench.suite import Point, measure
from reminding.lab.config import ModelOptions, RunConfig, TrainOptions, plain
from reminding.lab.evaluate import evaluate as evaluate_model
from reminding.lab.report import write_report
from reminding.lab.terminal import Status, say, show_table
from reminding.tasks import DATASETS, fetch, status

EVALUATIONS_NAME = "eval.jsonl"
STREAM_CAPACITY = 128
"""Memories on a stream: with the default of one every 10 steps, 1,280 steps of the past."""


def train(
    task: Any, model: ModelOptions, options: TrainOptions, out: Path | None, *, resume: bool, overwrite: bool
) -> None:
    """Train, then say how it went and where it lies."""
    folder = out or Path("runs") / f"{task.name}-{model.model}-seed{options.seed}"
    summary = trainer.train(RunConfig(task, model, options), folder, resume=resume, overwrite=overwrite)
    metrics = ", ".join(f"{name} {summary[name]:.4f}" for name in metric_names(summary))
    if metrics:
        say(f"{model.model} on {task.name}, test: {metrics}")
    say(f"{summary['steps']} updates in {summary['seconds']:.0f} s ({summary['stopped']}); written to {folder}")
    if summary["stopped"] == "interrupted":
        say("stopped by Ctrl-C; the same command with --resume goes on")


def model_defaults(task: type[Any]) -> ModelOptions:
    """The network that a task is trained with where nothing else is said: on a stream, a bounded memory.

    There credit crosses the borders of chunks, as far as anything is remembered.
    """
    if not task.streamed:
        return ModelOptions()
    return ModelOptions(capacity=STREAM_CAPACITY, horizon=None, recall_scale=0.5)


def metric_names(summary: dict[str, Any]) -> list[str]:
    """The test metrics in a summary: what comes before the name of the task."""
    names = list(summary)
    return names[: names.index("task")]


def task_of(folder: Path) -> Any:
    """The task a run was trained on."""
    return RunConfig.load(folder / checkpoint.CONFIG_NAME).task


def evaluate(folder: Path, task: Any, *, sequences: int | None, batch_size: int, device: str) -> None:
    """Evaluate a run's weights on the test split of its task, and note the result in the run's eval.jsonl."""
    chosen = trainer.choose_device(device)
    _, model = checkpoint.load_run(folder)
    began = time.perf_counter()
    metrics = evaluate_model(model.to(chosen), task, "test", batch_size=batch_size, limit=sequences, device=chosen)
    options = plain(task)
    record: dict[str, Any] = {
        **metrics,
        "task": {"name": task.name, **options},
        "sequences": sequences,
        "seconds": time.perf_counter() - began,
        "command": trainer.command_line(),
        **trainer.environment(chosen),
    }
    with (folder / EVALUATIONS_NAME).open("a") as file:
        file.write(json.dumps(record) + "\n")
    shown = ", ".join(f"{name} {value}" for name, value in options.items())
    show_table(f"{folder} on {task.name} {shown}", ["metric", "test"], [[n, f"{v:.4f}"] for n, v in metrics.items()])


def report(runs: list[Path], out: Path, sequence: int) -> None:
    """Write a report on some runs, print its table, and say where it is."""
    result = write_report(runs, out, sequence)
    show_table("Test split", result.columns, result.rows)
    for path in result.files:
        say(f"written: {path}")


def data(name: str | None, data_dir: Path | None) -> None:
    """Download a data set if one is named, then show the state of every file of every data set."""
    if name is not None:
        fetch(name, data_dir)
    for dataset in DATASETS.values():
        say(f"{dataset.name}: {dataset.about}; {dataset.licence}")
        rows = [
            [entry.file.name, entry.state, f"{entry.file.raw_size:,}", str(entry.path or ""), entry.detail]
            for entry in status(dataset.name, data_dir)
        ]
        show_table("", ["file", "state", "bytes unpacked", "where", "what is wrong"], rows)


def bench(options: BenchOptions, out: Path) -> None:
    """Measure what a training step costs, show it, and write it to a folder."""
    points: list[Point] = []
    files: list[Path] = []
    with Status() as status:
        for point in measure(options, status.update):
            points.append(point)
            files = bench_report.write(points, options, out)  # at every size, so that nothing is lost by stopping
            status.done(f"{point.size}: {len(point.measured)} of {len(options.contestants)} contestants measured")
    say(bench_report.setting(options))
    for table in bench_report.tables(points, options):
        show_table(table.title, table.columns, table.rows)
    for line in bench_report.left_out(points, options):
        say(f"not measured: {line}")
    for path in files:
        say(f"written: {path}")
