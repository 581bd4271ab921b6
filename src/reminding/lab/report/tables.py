"""Tables of runs: the results of each method over its seeds, and their cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from reminding.lab.report.groups import Group, after_seconds, after_steps, settings_of, spread
from reminding.lab.runs.records import Run
from reminding.lab.show.tables import Table, metric_text

METHOD_COLUMNS = ["method", "test", "metric", "worst seed", "seeds", "updates", "minutes", "norm of h", "task"]
COST_COLUMNS = ["method", "ms/update", "peak MB", "parameters", "backward steps", "from last step", "task"]
ENVIRONMENT = ["machine", "device", "threads", "python", "torch", "reminding"]
SAME_TIME = 1.02
"""Runs with the same time limit end within this factor of each other, since they finish their last update."""
BACKWARD = (
    "Backward steps: the number of time steps that the backward pass of one sequence visits, from the task's loss "
    "and from a loss at the last step alone."
)


def methods(groups: Sequence[Group]) -> Table:
    """The test results of each method, mean and deviation over seeds."""
    notes = ["± is the standard deviation over seeds. The norm of h is the mean over the last validation pass."]
    return Table("Methods", METHOD_COLUMNS, [_method_row(group) for group in groups], notes)


def costs(groups: Sequence[Group]) -> Table:
    """The cost of each method: time, memory, and how far its backward pass reaches."""
    rows = [
        [
            group.method,
            spread(group.summaries("ms_per_update"), ".0f"),
            spread([peak / 1e6 for peak in group.summaries("peak_resident_bytes")], ".0f"),
            spread(group.summaries("parameters")[:1], ",.0f"),
            spread(group.summaries("backward_steps"), ".0f"),
            spread(group.summaries("backward_steps_last"), ".0f"),
            group.setting,
        ]
        for group in groups
    ]
    notes = [BACKWARD, "Peak MB is that of the whole process, PyTorch itself included."]
    return Table("Time and memory", COST_COLUMNS, rows, notes)


def _method_row(group: Group) -> list[str]:
    tests = group.values(lambda run: run.test)
    worst = (min if group.task.maximize else max)(tests) if len(tests) > 1 else None
    updates = [run.updates for run in group.runs]
    return [
        group.method,
        spread(tests),
        group.task.metric,
        "-" if worst is None else metric_text(worst),
        str(len(group.runs)) if len(tests) == len(group.runs) else f"{len(tests)} of {len(group.runs)} finished",
        _range(updates),
        spread([seconds / 60 for seconds in group.summaries("seconds")], ".1f"),
        spread(group.values(_last_norm), ".1f"),
        group.setting,
    ]


def _last_norm(run: Run) -> float | None:
    """Mean norm of h at the last evaluation."""
    norms = [record["state_norm"] for record in run.records if record.get("state_norm") is not None]
    return norms[-1] if norms else None


def warnings(groups: Sequence[Group]) -> list[Table]:
    """The warnings of training; no table if there were none."""
    rows = [
        [run.name, f"{record['step']:,}", record["what"], record["advice"]]
        for group in groups
        for run in group.runs
        for record in run.records
        if record["kind"] == "warning"
    ]
    return [Table("Warnings while training", ["run", "update", "observation", "advice"], rows)] if rows else []


def environments(groups: Sequence[Group]) -> Table:
    """The machines and versions of the finished runs."""
    runs_by_environment: dict[tuple[str, ...], list[str]] = {}
    for run in (run for group in groups for run in group.runs if run.summary):
        environment = tuple(str(run.summary.get(name, "-")) for name in ENVIRONMENT)
        runs_by_environment.setdefault(environment, []).append(run.name)
    rows = [[_listed(names), *values] for values, names in runs_by_environment.items()]
    return Table("Environment", ["runs", *ENVIRONMENT], rows)


def _listed(names: Sequence[str]) -> str:
    different = list(dict.fromkeys(names))
    return ", ".join(different) if len(different) <= 4 else f"{len(names)} runs"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"


def equal_cost(groups: Sequence[Group]) -> list[Table]:
    """For each task, the best validation result of each method after equal numbers of updates, and after equal times.

    The limits are those of the run with the fewest, without runs that reached their target, so that every run got as
    far. The number of updates is one at which all runs were evaluated. A task with a single method has no such table.
    """
    tables: list[Table] = []
    for setting, whole in settings_of(groups).items():
        members = [replace(each, runs=found) for each in whole if (found := [run for run in each.runs if run.valid])]
        runs = [run for group in members for run in group.runs]
        if len(members) < 2:
            continue
        ended = [run for run in runs if run.summary.get("stopped") != "target"] or runs
        steps = _evaluated_by_all(ended)
        seconds = min(run.valid[-1].seconds for run in ended) * SAME_TIME
        rows = [
            [each.method, *(_of_seeds(each, get) for get in (after_steps(steps), after_seconds(seconds)))]
            for each in members
        ]
        columns = ["method", f"after {steps:,} updates", f"after {seconds / SAME_TIME / 60:.1f} minutes"]
        notes = ["A run that was stopped by its target counts with its last result."]
        if early := [run.name for group in whole for run in group.runs if not run.valid]:
            notes.append(f"Without an evaluation yet, and left out: {_listed(early)}.")
        title = f"{setting}: best {members[0].task.metric} on validation data at equal cost"
        tables.append(Table(title, columns, rows, notes))
    return tables


def _of_seeds(members: Group, get: Callable[[Run], float | None]) -> str:
    """A cell: mean and deviation over a method's seeds, with their number if some have no value: the slow ones."""
    values = members.values(get)
    fewer = _fewer(len(values), len(members.runs))
    return spread(values) + f" ({fewer})" * bool(values and fewer)


def _fewer(have: int, seeds: int) -> str:
    """How many of the seeds have a result; "" if all have one."""
    return f"{have} of {seeds} seeds" if have < seeds else ""


def _evaluated_by_all(runs: Sequence[Run]) -> int:
    """The largest number of updates at which every run was evaluated; if there is none, that of the shortest run."""
    common = set[int].intersection(*({each.step for each in run.valid} for run in runs))
    return max(common, default=min(run.valid[-1].step for run in runs))


def further_tests(groups: Sequence[Group]) -> list[Table]:
    """Trained models at other lengths of their task, one column per length; no table without such tests.

    Each main metric has a table of its own. Options of the model that differ from training stand behind the result.
    The last of several equal tests counts.
    """
    by_metric: dict[str, list[tuple[Group, Tests]]] = {}
    for group in groups:
        if tests := _tests(group):
            by_metric.setdefault(group.task.metric, []).append((group, tests))
    return [_further_table(metric, by_group) for metric, by_group in by_metric.items()]


def _further_table(metric: str, by_group: Sequence[tuple[Group, Tests]]) -> Table:
    lengths = sorted({T for _, tests in by_group for T, _ in tests})
    rows = [
        [group.method, *(_tested_at(T, tests, len(group.runs)) for T in lengths), group.setting]
        for group, tests in by_group
    ]
    columns = ["method", *(f"T={length:,}" for length in lengths), "trained on"]
    notes = [_sequences(by_group)]
    if unknown := [run.name for group, _ in by_group for run in group.runs if _is_of_unknown_weights(run)]:
        notes.append(
            f"An older version tested {_listed(unknown)}, and did not record of which weights. If such a run went on "
            "since then, `reminding eval` tests it again."
        )
    return Table(f"Tested at other lengths: {metric}", columns, rows, notes)


def lengths_of(runs: Sequence[Run]) -> list[dict[int, float]]:
    """For each run that was tested at other lengths: length T -> the main metric.

    Of several tests at a length that all of these runs have, it is the one whose model differs least from training.
    """
    found = [(run, latest) for run in runs if (latest := _latest(run))]
    common = set[tuple[int, str]]().union(*(latest for _, latest in found)).intersection(*(each for _, each in found))
    least = dict(sorted(common, key=lambda test: (test[0], -len(test[1]))))  # of a length the last counts
    return [{T: latest[T, changes][run.task.metric] for T, changes in least.items()} for run, latest in found]


Tests = dict[tuple[int, str], list[tuple[float, int | None]]]
"""(length T, changes to the model) -> the main metric and the number of sequences of each run; None: the task's own
number."""


def _tests(group: Group) -> Tests:
    """The further tests of a group's runs; of several equal ones the last."""
    tests: Tests = {}
    for run in group.runs:
        for key, record in _latest(run).items():
            tests.setdefault(key, []).append((record[group.task.metric], record.get("sequences")))
    return tests


def _latest(run: Run) -> dict[tuple[int, str], Mapping[str, Any]]:
    """(length T, changes to the model) -> the record of the last such test."""
    records = [record for record in run.evaluations if "T" in record["task"]]
    return {(record["task"]["T"], _changed(record.get("changes", {}))): record for record in records}


def _is_of_unknown_weights(run: Run) -> bool:
    """Whether a test of a run counts though it may be of weights that the run had before."""
    unknown = any(record.get("best_step") is None for record in _latest(run).values())
    return unknown and run.summary.get("best_step") is not None


def _changed(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in changes.items())


def _tested_at(T: int, tests: Tests, seeds: int) -> str:
    """A cell: the results at one length, each with the changes to the model, and the seeds that it has if not all."""
    parts: list[str] = []
    for (length, changed), results in sorted(tests.items()):
        if length == T:
            remarks = ", ".join(filter(None, [changed, _fewer(len(results), seeds)]))
            parts.append(spread([value for value, _ in results]) + f" ({remarks})" * bool(remarks))
    return "; ".join(parts) or "-"


def _sequences(by_group: Sequence[tuple[Group, Tests]]) -> str:
    """A sentence about the number of sequences of the tests."""
    counts: dict[int, set[int | None]] = {}
    for _, tests in by_group:
        for (T, _), results in tests.items():
            counts.setdefault(T, set()).update(count for _, count in results)
    numbers = [f"{' or '.join(_shown(counts[T]))} at T={T:,}" for T in sorted(counts)]
    return f"Sequences: {', '.join(numbers)}."


def _shown(counts: set[int | None]) -> list[str]:
    numbers = [str(count) for count in sorted(count for count in counts if count is not None)]
    return [*numbers, "all"] if None in counts else numbers
