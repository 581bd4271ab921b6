"""Reports: the table, the figures, and unfinished runs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from reminding.disk.records import add_line
from reminding.lab.report.writing import Report, write_report
from reminding.lab.runs import checkpoint
from reminding.lab.runs.runlog import LOG_NAME
from reminding.lab.train import trainer
from reminding.tasks import FileStream
from tests.lab.conftest import small
from tests.places import RESULTS


def row_of(report: Report, title: str, number: int = 0) -> dict[str, str]:
    (table,) = (each for each in report.tables if each.title == title)
    return dict(zip(table.columns, table.rows[number], strict=True))


def test_the_table_quotes_the_summary(finished: Path, tmp_path: Path) -> None:
    report = write_report([finished], tmp_path)
    row = row_of(report, "Methods")
    summary = checkpoint.read_summary(finished)
    assert row["test"] == f"{summary['accuracy']:.4f}"
    assert row["updates"] == "6"
    assert f"| {row['test']} |" in (tmp_path / "report.md").read_text()


def test_an_unfinished_run_is_shown_with_what_there_is(finished: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(finished, half)
    (half / checkpoint.SUMMARY_NAME).unlink()
    (half / checkpoint.WEIGHTS_NAME).unlink()
    report = write_report([half, finished], tmp_path / "report")
    assert row_of(report, "Methods")["test"] == "-"
    assert row_of(report, "Runs")["state"] == "6 of 6 updates"
    assert row_of(report, "Runs", 1)["state"] == "ended by its number of updates"
    assert "unfinished" in (tmp_path / "report" / "report.md").read_text()


def test_a_run_that_has_only_begun_and_a_log_cut_short_are_shown(finished: Path, tmp_path: Path) -> None:
    begun, cut = tmp_path / "begun", tmp_path / "cut"
    for folder in (begun, cut):
        folder.mkdir()
        shutil.copy(finished / checkpoint.CONFIG_NAME, folder)
    lines = (finished / LOG_NAME).read_text()
    (cut / LOG_NAME).write_text(lines[: len(lines) - 20])
    report = write_report([tmp_path], tmp_path / "report")
    assert row_of(report, "Runs")["state"] == "0 of 6 updates"
    assert row_of(report, "Runs", 1)["state"] == "3 of 6 updates"


def test_a_stream_whose_file_is_gone_is_shown_all_the_same(tmp_path: Path) -> None:
    data = tmp_path / "measured.csv"
    data.write_text("a,b\n" + "".join(f"{i % 7},{i % 5}\n" for i in range(400)))
    config = small(2, FileStream(data, chunk=20, eval_rows=1), eval_every=1)
    trainer.train(replace(config, model=replace(config.model, capacity=4)), tmp_path / "run")
    data.unlink()
    report = write_report([tmp_path / "run"], tmp_path / "report")
    row = row_of(report, "Methods")
    assert (row["task"], row["metric"]) == ("stream measured.csv, chunk=20, eval_rows=1", "mse")
    assert float(row["test"]) > 0
    assert "run could not be drawn: data:" in (tmp_path / "report" / "report.md").read_text()


def test_a_run_that_is_named_twice_is_reported_once(finished: Path, tmp_path: Path) -> None:
    """A folder of runs and its absolute path gave each run twice, and a mean of two seeds that are one."""
    (tmp_path / "link").symlink_to(finished)
    result = write_report([finished, finished.parent / "." / finished.name, tmp_path / "link"], tmp_path / "out")
    assert [len(table.rows) for table in result.tables][:1] == [1]


def test_an_explanation_is_linked_and_its_command_shown_where_there_is_none(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "some" / "run"
    shutil.copytree(finished, run)
    write_report([run], tmp_path / "report")
    for name in ("index.html", "report.md"):
        assert f"reminding explain {run}" in (tmp_path / "report" / name).read_text()
    (run / "explain").mkdir()
    (run / "explain" / "index.html").touch()
    write_report([run], tmp_path / "report")
    for name in ("index.html", "report.md"):
        text = (tmp_path / "report" / name).read_text()
        assert "../some/run/explain/index.html" in text
        assert "reminding explain" not in text


def test_what_training_warned_of_is_told(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    told = {"kind": "warning", "step": 6, "name": "n", "what": "the norm | of h is 99", "advice": "try less"}
    add_line(run / LOG_NAME, told)
    report = write_report([run], tmp_path / "report")
    assert row_of(report, "Warnings while training")["advice"] == "try less"
    assert "the norm &#124; of h is 99" in (tmp_path / "report" / "report.md").read_text()


def test_a_benchmark_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    measured = RESULTS / "bench" / "growth-T"
    report = write_report([measured], tmp_path)
    text = (tmp_path / "report.md").read_text()
    kept = (measured / "report.md").read_text()
    rows = [line for line in kept.splitlines() if line.startswith("| nn.LSTM")]
    assert rows
    assert all(row in text for row in rows)
    assert len([path for path in report.files if path.name.startswith("growth-")]) == 2
    assert "reminding bench --T 100 400" in text


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a run"):
        write_report([tmp_path], tmp_path / "report")
    with pytest.raises(ValueError, match="at least one"):
        write_report([], tmp_path / "report")


def test_a_sequence_number_below_zero_is_named(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="sequence must be an integer of at least 0, got -1"):
        write_report([finished], tmp_path, sequence=-1)


def test_runs_of_one_name_in_two_folders_have_a_picture_each(finished: Path, tmp_path: Path) -> None:
    for place in ("T4", "T5", "T6"):
        shutil.copytree(finished, tmp_path / place / "sab-seed0")
    report = write_report([tmp_path], tmp_path / "report")
    pictures = [path for path in report.files if path.name.startswith("recall-")]
    assert len(set(pictures)) == 3
    assert all(path.is_file() for path in pictures)


def test_a_report_of_a_folder_has_a_band_over_the_seeds_and_every_command(runs: Path, tmp_path: Path) -> None:
    result = write_report([runs], tmp_path / "report", title="Both", remarks=["Careful."])
    page = (tmp_path / "report" / "index.html").read_text()
    text = (tmp_path / "report" / "report.md").read_text()
    for part in ("Both", "Careful.", "0.8500 ± 0.0707", "reminding sab-seed0", "reminding lstm-seed0"):
        assert part in page
        assert part in text
    assert result.tables[0].title == "Methods"
    assert (tmp_path / "report" / "curves-copying.png").stat().st_size > 0


def test_a_file_of_measurements_that_is_of_no_benchmark_is_named(tmp_path: Path) -> None:
    (tmp_path / "measured.json").write_text('{"a": 1}')
    with pytest.raises(FileNotFoundError, match=r"there is no config\.json, and measured\.json is of no benchmark"):
        write_report([tmp_path], tmp_path / "report")
