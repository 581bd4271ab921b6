"""The actions of the verbs that train, evaluate, explain and check runs, and of `data`, with their output."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from reminding.checks import at_least
from reminding.disk.errors import CannotWriteError
from reminding.disk.fields import plain
from reminding.disk.places import once
from reminding.disk.writing import check_folder
from reminding.lab.explain.explanation import ExplainOptions, most_credited
from reminding.lab.explain.explanation import explain as explain_run
from reminding.lab.explain.occlusion import occlude
from reminding.lab.explain.page import write_explanations
from reminding.lab.explain.summary import summary as summary_of
from reminding.lab.report.check import check_run
from reminding.lab.report.sweeps import is_sweep, write_sweep
from reminding.lab.report.writing import Report, write_report
from reminding.lab.runs import checkpoint, machine, parity
from reminding.lab.runs.config import ModelOptions, RunConfig, TrainOptions
from reminding.lab.runs.evaluation import EvalOptions
from reminding.lab.runs.facts import check_own_data
from reminding.lab.runs.records import ending_of, setting_name, status_of
from reminding.lab.show.tables import error_tables, metric_text
from reminding.lab.show.terminal import doing, say, show_table
from reminding.lab.train import trainer
from reminding.lab.train.data import reading_of, tell_reading
from reminding.lab.train.evaluate import evaluate as evaluate_model
from reminding.lab.train.group import end_process
from reminding.tasks import DATASETS, TRAINING, fetch, status
from reminding.tasks.delayed.repeats import RareRepeats

MOST_ROWS = 40
"""Columns of a table, or classes, whose errors the terminal shows."""


def train(
    task: Any,
    model: ModelOptions,
    options: TrainOptions,
    out: Path | None,
    *,
    given: Collection[str],
    resume: bool,
    overwrite: bool,
) -> None:
    """Train, then show the test metrics and the folder.

    Args:
        given: the options on the command line, which must mean something, also at their defaults.

    Raises:
        SystemExit: a signal ended the training, which is saved; the status tells which.
    """
    config = RunConfig(task, model, options)
    config.check_read(given)
    folder = out or Path("runs") / f"{task.name}-{model.model}-seed{options.seed}"
    summary = trainer.train(config, folder, resume=resume, overwrite=overwrite)
    if summary:  # of several processes the first one tells
        _show_training(model, task, summary, folder)
    status = status_of(summary) if summary else 0
    end_process(status)
    if status:
        raise SystemExit(status)


def _show_training(model: ModelOptions, task: Any, summary: dict[str, Any], folder: Path) -> None:
    values = {name: summary[name] for name in metric_names(summary)}
    metrics = ", ".join(f"{name} {'-' if value is None else metric_text(value)}" for name, value in values.items())
    if metrics:
        say(f"{model.model} on {task.name}, test: {metrics}")
    show_errors(summary)
    seconds, ending = f"{summary['seconds']:.0f} s", ending_of(summary)
    say(f"{summary['steps']} updates in {seconds}, ended by {ending}; written to {folder}")
    if summary["stopped"] == "interrupted":
        say("the same command with --resume continues the run")


def sized(task: Any, model: ModelOptions, parameters: int) -> ModelOptions:
    """The model with the hidden size that gives it a number of parameters, within 3%; shows both.

    Raises:
        ValueError: there is no such size.
    """
    at_least("parameters", parameters, 1)
    found = parity.matched(task, model, parameters)
    say(f"hidden_size {found.hidden_size}: {parity.parameters(task, found):,} parameters")
    return found


def metric_names(summary: dict[str, Any]) -> list[str]:
    """The names of the test metrics in a summary, which stand before the name of the task."""
    names = list(summary)
    return names[: names.index("task")]


def task_of(folder: Path) -> Any:
    """The task that a run was trained on."""
    return RunConfig.load(folder / checkpoint.CONFIG_NAME).task


def evaluate(folder: Path, task: Any, options: EvalOptions, *, new_data: Collection[str] = ()) -> None:
    """Evaluate a run's weights on the test split of its task, show the metrics and add them to eval.jsonl.

    Args:
        new_data: the options, "data" or "test", that name files of your own. All of their content is evaluated, on
            the scale and with the classes of the training data.
    """
    device = machine.choose_device(options.device)
    config, model = checkpoint.load_run(folder, **options.changes)
    step = checkpoint.weights_step(folder)
    task = _evaluated_task(folder, config, task, new_data)
    tell_reading(reading_of(task) if new_data else None)
    judged, tally = options.judged(task), task.tally()
    began = time.perf_counter()
    with doing(f"evaluating {folder}"):
        metrics = evaluate_model(
            model.to(device),
            judged,
            "test",
            batch_size=options.batch_size,
            limit=options.sequences,
            device=device,
            steps_at_once=options.steps_at_once,
            tally=tally,
        )
    errors = {} if tally is None else {"errors": tally.record()}
    record: dict[str, Any] = {
        **metrics,
        **options.record(task),
        "new_data": bool(new_data),
        "best_step": step,
        **errors,
        "seconds": time.perf_counter() - began,
        "command": machine.command_line(),
        **machine.environment(device),
    }
    title = f"{folder} on {setting_name({'name': task.name, **plain(task)})}"
    if isinstance(judged, RareRepeats):
        _show_by_distance(title, judged, metrics, options.sequences)
    else:
        rows = [[name, metric_text(value)] for name, value in metrics.items()]
        show_table(title, ["metric", "new data" if new_data else "test"], rows)
        show_errors(errors)
    _record_evaluation(folder, record)


def _record_evaluation(folder: Path, record: Mapping[str, Any]) -> None:
    """Add to eval.jsonl what was shown, which stays worth its time where it cannot be written."""
    try:
        dropped = checkpoint.add_evaluation(folder, record)
    except CannotWriteError as error:
        raise error.with_advice("the metrics above are in no file") from error
    if dropped:
        say(f"{dropped} damaged line{'s' * (dropped > 1)} of eval.jsonl left out")


def _evaluated_task(folder: Path, config: RunConfig, task: Any, new_data: Collection[str]) -> Any:
    """A task with the facts of its run, for the files of the run or for others."""
    task = task.with_facts(config.task.facts())  # which it lacks if it was made from its options
    _check_judged(task, config.task, new_data)
    if new_data:
        parts = [name for name in ("valid", "test") if name in plain(task) and name not in new_data]
        return task.changed(**dict.fromkeys(parts)).for_new_data()
    check_own_data(task, folder, "eval", "--data FILE evaluates another file")
    return task


def _check_judged(task: Any, trained: Any, new_data: Collection[str]) -> None:
    """Refuse options of a task that are not those of the run and mean nothing to its evaluation."""
    idle = {each.name: "is for the training loss" for each in fields(task) if TRAINING in each.metadata}
    idle |= {"size": "is for the training data", "window": "sets the scale, which is that of training"}
    if new_data:
        idle |= dict.fromkeys(("valid", "held_out"), "holds rows out, and new data are evaluated whole")
    for name, why in idle.items():
        if (value := getattr(task, name, None)) != getattr(trained, name, None):
            raise ValueError(f"{name} {why}; got {value} in eval")


def _show_by_distance(title: str, judged: RareRepeats, metrics: Mapping[str, float], sequences: int | None) -> None:
    """Show the metrics of rare words, by the distance to their last occurrence."""
    name = judged.text.metric
    rows = [[name, metric_text(metrics[name]), "", ""]]
    for group, words, characters in judged.sizes("test", sequences):
        told = metrics.get(f"bits_{group}")
        value = "-" if told is None else metric_text(told)
        rows.append([f"bits_{group}", value, f"{words:,}", f"{characters:,}"])
    show_table(title, ["metric", "test", "words", "characters"], rows)


def show_errors(result: Mapping[str, Any]) -> None:
    """Show the tables of a result's errors, if it has any; of many columns or classes the first."""
    for table in error_tables(result["errors"]) if "errors" in result else ():
        show_table(table.title, table.columns, table.rows[:MOST_ROWS])
        if (more := len(table.rows) - MOST_ROWS) > 0:
            say(f"and {more:,} more")
        for note in table.notes:
            say(note)


def report(runs: list[Path], out: Path | None, sequence: int) -> None:
    """Write a report on some runs, and show its tables and files.

    Args:
        out: folder; None: the folder "report" in that of a single run, or in the present folder for several. A sweep
            has a report of its own, in its folder unless it is the only one.
    """
    runs = once(runs)
    sweeps = [path for path in runs if is_sweep(path)]
    for folder in sweeps:
        own = folder / "report" if out is None or len(runs) > 1 else out
        show_report(Report((), *write_sweep(folder, own)))
    runs = [path for path in runs if path not in sweeps]
    if sweeps and not runs:
        return
    if out is None:
        out = runs[0] / "report" if len(runs) == 1 else Path("report")
    check_folder(out)
    show_report(write_report(runs, out, sequence))


def check(folder: Path) -> None:
    """Verify every file of a run, show them, and say what can be done.

    Raises:
        ValueError: a file is damaged.
    """
    found = check_run(folder)
    rows = [[file.name, "damaged" if file.problem else "ok", file.problem] for file in found.files]
    show_table(str(folder), ["file", "state", "problem"], rows)
    for line in found.findings:
        say(line)
    if found.damaged:
        raise ValueError(f"{len(found.damaged)} of {len(found.files)} files of {folder} are damaged")


def explain(folder: Path, options: ExplainOptions, out: Path | None, sequences: int | None) -> None:
    """Explain some sequences of a run; show the files, a summary of each, and the most credited memories.

    Args:
        sequences: number of sequences for the test of the credit by blanking parts of them; None: no test.

    Raises:
        FileNotFoundError: there is no input, or the folder is no run.
        ValueError: a split is named beside an input, or the run or the file cannot be explained.
    """
    if options.input is not None and options.split != "test" and sequences is None:
        raise ValueError(f"split is for sequences of the task, not for input; got {options.split}")
    out = out or folder / "explain"
    check_folder(out)
    with doing(f"explaining {folder}"):
        explanations = explain_run(folder, options)
        occlusion = None if sequences is None else occlude(folder, sequences, options.split)
    tell_reading(explanations[0].reading)
    if occlusion is not None:
        table = occlusion.table()
        show_table(table.title, table.columns, table.rows)
        for note in table.notes:
            say(note)
    show_files(write_explanations(explanations, out, str(folder), options.layer, occlusion))
    for each in explanations:
        say(f"{each.name}: {summary_of(each, options.layer)}")
        say(f"{each.name}: {most_credited(each, options.layer)}")


def show_report(result: Report) -> None:
    """Show the sentences and the tables of a report, what it lacks, and its files."""
    for sentence in result.sentences:
        say(sentence)
    for table in result.tables:
        show_table(table.title, table.columns, table.rows)
    for line in result.lacking:
        say(line)
    show_files(result.files)


def data(name: str | None, data_dir: Path | None) -> None:
    """Download a data set if one is named, then show the state of all files of all data sets."""
    if name is not None:
        fetch(name, data_dir)
    for dataset in DATASETS.values():
        say(f"{dataset.name}: {dataset.about}; {dataset.licence}")
        rows = [
            [entry.file.name, entry.state, f"{entry.file.raw_size:,}", str(entry.path or ""), entry.detail]
            for entry in status(dataset.name, data_dir)
        ]
        show_table("", ["file", "state", "bytes unpacked", "path", "problem"], rows)


def show_files(files: Sequence[Path]) -> None:
    """Name the files that were written."""
    for path in files:
        say(f"written: {path}")
