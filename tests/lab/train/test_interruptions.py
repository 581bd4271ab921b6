"""Runs that are stopped, killed or out of space: nothing is lost, and nothing else comes out."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from reminding.disk.commits import Commits
from reminding.disk.errors import CannotWriteError, FolderInUseError
from reminding.disk.lock import locked
from reminding.lab.report.check import check_run
from reminding.lab.runs import checkpoint, records
from reminding.lab.runs.runlog import read_log
from reminding.lab.train import trainer
from reminding.nn.state.storage import load_tensors
from reminding.tasks import Adding, Batch, Cue
from tests.lab.conftest import small
from tests.lab.stream_runs import assert_same_run, content, last
from tests.lab.stream_runs import small as streaming
from tests.places import GOLDEN
from tests.reliability.faults import faulty

CUE = Cue(lag=7, gap=3, chunk=6, noise=0.2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run on a stream, of 9 updates."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    trainer.train(streaming(CUE, 9), folder)
    return folder


class Struck(BaseException):
    """Stands for the end of the process: nothing catches it to go on."""


Strike = Callable[[int, Callable[[], None]], None]


@pytest.fixture
def at_evaluation(monkeypatch: pytest.MonkeyPatch) -> Strike:
    """Do something at the start of the n-th evaluation, the final test included."""

    def strike(number: int, action: Callable[[], None]) -> None:
        evaluate, count = trainer.evaluate, list[bool]()

        def struck(*arguments: Any, **options: Any) -> dict[str, float]:
            count.append(True)
            if len(count) == number:
                action()
            return evaluate(*arguments, **options)

        monkeypatch.setattr(trainer, "evaluate", struck)

    return strike


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize("error", [MemoryError(), KeyboardInterrupt(), Struck(), OSError(28, "No space left")])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_an_error_in_an_evaluation_leaves_the_checkpoint_before_it(
    tmp_path: Path,
    whole: Path,
    at_evaluation: Strike,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    number: int,
) -> None:
    at_evaluation(number, raising(error))
    with pytest.raises(type(error)):
        trainer.train(streaming(CUE, 9), tmp_path / "run")
    said = "saved yet" if number == 1 else f"saved up to update {3 * (number - 1)}; the same command with --resume"
    assert (said in " ".join(capsys.readouterr().out.split())) == (number < 4)  # then training was over
    place = checkpoint.newest(tmp_path / "run")
    assert (place is None) if number == 1 else (place is not None and place.name == str(3 * (number - 1)))
    trainer.train(streaming(CUE, 9), tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize("strikes", [1, 2, 4])
def test_ctrl_c_twice_in_an_update_loses_only_that_update(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, strikes: int
) -> None:
    step = cast("Callable[[torch.optim.Adam], None]", torch.optim.Adam.step)
    updates: list[bool] = []

    def twice(self: torch.optim.Adam) -> None:
        updates.append(True)
        step(self)
        if len(updates) == strikes:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(torch.optim.Adam, "step", twice)
    with pytest.raises(KeyboardInterrupt):
        trainer.train(streaming(CUE, 9), tmp_path / "run")
    trainer.train(streaming(CUE, 9), tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_request_to_end_saves_after_the_update_however_often_it_comes(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    step = cast("Callable[[torch.optim.Adam], None]", torch.optim.Adam.step)
    updates: list[bool] = []

    def asked(self: torch.optim.Adam) -> None:
        updates.append(True)
        if len(updates) == 4:
            os.kill(os.getpid(), getattr(signal, name))
            os.kill(os.getpid(), getattr(signal, name))
        step(self)

    before = signal.getsignal(getattr(signal, name))
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", asked)
        summary = trainer.train(streaming(CUE, 9), tmp_path / "run")
    assert summary["stopped"] == "interrupted"
    assert summary["signal"] == name
    assert records.Run.read(tmp_path / "run").state.startswith(f"ended by {name}")
    assert content(tmp_path / "run")["standing"]["step"] == summary["steps"] < 9
    assert signal.getsignal(getattr(signal, name)) == before
    trainer.train(streaming(CUE, 9), tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", whole)


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        @dataclass(frozen=True)
        class HungUp(Adding):
            def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
                for batch in super().train_batches(batch_size, seed, start):
                    os.kill(os.getpid(), signal.SIGHUP)
                    yield batch

        assert trainer.train(small(task=HungUp(T=4)), tmp_path / "run")["stopped"] == "steps"
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("options", "steps"), [({"patience": 2, "lr": 1e-12}, 9), ({"target": 0.0}, 3)], ids=["patience", "target"]
)
def test_a_run_killed_in_its_test_goes_on_to_its_test(
    tmp_path: Path, at_evaluation: Strike, options: dict[str, Any], steps: int
) -> None:
    at_evaluation(steps // 3 + 1, raising(Struck()))
    with pytest.raises(Struck):
        trainer.train(small(300, **options), tmp_path / "run")
    assert content(tmp_path / "run")["standing"]["step"] == steps
    summary = trainer.train(small(300, **options), tmp_path / "run", resume=True)
    assert (summary["steps"], summary["stopped"]) == (steps, next(iter(options)))
    assert len([record for record in read_log(tmp_path / "run") if record["kind"] == "valid"]) == steps // 3


def test_the_test_is_of_the_step_that_the_summary_names(tmp_path: Path) -> None:
    """A disk that is full from some call on; then it has space, and the run goes on."""
    config = small(9, lr=0.05, task=Adding(T=4))
    with faulty() as system:
        want = trainer.train(config, tmp_path / "whole")
    for at in range(5, len(system.calls) + 1, 17):
        folder = tmp_path / str(at)
        with faulty("no space", at, lasting=True), suppress(CannotWriteError):
            trainer.train(config, folder)
        summary = trainer.train(config, folder, resume=True)
        metadata = load_tensors(folder / checkpoint.WEIGHTS_NAME)[1]
        assert summary["best_step"] == int(metadata["step"]) == want["best_step"]
        assert summary["mse"] == want["mse"]
        assert not [path.name for path in folder.rglob("*.part")]


def test_a_full_disk_is_told_in_one_line_with_what_can_be_done(tmp_path: Path) -> None:
    trainer.train(small(3), tmp_path / "run")
    with (
        faulty("no space", 8, lasting=True),
        pytest.raises(
            CannotWriteError,
            match=r"^could not write .*: No space left on device; the run is saved up to update 3; "
            r"the same command with --resume goes on from there$",
        ),
    ):
        trainer.train(small(9), tmp_path / "run", resume=True)


def test_a_run_killed_while_it_wrote_its_configuration_can_be_begun_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for resume in (False, True):
        folder.mkdir()
        (folder / ".lock").touch()
        (folder / ".config.json.elsewhere-1-1.part").write_text('{"task"')
        assert trainer.train(small(3), folder, resume=resume)["steps"] == 3
        assert not list(folder.glob(".*.part"))
        shutil.rmtree(folder)
    folder.mkdir()
    (folder / "letters.part").write_text("of somebody else")
    with pytest.raises(FileExistsError, match="is not a run"):
        trainer.train(small(3), folder)


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    trainer.train(small(3), tmp_path / "run")
    with locked(tmp_path / "run"):
        for resume in (True, False):
            with pytest.raises(FolderInUseError, match=f"run is in use by process {os.getpid()}"):
                trainer.train(small(6), tmp_path / "run", resume=resume, overwrite=not resume)
    assert content(tmp_path / "run")["standing"]["step"] == 3
    assert trainer.train(small(6), tmp_path / "run", resume=True)["steps"] == 6


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_run_whose_folder_was_moved_writes_nothing_into_one_that_took_its_place(
    tmp_path: Path, whole: Path, at_evaluation: Strike, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    folder = tmp_path / "run"

    def replaced() -> None:
        folder.rename(tmp_path / "moved")
        shutil.copytree(whole, folder)

    at_evaluation(number, replaced)
    with pytest.raises(FolderInUseError, match="run is another process's folder by now"):
        trainer.train(streaming(CUE, 9, seed=1), folder)
    assert "the run is saved up to" not in capsys.readouterr().out
    assert files(folder) == files(whole)
    assert (tmp_path / "moved" / "checkpoints").exists() == (number > 1)


def files(folder: Path) -> dict[Path, bytes]:
    """What a run has written."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_last_two_checkpoints_are_kept_and_the_one_before_serves_when_the_last_is_damaged(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    trainer.train(streaming(CUE, 6), folder)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["3", "6"]
    path = last(folder) / checkpoint.STATE_NAME
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 4
    path.write_bytes(raw)
    capsys.readouterr()
    trainer.train(streaming(CUE, 9), folder, resume=True)
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "6/state.safetensors is damaged: its checksum is wrong; the run goes on from the checkpoint before" in shown
    )
    assert_same_run(folder, whole)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["6", "9"]


def test_config_facts_and_log_are_left_alone_by_a_resume(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trainer.train(small(3), folder)
    before = {
        name: (folder / name).stat() for name in ("config.json", "facts.json", "log.jsonl", "model.safetensors")
    }
    trainer.train(small(3), folder, resume=True)
    for name, was in before.items():
        now = (folder / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (was.st_ino, was.st_mtime_ns), name


def test_a_log_with_a_broken_line_goes_on_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    trainer.train(small(6), folder)
    lines = (folder / "log.jsonl").read_text().splitlines()
    lines[1] = lines[1].replace("valid", "valib")
    (folder / "log.jsonl").write_text("\n".join([*lines, '{"kind": "train", "st']))
    capsys.readouterr()
    trainer.train(small(9), folder, resume=True)
    assert "log.jsonl: line 2 is damaged; the run goes on without its record" in capsys.readouterr().out
    assert [(record["kind"], record["step"]) for record in read_log(folder)] == [
        *(("train", 3), ("train", 6), ("valid", 6)),
        *(("train", 9), ("valid", 9)),
    ]


@pytest.mark.parametrize(("kept", "missing"), [(0, 4), (1, 3), (3, 1)])
def test_a_log_that_lacks_lines_goes_on_and_says_so(
    tmp_path: Path, kept: int, missing: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    trainer.train(small(6), folder)
    assert check_run(folder).damaged == []
    lines = (folder / "log.jsonl").read_text().splitlines(keepends=True)
    (folder / "log.jsonl").write_text("".join(lines[:kept]))
    (damaged,) = check_run(folder).damaged
    assert (damaged.name, damaged.problem) == (
        "log.jsonl",
        f"{missing} lines are missing that the last checkpoint counts",
    )
    capsys.readouterr()
    trainer.train(small(9), folder, resume=True)
    assert f"log.jsonl: {missing} lines are missing; the run goes on without their records" in capsys.readouterr().out
    assert check_run(folder).damaged == []
    trainer.train(small(12), folder, resume=True)
    assert "missing" not in capsys.readouterr().out


def test_a_checkpoint_of_before_the_log_was_counted_serves(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trainer.train(small(6), folder)
    commits = Commits(folder / checkpoint.CHECKPOINTS_NAME)
    names = [name for name in commits.manifest(6) if name != checkpoint.LOG_SIZE_NAME]
    commits.write(6, {name: commits.verified(6, name).read_bytes() for name in names})
    (folder / "log.jsonl").write_text("")
    assert check_run(folder).damaged == []
    trainer.train(small(9), folder, resume=True)


def test_litter_of_killed_processes_is_removed_at_the_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trainer.train(small(3), folder)
    litter = ["checkpoint.pt.part", ".tmpAb3dE9", "state-2.safetensors.part", ".summary.json.elsewhere-12-0.part"]
    for name in litter:
        (folder / name).touch()
    (folder / "checkpoints" / ".6.elsewhere-12-0.part").mkdir()
    (folder / ".tmp_of_mine").touch()
    trainer.train(small(6), folder, resume=True)
    names = {path.name for path in folder.rglob("*")}
    assert not names & {*litter, ".6.elsewhere-12-0.part"}
    assert ".tmp_of_mine" in names


def test_results_without_a_checkpoint_are_not_overwritten(tmp_path: Path) -> None:
    trainer.train(small(3), tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ValueError, match="holds results but no checkpoint; --overwrite begins the run anew"):
        trainer.train(small(6), tmp_path / "run", resume=True)


def test_a_run_of_version_0_1_goes_on_and_is_brought_into_the_new_form(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN / "run-0.1", folder)
    config, model = checkpoint.load_run(folder)
    longer = replace(config, train=replace(config.train, steps=9))
    old = torch.load(folder / "checkpoint.pt", weights_only=True)
    summary = trainer.train(config, folder, resume=True)
    assert summary["accuracy"] == pytest.approx(0.1371237, rel=1e-3)
    for name, want in content(folder)["model"].items():
        assert torch.equal(old["model"][name], want), "no update was made"
    trainer.train(longer, folder, resume=True)
    trainer.train(longer, tmp_path / "whole")
    names = {path.name for path in folder.iterdir()}
    assert "checkpoints" in names
    assert not names & {"checkpoint.pt", "state-6.safetensors"}
    assert json.loads((folder / "config.json").read_text())["format"] == 2
    assert content(folder)["standing"]["step"] == 9
    assert set(old["model"]) == set(model.state_dict())
    for name, want in content(tmp_path / "whole")["model"].items():
        torch.testing.assert_close(content(folder)["model"][name], want, rtol=1e-3, atol=1e-4)
