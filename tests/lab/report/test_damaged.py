"""A damaged run is named and left out of a report; all others are reported."""

from __future__ import annotations

import copy
import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from reminding.disk.records import read_json, read_lines
from reminding.lab.report.curves import length_curve, mean_curve
from reminding.lab.report.groups import group
from reminding.lab.report.opening import sentences, title_of
from reminding.lab.report.readings import readings
from reminding.lab.report.tables import costs, environments, equal_cost, further_tests, methods, warnings
from reminding.lab.report.writing import Report, commands_of, errors_of, summary_row, write_report
from reminding.lab.runs import checkpoint
from reminding.lab.runs.facts import FACTS_NAME
from reminding.lab.runs.records import Run
from reminding.lab.runs.runlog import LOG_NAME
from reminding.lab.train import trainer
from reminding.tasks import FileStream
from tests.lab.conftest import small
from tests.lab.report.conftest import write

DRAWS = 600
WARNING = {"kind": "warning", "step": 4, "name": "n", "what": "the norm of h is 99", "advice": "try less"}
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 10**400, float("nan"), float("inf"), "", "a", [], [1], {}, {"a": 1}),
    *([[1, 2], [3]], {"kind": "columns"}, "sab", "copying"),
)


def change(name: str, edit: Callable[[str], str]) -> Callable[[Path], None]:
    """Edit a file; one with a single object loses its checksum, as a file of an older version has none."""

    def apply(folder: Path) -> None:
        path = folder / name
        text = path.read_text() if name == LOG_NAME else json.dumps(read_json(path), indent=2)
        path.write_text(edit(text))

    return apply


def in_the_middle(line: str) -> Callable[[str], str]:
    """Put a line after the second one."""
    return lambda text: "".join(
        [*text.splitlines(keepends=True)[:2], f"{line}\n", *text.splitlines(keepends=True)[2:]]
    )


DEEP = "[" * 100_000
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty summary": (change(checkpoint.SUMMARY_NAME, lambda _: ""), "summary.json is damaged: it is no JSON"),
    "deep summary": (
        change(checkpoint.SUMMARY_NAME, lambda _: DEEP),
        "summary.json is damaged: it is no JSON (maximum recursion",
    ),
    "list for a summary": (change(checkpoint.SUMMARY_NAME, lambda _: "[1]"), "it holds no object"),
    "text for a number": (
        change(checkpoint.SUMMARY_NAME, lambda text: text.replace('"steps": 4', '"steps": "4"')),
        "summary.json cannot be read: 'steps' is '4'",
    ),
    "number in the log": (change(LOG_NAME, in_the_middle("5")), "log.jsonl, line 3, cannot be read"),
    "broken line in the log": (change(LOG_NAME, in_the_middle('{"kind": "va')), "log.jsonl, line 3, cannot be read"),
    "deep line in the log": (change(LOG_NAME, in_the_middle(DEEP)), "log.jsonl, line 3, cannot be read"),
    "line without a kind": (change(LOG_NAME, in_the_middle('{"step": 1}')), "line 3, cannot be read: it has no"),
    "deep config": (change(checkpoint.CONFIG_NAME, lambda _: DEEP), "config.json is damaged: it is no JSON"),
    "config of something else": (
        change(checkpoint.CONFIG_NAME, lambda _: '{"model_type": "bert"}'),
        "config.json cannot be read: it has no 'format'",
    ),
    "no task": (
        change(checkpoint.CONFIG_NAME, lambda text: text.replace('"copying"', '["copying"]')),
        "config.json cannot be read: 'name' is \"['copying']\"",
    ),
    "no errors": (
        change(checkpoint.SUMMARY_NAME, lambda text: text.replace("{", '{"errors": {"kind": 1}, ', 1)),
        "summary.json: errors: the record cannot be read",
    ),
}


def left_out(report: Report) -> dict[str, str]:
    (table,) = (each for each in report.tables if each.title == "Left out")
    return {Path(folder).name: reason for folder, reason in table.rows}


def test_a_log_that_lost_records_is_named(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / LOG_NAME).write_text("")
    found = write_report([tmp_path / "run"], tmp_path / "report")
    assert any(re.fullmatch(r"run: \d+ lines of its log are lost, .*", line) for line in found.lacking)
    assert "lines of its log are lost" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.parametrize("name", FAULTS)
def test_a_damaged_run_is_named_and_the_rest_reported(name: str, tmp_path: Path) -> None:
    damage, reason = FAULTS[name]
    for run in ("sound", "damaged"):
        write(tmp_path / run, small(model="sab" if run == "sound" else "lstm"), [(2, 1.0, 0.5), (4, 2.0, 0.6)])
    damage(tmp_path / "damaged")
    report = write_report([tmp_path], tmp_path / "report")
    said = left_out(report)
    assert list(said) == ["damaged"]
    assert reason in said["damaged"]
    (table,) = (each for each in report.tables if each.title == "Methods")
    assert [row[:2] for row in table.rows] == [["sound", "0.6000"]]
    with pytest.raises(ValueError, match="no run can be read: "):
        write_report([tmp_path / "damaged"], tmp_path / "report")


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "run", small(), [(2, 1.0, 0.5), (4, 2.0, 0.6)])
    with (tmp_path / "run" / LOG_NAME).open("a") as file:
        file.write('{"kind": "valid", "st')
    assert [each.value for each in Run.read(tmp_path / "run").valid] == [0.5, 0.6]


def test_a_benchmark_that_cannot_be_read_is_named(runs: Path, tmp_path: Path) -> None:
    (runs / "bench").mkdir()
    (runs / "bench" / "measured.json").write_text(DEEP)
    assert list(left_out(write_report([runs], tmp_path / "report"))) == ["bench"]


def all_of(run: Run) -> None:
    """Everything that a report says of a run, without its figures."""
    (only,) = groups = group([run])
    tables = [methods(groups), costs(groups), environments(groups), *warnings(groups), *further_tests(groups)]
    tables += [*errors_of(only), *equal_cost([only, only])]
    for table in tables:
        table.markdown()
    texts = [*summary_row(run), *commands_of(run), *sentences(groups), title_of(groups, [])]
    assert all(isinstance(text, str) for text in texts)
    readings(groups)
    mean_curve(only)
    length_curve(only)


def changed(value: Any, draw: random.Random) -> Any:
    """A JSON value with one part replaced, removed or added."""
    spots: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        if not isinstance(node, dict | list):
            return
        known = cast("Any", node)
        for key in list(known) if isinstance(node, dict) else range(len(known)):
            spots.append((known, key))
            visit(known[key])

    found = copy.deepcopy(value)
    visit(found)
    node, key = draw.choice(spots)
    kind = draw.random()
    if kind < 0.2:
        del node[key]
    elif kind < 0.3 and isinstance(node, dict):
        node[draw.choice(("steps", "T", "metric", "state_norm", "counts"))] = draw.choice(VALUES)
    else:
        node[key] = draw.choice(VALUES)
    return found


def contents(folder: Path) -> dict[str, list[Any]]:
    """The JSON values of a run's files, without their checksums, which would refuse every change."""
    names = (checkpoint.CONFIG_NAME, checkpoint.SUMMARY_NAME, FACTS_NAME)
    lines = (LOG_NAME, checkpoint.EVALUATIONS_NAME)
    found: dict[str, list[Any]] = {name: [read_json(folder / name)] for name in names}
    return found | {name: list(read_lines(folder / name).records) for name in lines}


def test_whatever_is_changed_in_a_file_the_run_is_reported_or_refused(finished: Path, tmp_path: Path) -> None:
    """Any other error would end the report of all runs."""
    (tmp_path / "a.csv").write_text("t,a,b\n" + "".join(f"{i},{i % 7},{i % 5}\n" for i in range(300)))
    table = tmp_path / "table"
    task = FileStream(tmp_path / "a.csv", time="t", chunk=10, eval_rows=1)
    trainer.train(small(2, task, "lstm", eval_every=1), table)
    copied = tmp_path / "copied"
    shutil.copytree(finished, copied)
    draw, refused = random.Random(0), 0
    for folder in (copied, table):
        with (folder / LOG_NAME).open("a") as file:
            file.write(json.dumps(WARNING) + "\n")
        record = {"task": {"name": "copying", "T": 9}, "accuracy": 0.5, "mse": 1.0, "command": "reminding eval"}
        checkpoint.add_evaluation(folder, {**record, "changes": {"capacity": 4}, "sequences": 5})
        original = contents(folder)
        for _ in range(DRAWS // 2):
            name = draw.choice(list(original))
            (folder / name).write_text("\n".join(map(json.dumps, changed(original[name], draw))) + "\n")
            try:
                run = Run.read(folder)
                errors_of(group([run])[0])
            except ValueError:
                refused += 1
            else:
                all_of(run)
            (folder / name).write_text("\n".join(map(json.dumps, original[name])) + "\n")
        all_of(Run.read(folder))
    assert 0.1 * DRAWS < refused < 0.9 * DRAWS
