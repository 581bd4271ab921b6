"""The plan of `reproduce`: which runs, in which order, and their progress."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reminding.cli import main
from reminding.disk.errors import CannotWriteError
from reminding.lab.paper import estimate, reproduce
from reminding.lab.paper.jobs import Job, run_jobs
from reminding.lab.paper.reproduce import ReproduceOptions, experiment, progress, training_jobs
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import command
from reminding.lab.train import trainer
from reminding.lab.train.run import Run
from tests.lab.conftest import small
from tests.lab.paper.tiny import only_tiny as only_tiny
from tests.lab.paper.tiny import tiny


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


def test_names_that_are_not_there_are_answered_with_those_that_are() -> None:
    with pytest.raises(ValueError, match="settings: tiny has no 'T5'; there are T4"):
        experiment("tiny", ReproduceOptions(settings=("T5",)))
    with pytest.raises(ValueError, match="methods: tiny has no 'gru'; there are sab, lstm"):
        experiment("tiny", ReproduceOptions(methods=("gru",)))
    with pytest.raises(SystemExit, match="did you mean copying"):
        main(["reproduce", "copyng"])
    with pytest.raises(ValueError, match="budget must be above 0, got 0"):
        ReproduceOptions(budget=0)
    with pytest.raises(ValueError, match="jobs must be an integer of at least 1, got 0"):
        ReproduceOptions(jobs=0)


def test_seeds_come_one_after_another_so_that_a_first_table_comes_early(tmp_path: Path) -> None:
    jobs = training_jobs(tiny(None, True), ReproduceOptions(seeds=2, out=tmp_path))
    assert [job.folder.name for job in jobs] == ["sab-seed0", "lstm-seed0", "sab-seed1", "lstm-seed1"]


def test_the_budget_of_timed_runs_is_their_time(tmp_path: Path) -> None:
    run = small(steps=50, max_seconds=100.0)
    scaled = reproduce.scaled(run, 0.25)
    assert (scaled.train.steps, scaled.train.max_seconds) == (50, 25.0)
    assert reproduce.scaled(small(steps=50), 0.25).train.steps == 12


def test_a_test_of_the_weights_of_a_run_that_goes_on_is_made_again(tmp_path: Path) -> None:
    options = ReproduceOptions(out=tmp_path, methods=("sab",))
    wanted = experiment("tiny", options)
    half, whole = training_jobs(wanted, replace(options, budget=0.5))[0], training_jobs(wanted, options)[0]
    (test,) = reproduce.testing_jobs(wanted, options)
    main([*half.words])
    main([*test.words])
    states = [reproduce.testing_jobs(wanted, replace(options, budget=share))[0].state for share in (0.5, 1.0)]
    assert states == ["done", "new"]
    main([*whole.words, "--resume"])
    main([*test.words])
    assert reproduce.testing_jobs(wanted, options)[0].state == "done"


@pytest.mark.parametrize(("limit", "left"), [(None, (3.0, 8.0)), (100.0, (75.0, 100.0))])
def test_the_time_left_of_a_begun_run_is_that_after_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float | None, left: tuple[float, float]
) -> None:
    def seconds(_run: Any, _began: float) -> float:
        return 25 / 8  # of 5 updates, 2 evaluations and the end

    def second(_run: Any) -> float:
        return 1.0

    def exact(seconds: float, _: int) -> float:
        return seconds

    monkeypatch.setattr(estimate, "seconds_per_update", second)
    monkeypatch.setattr(estimate, "told", exact)
    monkeypatch.setattr(Run, "since", seconds)
    job = Job("a run", tmp_path / "run", ["train"], "begun", small(steps=8, max_seconds=limit))
    trainer.train(small(steps=5, max_seconds=limit), job.folder)
    others = [replace(job, folder=tmp_path / "other", state="new"), replace(job, state="done")]
    assert [reproduce.time_left([each], [], 1) for each in (job, others[0])] == [*left]
    assert reproduce.time_left([job, *others], [], 1) == sum(left)


@pytest.mark.parametrize(
    ("sign", "jobs"),
    [pytest.param(signal.SIGINT, 1, marks=pytest.mark.slow), (signal.SIGKILL, 1), (signal.SIGTERM, 2)],
)
def test_no_run_goes_on_when_its_worker_has_ended(tmp_path: Path, sign: signal.Signals, jobs: int) -> None:
    words = f"reproduce ablation --settings recipe --methods recipe --jobs {jobs} --out {tmp_path}"
    command = [sys.executable, "-m", "reminding", *words.split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
        folder = tmp_path / "ablation" / "recipe" / "recipe-seed0"
        while not (folder / "log.jsonl").is_file() or not (folder / "log.jsonl").read_text():
            assert worker.poll() is None
            time.sleep(0.05)
        worker.send_signal(sign)
        worker.communicate(timeout=60)  # until the run, which holds its output, has ended too
    deadline = time.monotonic() + 60
    while not (folder / "summary.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert checkpoint.read_summary(folder)["stopped"] == "interrupted"


def test_a_finished_run_ends_well_while_its_worker_lives(tmp_path: Path) -> None:
    """In a process of its own: the wait for the worker's end must not be in the way of Python's own end."""
    words = [*command(small(steps=2)), "--out", str(tmp_path / "run")]
    assert run_jobs([Job("a run", tmp_path / "run", words, "new")], at_once=2) == []
    assert checkpoint.read_summary(tmp_path / "run")["stopped"] == "steps"


def test_a_job_takes_no_module_from_a_folder_that_this_process_takes_none_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program `reminding` does not see a user's random.py; `python -m` would, in the place of Python's own."""
    (tmp_path / "random.py").write_text("raise RuntimeError")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", os.getcwd(), str(tmp_path))])
    monkeypatch.chdir(tmp_path)
    assert run_jobs([Job("a run", tmp_path / "run", ["train", "copying", "--help"], "new")], at_once=2) == []
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (said,) = run_jobs([Job("a run", tmp_path / "run", ["train", "copying", "--help"], "new")], at_once=2)
    assert "exit status 1" in said


def failing(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> str:
    """What `run_jobs` says of a job that fails as a program in Python does."""
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    (folder / "python").write_text(f"#!/bin/sh\n{code}\n")
    (folder / "python").chmod(0o755)
    (said,) = run_jobs([Job("a run", folder / "run", ["train"], "new")], at_once=2)
    return said


def test_a_job_that_ends_without_a_word_has_none_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert failing(tmp_path, monkeypatch, "echo the first reason; exit 3") == "a run: exit status 3: the first reason"
    assert failing(tmp_path, monkeypatch, "kill -9 $$") == "a run: ended by SIGKILL"
    console = (tmp_path / "run.console.txt").read_text()
    assert console == "\n$ reminding train\nthe first reason\n\n$ reminding train\nit ended without a word\n"
    assert failing(tmp_path, monkeypatch, "kill -40 $$") == "a run: ended by signal 40"


def test_a_reason_that_a_full_disk_has_taken_is_said_to_be_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Any = Path.open
    console, times = tmp_path / "run.console.txt", list[bool]()

    def full(path: Path, *arguments: Any, **options: Any) -> Any:
        times.append(path == console and "ab" in arguments)
        if times[-1] and sum(times) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    said = failing(tmp_path, monkeypatch, "exit 1")
    assert said == f"a run: exit status 1: what it said is lost (could not write {console}: No space left on device)"
    with pytest.raises(CannotWriteError, match=r"run\.console\.txt: No space left on device"):
        failing(tmp_path, monkeypatch, "exit 1")
