"""A report shows what was read of the users' files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reminding.lab.report.groups import group
from reminding.lab.report.readings import readings
from reminding.lab.report.sections import Lines
from reminding.lab.report.writing import write_report
from reminding.lab.runs.checkpoint import opened
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.facts import FACTS_NAME
from reminding.lab.runs.records import Run
from reminding.lab.show.tables import Table
from reminding.tasks import FileStream
from reminding.tasks.data.reading import Column, FileSteps, Reading, TimeRange
from tests.lab.conftest import small


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A run on a table with a time column, a text, a unit and a missing value, as it has begun."""
    rows = "".join(f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00,{i},{2 * i},x\n" for i in range(400))
    (tmp_path / "oven.csv").write_text("when,warm,flow,note\n,degC,l/h,\n" + rows.replace("399,798,", "399,,"))
    config = small(task=FileStream(tmp_path / "oven.csv", time="when", missing="carry", held_out=100, eval_rows=1))
    config = replace(config, model=replace(config.model, capacity=4))
    run = RunConfig(config.task, config.model, config.train)
    with opened(tmp_path / "run", run, resume=False, overwrite=False):
        pass
    return tmp_path / "run"


def test_form_columns_scale_and_times_are_shown(table: Path) -> None:
    lines, columns = readings(group([Run.read(table)]))
    assert isinstance(lines, Lines)
    assert isinstance(columns, Table)
    first, used, ignored, time, *_ = lines.lines
    assert first.startswith("data: oven.csv: 400 rows, csv, separator comma, header in line 1")
    assert "flow (l/h, 1 missing)" in used
    assert ignored.startswith("ignored: note (")
    assert time == "time: when, 2024-01-01 00:00:00 to 2024-01-17 15:00:00, every 1 h, no gaps"
    found = {row[0]: dict(zip(columns.columns, row, strict=True)) for row in columns.rows}
    assert found["flow"]["missing"] == "1"
    assert found["flow"]["mean"] == f"{2 * 199 / 2:.4g}", "over the 200 training rows"
    assert (found["warm"]["unit"], found["warm"]["mean"]) == ("degC", "99.5")
    assert found["when"]["use"] == "time"
    assert found["when"]["mean"] == "-"


def test_page_and_text_have_it_without_the_place_of_the_file(table: Path, tmp_path: Path) -> None:
    write_report([table], tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    part = text[text.index("## Data") :].split("\n## ")[0]
    assert "2024-01-17 15:00:00" in part
    assert str(tmp_path) not in part
    assert '<section id="data">' in (tmp_path / "report" / "index.html").read_text()


def test_damaged_facts_are_told(table: Path) -> None:
    (table / FACTS_NAME).write_text('{"format": 1, "facts": {"data": {"reading": 5}}, "files": {}}')
    (lines,) = readings(group([Run.read(table)]))
    assert isinstance(lines, Lines)
    assert lines.lines[0].startswith("What run read is not known: ")


def test_a_run_on_generated_data_has_none(finished: Path) -> None:
    assert readings(group([Run.read(finished)])) == []


def test_a_reading_is_loaded_as_it_was_recorded() -> None:
    known = Reading(
        (FileSteps("a.csv", 3),),
        "csv",
        "row",
        (("separator", ";"),),
        (Column("a", "number", "target", missing=2, unit="V"),),
        (TimeRange("t", "0", "2", "1", 0, "", 0),),
        ("a note",),
    )
    assert Reading.load(known.record()) == known
