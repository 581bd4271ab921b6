"""`reminding reproduce` makes the missing runs, keeps the existing ones, and says in its tables what was done."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from reminding.cli import main
from reminding.disk.lock import locked
from reminding.lab.paper import jobs as processes
from reminding.lab.paper.reproduce import progress
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig
from reminding.lab.train import trainer
from reminding.tasks import Copying
from tests.forked import Forked
from tests.lab.conftest import small
from tests.lab.paper.tiny import only_tiny as only_tiny


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs start at once, in forked processes. The Ctrl-C test starts one in a new process, as the command does."""
    monkeypatch.setattr(
        processes, "subprocess", SimpleNamespace(Popen=Forked, PIPE=subprocess.PIPE, STDOUT=subprocess.STDOUT)
    )


def words(*more: str, out: Path) -> list[str]:
    return ["reproduce", "tiny", "--out", str(out), *more]


@pytest.mark.usefixtures("forked")
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


@pytest.mark.usefixtures("forked")
def test_methods_are_tuned_before_the_runs_that_count(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["reproduce", "tiny-tuned", "--out", str(tmp_path)]
    main([*command, "--dry"])
    shown = capfd.readouterr().out
    assert shown.count("new: reminding train copying") == 4 + 1
    assert "are those that it will choose" in shown
    assert "by some updates of each kind of run" in shown
    assert "4 tuning runs come first, 0 of them done" in shown
    assert "earlier tuning" not in shown
    main(command)
    shown = capfd.readouterr().out
    assert "4 tuning runs, 0 of them done" in shown
    assert "1 runs, 0 of them done" in shown
    folder = tmp_path / "tiny-tuned" / "T4"
    choice = json.loads((folder / "tuning" / "tuning.json").read_text())
    assert all(each["updates"] == 2 and each["valid"] is not None for each in choice["grid"])
    config = RunConfig.load(folder / "lstm-seed0" / checkpoint.CONFIG_NAME)
    assert choice["chosen"]["lstm"] == {"lr": config.train.lr, "forget_bias": config.model.forget_bias}
    best = max(each["valid"] for each in choice["grid"])
    assert {"method": "lstm", **choice["chosen"]["lstm"], "updates": 2, "valid": best} in choice["grid"]
    report = (tmp_path / "tiny-tuned-report" / "report.md").read_text()
    assert "Tuning of T4" in report
    main([*command, "--dry"])
    shown = capfd.readouterr().out
    assert shown.count("done: reminding train copying") == 4 + 1
    assert "earlier tuning" not in shown
    (folder / "tuning" / "tuning.json").rename(tmp_path / "kept")
    main([*command, "--dry"])
    assert "done: reminding train copying" in capfd.readouterr().out
    assert not (folder / "tuning" / "tuning.json").exists()
    (tmp_path / "kept").rename(folder / "tuning" / "tuning.json")
    for run in (folder / "tuning").glob("lstm-lr0.01-*/config.json"):
        run.unlink()  # as where the choice alone was kept
    main([*command, "--dry"])
    shown = capfd.readouterr().out
    assert "4 tuning runs come first, 2 of them done; with --choices FILE there are none" in shown
    choice = f"--settings T4 --choices {folder / 'tuning' / 'tuning.json'}"
    assert f"an earlier tuning is there, and is taken with {choice}" in shown
    main([*command, "--dry", *choice.split()])
    assert "tuning runs" not in capfd.readouterr().out


@pytest.mark.usefixtures("forked")
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


def test_a_folder_of_another_experiment_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "tiny" / "T4" / "sab-seed0"
    folder.mkdir(parents=True)
    RunConfig(Copying(T=9, symbols=2), small().model, small().train).save(folder / checkpoint.CONFIG_NAME)
    with pytest.raises(SystemExit, match=r"sab-seed0 was begun with other options \(task\.T: 9 there, 4 here\)"):
        main(words(out=tmp_path))


@pytest.mark.usefixtures("forked")
def test_a_run_that_fails_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "tiny" / "T4" / "sab-seed0").mkdir(parents=True)
    (tmp_path / "tiny" / "T4" / "sab-seed0" / "letter").write_text("not a run")
    with pytest.raises(
        SystemExit, match=r"1 failed: tiny T4 sab seed 0.*exists and is not a run.*\. The same command"
    ):
        main(words("--jobs", "2", out=tmp_path))
    assert checkpoint.read_summary(tmp_path / "tiny" / "T4" / "lstm-seed0")["steps"] == 4
    assert "lstm" in (tmp_path / "tiny-report" / "report.md").read_text()


@pytest.mark.usefixtures("forked")
def test_a_run_that_was_killed_on_its_way_is_not_tested_before_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tiny" / "T4" / "sab-seed0"
    trainer.train(small(steps=3), folder)
    (folder / checkpoint.SUMMARY_NAME).unlink()
    small(steps=4).save(folder / checkpoint.CONFIG_NAME)  # as if it had been killed after its first checkpoint
    start = processes.start

    def killed(job: processes.Job, shown: bool) -> object:
        trains = job.words[0] == "train"
        return subprocess.Popen(["sh", "-c", "kill -9 $$"], stdin=subprocess.PIPE) if trains else start(job, shown)

    with monkeypatch.context() as patch:
        patch.setattr(processes, "start", killed)
        with pytest.raises(SystemExit, match=r"1 failed: tiny T4 sab seed 0: ended by SIGKILL"):
            main(words("--methods", "sab", out=tmp_path))
    assert checkpoint.read_evaluations(folder) == []
    main(words("--methods", "sab", out=tmp_path))
    assert len(checkpoint.read_evaluations(folder)) == 1


def test_ctrl_c_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log, sleep = tmp_path / "tiny" / "T4" / "lstm-seed0" / "log.jsonl", time.sleep

    def interrupted(seconds: float) -> None:
        if log.is_file() and log.stat().st_size:
            raise KeyboardInterrupt
        sleep(seconds)

    monkeypatch.setattr(processes.time, "sleep", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(words("--methods", "lstm", "--jobs", "2", "--budget", "100000", out=tmp_path))
    assert ended.value.code == 130
    assert "the same command continues with the missing runs" in capsys.readouterr().err
    assert checkpoint.read_summary(log.parent)["stopped"] == "interrupted"  # was awaited
    assert "--resume continues" in (tmp_path / "tiny" / "T4" / f"lstm-seed0{processes.CONSOLE_SUFFIX}").read_text()


def test_a_dry_run_says_what_it_would_do_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(words("--dry", out=tmp_path))
    shown = capsys.readouterr().out
    assert "new: reminding train copying" in shown
    assert "new: reminding eval" in shown
    assert not list(tmp_path.iterdir())


def test_the_list_of_experiments_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    main(["reproduce"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("copying", "adding", "transfer", "pmnist"))


def test_choices_of_an_earlier_tuning_leave_the_grid_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tuning.json"
    file.write_text(json.dumps({"chosen": {"lstm": {"lr": 0.25, "forget_bias": "chrono:7"}}}))
    main(["reproduce", "tiny-tuned", "--dry", "--choices", str(file), "--out", str(tmp_path / "runs")])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "reminding train" in line]
    assert "--lr 0.25" in line
    assert "--forget-bias chrono:7" in line
    with pytest.raises(SystemExit, match=r"gone\.json is damaged: it is missing"):
        main(["reproduce", "tiny-tuned", "--dry", "--choices", str(tmp_path / "gone.json")])


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ('{"grid": [1], "chosen": 3}', "chosen: it must be an object, got 3"),
        ('{"grid": [1]}', r"grid: it must be a list of objects with a method, got \[1\]"),
        ('{"grid": {}}', "grid: it must be a list"),
        ('{"finals": [{"method": 3}]}', "finals: it must be a list of objects with a method"),
        ("[]", "it holds no object"),
    ],
)
def test_a_choice_of_another_kind_is_named_before_any_run(content: str, part: str, tmp_path: Path) -> None:
    file = tmp_path / "tiny-tuned" / "T4" / "tuning" / "tuning.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.raises(SystemExit, match=f"{file} is damaged: {part}"):
        main(["reproduce", "tiny-tuned", "--out", str(tmp_path)])
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.usefixtures("forked")
def test_a_second_command_in_the_folder_is_refused_and_told_of_the_storage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    with locked(folder):
        with pytest.raises(SystemExit, match=f"{folder} is in use by process {os.getpid()} .* the same --storage"):
            main(words(out=tmp_path))
        assert not (folder / "T4").exists()
        main(words("--dry", out=tmp_path))
        assert "new: reminding train copying" in capsys.readouterr().out
        main(words("--storage", str(tmp_path / "journal.log"), "--methods", "lstm", out=tmp_path))
    main(words("--methods", "lstm", out=tmp_path))  # no lock lasts


def test_a_file_in_the_place_of_the_folder_is_refused_before_any_run(tmp_path: Path) -> None:
    file = tmp_path / "lin.csv"
    file.write_text("a,b")
    for more in ((), ("--dry",), ("--storage", str(tmp_path / "journal.log"))):
        with pytest.raises(
            SystemExit, match=f"could not write {file}/tiny: {file} is a file, and a folder is needed"
        ):
            main(words(*more, out=file))
    assert list(tmp_path.iterdir()) == [file]
