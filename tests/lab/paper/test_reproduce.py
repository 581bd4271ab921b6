"""Running an experiment: what is missing is run, what is there is not, and the tables say what was done."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from reminding.cli import main
from reminding.lab.paper import experiments as paper
from reminding.lab.paper import reproduce
from reminding.lab.paper.experiments import Experiment, FurtherTest, Setting
from reminding.lab.paper.reproduce import ReproduceOptions, experiment, progress, training_jobs
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig
from reminding.tasks import Copying
from tests.lab.conftest import small


def tiny(data_dir: Path | None, verify: bool) -> Experiment:
    """Two methods of a few updates, one tested at another length."""
    runs = {"sab": small(steps=4), "lstm": small(steps=4, model="lstm")}
    setting = Setting("T4", runs)
    test = FurtherTest(6, 3, ("sab",), {"capacity": 2, "evict": "least_recalled"}, 5)
    return Experiment("tiny", "Tiny", [setting], ("A remark.",), "tiny", [test])


@pytest.fixture(autouse=True)
def only_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(paper.EXPERIMENTS, "tiny", tiny)


def words(*more: str, out: Path) -> list[str]:
    return ["reproduce", "tiny", "--out", str(out), *more]


def test_an_experiment_from_nothing_to_its_tables(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main(words("--seeds", "2", "--jobs", "2", out=tmp_path))
    shown = capfd.readouterr().out
    assert "4 runs, 0 of them done" in shown
    assert "±" in shown
    for name in ("sab-seed0", "sab-seed1", "lstm-seed0", "lstm-seed1"):
        assert checkpoint.read_summary(tmp_path / "tiny" / "T4" / name)["steps"] == 4
    (record,) = checkpoint.read_evaluations(tmp_path / "tiny" / "T4" / "sab-seed0")
    assert (record["task"]["T"], record["changes"], record["steps_at_once"]) == (
        6,
        {"capacity": 2, "evict": "least_recalled"},
        5,
    )
    report = (tmp_path / "tiny-report" / "report.md").read_text()
    assert "A remark." in report
    assert "T=6" in report
    assert record["command"] in report

    main(words("--seeds", "2", "--jobs", "2", out=tmp_path))
    shown = capfd.readouterr().out
    assert "4 of them done" in shown
    assert "[1/" not in shown


def test_a_run_is_gone_on_with_and_a_finished_one_is_extended(tmp_path: Path) -> None:
    main(words("--budget", "0.5", "--methods", "sab", out=tmp_path))
    folder = tmp_path / "tiny" / "T4" / "sab-seed0"
    assert checkpoint.read_summary(folder)["steps"] == 2
    report = (tmp_path / "tiny-report" / "report.md").read_text()
    assert "Budget 0.5" in report
    assert "Only a part" in report
    wanted = replace(small(steps=4), train=replace(small(steps=4).train, seed=0))
    assert progress(folder, wanted) == "begun"
    main(words("--methods", "sab", out=tmp_path))
    assert checkpoint.read_summary(folder)["steps"] == 4
    assert "--resume" in checkpoint.read_summary(folder)["command"]
    assert progress(folder, wanted) == "done"
    assert progress(folder, replace(wanted, train=replace(wanted.train, steps=3))) == "done"


@pytest.mark.parametrize(
    ("stopped", "state"), [("target", "done"), ("patience", "done"), ("interrupted", "begun"), ("time", "begun")]
)
def test_what_stopped_a_run_says_whether_it_is_done(tmp_path: Path, stopped: str, state: str) -> None:
    config = small(steps=9)
    config.save(tmp_path / checkpoint.CONFIG_NAME)
    checkpoint.write_summary(tmp_path, {"stopped": stopped, "steps": 5, "seconds": 50.0})
    assert progress(tmp_path, config) == state
    timed = replace(config, train=replace(config.train, max_seconds=40.0))
    assert progress(tmp_path, timed) == ("begun" if stopped == "interrupted" else "done")


def test_a_folder_of_another_experiment_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "tiny" / "T4" / "sab-seed0"
    folder.mkdir(parents=True)
    RunConfig(Copying(T=9, symbols=2), small().model, small().train).save(folder / checkpoint.CONFIG_NAME)
    with pytest.raises(SystemExit, match=r"sab-seed0 was begun with other options \(task\.T: 9 there, 4 here\)"):
        main(words(out=tmp_path))


def test_a_run_that_fails_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "tiny" / "T4" / "sab-seed0").mkdir(parents=True)
    (tmp_path / "tiny" / "T4" / "sab-seed0" / "letter").write_text("not a run")
    with pytest.raises(SystemExit, match=r"2 failed: tiny T4 sab seed 0.*exists and is not a run"):
        main(words("--jobs", "2", out=tmp_path))
    assert checkpoint.read_summary(tmp_path / "tiny" / "T4" / "lstm-seed0")["steps"] == 4
    assert "lstm" in (tmp_path / "tiny-report" / "report.md").read_text()


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduce.time, "sleep", interrupted)
    with pytest.raises(SystemExit, match="the same command goes on"):
        main(words("--methods", "lstm", out=tmp_path))
    assert (tmp_path / "tiny" / "T4" / "lstm-seed0" / checkpoint.SUMMARY_NAME).exists()  # it was waited for


def test_a_dry_run_says_what_it_would_do_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(words("--dry", out=tmp_path))
    shown = capsys.readouterr().out
    assert "new: reminding train copying" in shown
    assert "new: reminding eval" in shown
    assert not list(tmp_path.iterdir())


def test_names_that_are_not_there_are_answered_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="settings: tiny has no 'T5'; there are T4"):
        experiment("tiny", ReproduceOptions(settings=("T5",)))
    with pytest.raises(ValueError, match="methods: tiny has no 'gru'; there are sab, lstm"):
        experiment("tiny", ReproduceOptions(methods=("gru",)))
    with pytest.raises(SystemExit, match="did you mean copying"):
        main(["reproduce", "copyng"])
    with pytest.raises(ValueError, match="budget must be above 0, got 0"):
        ReproduceOptions(budget=0)
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        ReproduceOptions(jobs=0)


def test_seeds_come_one_after_another_so_that_a_first_table_comes_early(tmp_path: Path) -> None:
    jobs = training_jobs(tiny(None, True), ReproduceOptions(seeds=2, out=tmp_path))
    assert [job.folder.name for job in jobs] == ["sab-seed0", "lstm-seed0", "sab-seed1", "lstm-seed1"]


def test_the_budget_of_timed_runs_is_their_time(tmp_path: Path) -> None:
    run = small(steps=50, max_seconds=100.0)
    scaled = reproduce.scaled(run, 0.25)
    assert (scaled.train.steps, scaled.train.max_seconds) == (50, 25.0)
    assert reproduce.scaled(small(steps=50), 0.25).train.steps == 12


def test_the_list_of_experiments_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    main(["reproduce"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("copying", "adding", "transfer", "pmnist"))


def test_evaluations_are_json_lines(tmp_path: Path) -> None:
    checkpoint.add_evaluation(tmp_path, {"accuracy": 1.0})
    checkpoint.add_evaluation(tmp_path, {"accuracy": 0.5})
    assert [json.loads(line) for line in (tmp_path / "eval.jsonl").read_text().splitlines()] == [
        {"accuracy": 1.0},
        {"accuracy": 0.5},
    ]
    assert checkpoint.read_evaluations(tmp_path / "nowhere") == []
