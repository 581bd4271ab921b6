"""Workers that share an experiment: every run once, whoever dies, and all results in every worker's folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from reminding.cli import main
from reminding.disk.lock import locked
from reminding.lab.paper import jobs as processes
from reminding.lab.paper import reproduce
from reminding.lab.paper.reproduce import ReproduceOptions, experiment, training_jobs
from reminding.lab.paper.shared import Shared, packed, shared_jobs, unpack
from reminding.lab.paper.tied import TIED
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig, TrainOptions, command
from reminding.lab.runs.runlog import read_log
from reminding.lab.train import trainer
from reminding.lab.train.sweep.attempts import Attempt
from reminding.lab.train.sweep.storage import Study
from tests.forked import Forked
from tests.lab.conftest import small
from tests.lab.paper.tiny import only_tiny as only_tiny


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs start at once, in forked processes."""
    names = SimpleNamespace(Popen=Forked, STDOUT=subprocess.STDOUT, PIPE=subprocess.PIPE)
    monkeypatch.setattr(processes, "subprocess", names)


def attempts_of(storage: Path, name: str) -> list[Attempt]:
    with Study(str(storage), f"reproduce-{name}", maximize=True) as study:
        return study.attempts()


def interrupting(_step: int, _value: float) -> str:
    """Ends a run at its first evaluation."""
    return "interrupted"


def planned(out: Path, *, seeds: int = 1) -> list[Shared]:
    options = ReproduceOptions(seeds=seeds, out=out)
    wanted = experiment("tiny", options)
    return shared_jobs(training_jobs(wanted, options), reproduce.testing_jobs(wanted, options), out)


@pytest.mark.usefixtures("forked")
def test_tuning_runs_and_tests_are_shared_and_collected_in_a_folder_elsewhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    storage = tmp_path / "journal.log"
    here, there = tmp_path / "here", tmp_path / "there"
    for out in (here, there):
        main(["reproduce", "tiny-tuned", "--out", str(out), "--storage", str(storage), "--jobs", "2"])
    shown = capfd.readouterr().out
    assert shown.count("reminding train") == 4 + 1  # the second worker had nothing to do
    assert Counter(each.state for each in attempts_of(storage, "tiny-tuned")) == {"complete": 5}
    for name in ("summary.json", "log.jsonl", "config.json"):
        files = [path.relative_to(here) for path in here.rglob(name)]
        assert len(files) == 5
        assert all((here / file).read_text() == (there / file).read_text() for file in files)
    choice = "tiny-tuned/T4/tuning/tuning.json"
    assert (here / choice).read_text() == (there / choice).read_text()
    assert "Tuning of T4" in (there / "tiny-tuned-report" / "report.md").read_text()


@pytest.mark.usefixtures("forked")
def test_a_run_that_was_interrupted_here_and_ended_elsewhere_is_collected(tmp_path: Path) -> None:
    """Otherwise each machine would choose and report by results of its own."""
    here, there = tmp_path / "here", tmp_path / "there"
    first = planned(there)[0]
    assert first.commands[0].config is not None
    trainer.train(first.commands[0].config, first.folder, judge=interrupting)
    assert checkpoint.read_summary(first.folder)["stopped"] == "interrupted"
    for out in (here, there):
        main(["reproduce", "tiny", "--methods", "sab", "--out", str(out), "--storage", str(tmp_path / "journal.log")])
    ended = checkpoint.read_summary(planned(here)[0].folder)
    assert (ended["stopped"], checkpoint.read_summary(first.folder)) == ("steps", ended)
    assert len(checkpoint.read_evaluations(first.folder)) == 1


@pytest.mark.usefixtures("forked")
def test_a_run_of_a_dead_worker_is_given_to_another_and_goes_on_from_its_checkpoint(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    storage, out = tmp_path / "journal.log", tmp_path / "out"
    first = planned(out)[0]
    config = first.commands[0].config
    assert config is not None
    main([*command(config), "--out", str(first.folder), "--steps", "3"])
    (first.folder / checkpoint.SUMMARY_NAME).unlink()  # as if it had been killed after the update 3
    (first.folder / checkpoint.CONFIG_NAME).unlink()
    config.save(first.folder / checkpoint.CONFIG_NAME)
    with Study(str(storage), "reproduce-tiny", maximize=True) as study:
        study.begin(first.key, "gone:1", {}, None)
    main(["reproduce", "tiny", "--out", str(out), "--storage", str(storage), "--grace", "1.5"])
    attempts = attempts_of(storage, "tiny")
    assert Counter((each.job, each.state) for each in attempts) == {
        (first.key, "void"): 1,
        (first.key, "complete"): 1,
        (planned(out)[1].key, "complete"): 1,
    }
    assert attempts[0].notes == {"ended": "its worker showed no sign of life"}
    assert "--resume" in checkpoint.read_summary(first.folder)["command"]
    assert len(checkpoint.read_evaluations(first.folder)) == 1


@pytest.mark.usefixtures("forked")
def test_a_run_that_goes_on_without_its_worker_is_awaited_by_the_next_worker(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As where a worker is stopped for longer than its grace, and the process that trains is not."""
    storage, out = tmp_path / "journal.log", tmp_path / "out"
    first = planned(out)[0]
    main([*first.commands[0].words[:-1], str(tmp_path / "trained")])
    with ExitStack() as held:
        first.folder.mkdir(parents=True)
        held.enter_context(locked(first.folder))

        def trained() -> None:
            shutil.copytree(tmp_path / "trained", first.folder, dirs_exist_ok=True)
            held.close()

        other = threading.Timer(2.0, trained)
        other.start()
        main(["reproduce", "tiny", "--methods", "sab", "--out", str(out), "--storage", str(storage)])
        other.join()
    assert f"waits: {first.folder} is in use by process {os.getpid()}" in capfd.readouterr().out
    assert [each.state for each in attempts_of(storage, "tiny")] == ["complete"]
    assert checkpoint.read_summary(first.folder) == checkpoint.read_summary(tmp_path / "trained")
    assert len(checkpoint.read_evaluations(first.folder)) == 1


@pytest.mark.usefixtures("forked")
def test_a_failed_run_is_told_by_every_worker_and_tried_again_by_the_next_command(tmp_path: Path) -> None:
    storage, out = tmp_path / "journal.log", tmp_path / "out"
    letter = out / "tiny" / "T4" / "sab-seed0" / "letter"
    letter.parent.mkdir(parents=True)
    letter.write_text("not a run")
    words = ["reproduce", "tiny", "--out", str(out), "--storage", str(storage), "--jobs", "2"]
    with pytest.raises(SystemExit, match=r"1 failed: tiny T4 sab seed 0.*exists and is not a run"):
        main(words)
    letter.unlink()
    main(words)
    states = Counter((each.job.split()[0], each.state) for each in attempts_of(storage, "tiny"))
    assert states == {
        ("tiny/T4/sab-seed0", "failed"): 1,
        ("tiny/T4/sab-seed0", "complete"): 1,
        ("tiny/T4/lstm-seed0", "complete"): 1,
    }


def test_the_name_of_a_job_depends_on_its_options_and_not_on_its_place(tmp_path: Path) -> None:
    jobs = planned(tmp_path, seeds=2)
    assert [job.key.split()[0] for job in jobs[:3]] == [
        "tiny/T4/sab-seed0",
        "tiny/T4/lstm-seed0",
        "tiny/T4/sab-seed1",
    ]
    assert [job.key for job in jobs] == [job.key for job in planned(tmp_path / "elsewhere", seeds=2)]
    assert len({job.key.split()[1] for job in jobs}) == 4
    assert [len(job.commands) for job in jobs] == [2, 1, 2, 1]


def test_a_job_has_one_name_for_workers_of_several_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later version has an option more, which nobody has set."""
    keys = [job.key for job in planned(tmp_path)]
    settings = RunConfig.settings
    new: dict[str, object] = {"train.new": None}

    def later(config: RunConfig) -> dict[str, object]:
        return {**settings(config), **new}

    monkeypatch.setattr(RunConfig, "settings", later)
    assert [job.key for job in planned(tmp_path)] == keys
    new["train.new"] = 1
    assert not {job.key for job in planned(tmp_path)} & {*keys}


@pytest.mark.usefixtures("forked")
def test_a_run_of_a_version_with_other_defaults_is_named(tmp_path: Path) -> None:
    words = ["reproduce", "tiny", "--methods", "lstm", "--storage", str(tmp_path / "journal.log")]
    main([*words, "--out", str(tmp_path / "here")])
    mine = TrainOptions.__init__.__defaults__
    assert mine is not None
    later = tuple(2.0 if repr(each) == "1.0" else each for each in mine)  # of clip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainOptions.__init__, "__defaults__", later)
        with pytest.raises(SystemExit, match=r"1 failed: tiny T4 lstm.*train.clip: 1.0 there, 2.0 here"):
            main([*words, "--out", str(tmp_path / "there")])


def test_packed_files_are_unpacked_in_the_folder_alone(tmp_path: Path, finished: Path) -> None:
    pieces = packed(finished)
    notes = {f"files {place}": piece for place, piece in enumerate(pieces)}
    unpack(notes, tmp_path / "copy")
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    assert {"config.json", "summary.json", "log.jsonl"} <= names
    assert not any(name.endswith(".safetensors") for name in names)
    assert all((tmp_path / "copy" / name).read_text() == (finished / name).read_text() for name in names)


def test_files_are_packed_as_they_are_in_a_locale_without_utf_8(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_bytes('{"unit": "\N{DEGREE SIGN}C"}\n'.encode())
    code = (
        "import sys; from pathlib import Path; from reminding.lab.paper.shared import packed, unpack; "
        "unpack({'files 0': packed(Path(sys.argv[1]))[0]}, Path(sys.argv[2]))"
    )
    plain = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path), str(tmp_path / "copy")], env=plain, check=True)
    assert (tmp_path / "copy" / "data.json").read_bytes() == (tmp_path / "data.json").read_bytes()


def test_a_run_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """The end of the starter, however it comes, closes the standard input of the run."""
    words = [*command(small(steps=100_000)), "--out", str(tmp_path / "run")]
    environment = {**os.environ, TIED: "yes"}
    run = subprocess.Popen(
        [sys.executable, "-m", "reminding", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run").is_dir() or len(read_log(tmp_path / "run")) < 2:
        assert run.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert run.stdin is not None
    run.stdin.close()
    assert run.wait(timeout=60) == 128 + signal.SIGTERM
    assert checkpoint.read_summary(tmp_path / "run")["stopped"] == "interrupted"
