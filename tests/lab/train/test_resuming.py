"""What a resumed run may change: how long it goes on, and what ends it early."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reminding.cli import main
from reminding.lab.paper.reproduce import progress
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.records import Run
from reminding.lab.train import trainer
from reminding.tasks import Cue
from tests.lab.conftest import small
from tests.lab.stream_runs import assert_same_run, content
from tests.lab.stream_runs import small as streaming

CUE = Cue(lag=7, gap=3, chunk=6, noise=0.2)


def assert_same_weights(first: Path, second: Path) -> None:
    one, other = content(first)["model"], content(second)["model"]
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("anneal", [0.0, 0.5])
@pytest.mark.parametrize("target", [None, 2.0])
def test_a_target_that_was_reached_can_be_lifted(target: float | None, anneal: float, tmp_path: Path) -> None:
    """The run goes on to the numbers of one that never had this target."""
    trainer.train(small(12, anneal=anneal, target=target), tmp_path / "whole")
    early = trainer.train(small(12, anneal=anneal, target=0.0), tmp_path / "run")
    assert (early["stopped"], early["steps"]) == ("target", 3)
    summary = trainer.train(small(12, anneal=anneal, target=target), tmp_path / "run", resume=True)
    assert (summary["stopped"], summary["steps"]) == ("steps", 12)
    assert_same_weights(tmp_path / "run", tmp_path / "whole")
    assert RunConfig.load(tmp_path / "run" / "config.json").train.target == target


def test_a_target_that_stays_reached_ends_the_run_where_it_is(tmp_path: Path) -> None:
    trainer.train(small(12, target=0.0), tmp_path / "run")
    for target in (0.0, -1.0):
        summary = trainer.train(small(12, target=target), tmp_path / "run", resume=True)
        assert (summary["stopped"], summary["steps"]) == ("target", 3)


def test_patience_can_be_raised(tmp_path: Path) -> None:
    first = trainer.train(small(30, lr=1e-12, patience=2), tmp_path / "run")
    assert (first["stopped"], first["steps"]) == ("patience", 9)
    same = trainer.train(small(30, lr=1e-12, patience=2), tmp_path / "run", resume=True)
    assert (same["stopped"], same["steps"]) == ("patience", 9)
    more = trainer.train(small(30, lr=1e-12, patience=4), tmp_path / "run", resume=True)
    assert (more["stopped"], more["steps"]) == ("patience", 15)
    none = trainer.train(small(30, lr=1e-12), tmp_path / "run", resume=True)
    assert (none["stopped"], none["steps"]) == ("steps", 30)


def test_the_command_line_lifts_a_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "copying", "--T", "4", "--symbols", "2", "--hidden-size", "8", "--batch-size", "4"]
    words += ["--eval-every", "2", "--eval-sequences", "4", "--test-sequences", "4", "--device", "cpu"]
    words += ["--steps", "6", "--out", str(tmp_path / "run")]
    main([*words, "--target", "0"])
    assert "2 updates in" in capsys.readouterr().out
    main([*words, "--resume"])
    assert "6 updates in" in capsys.readouterr().out


def test_a_folder_without_a_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A job that was killed before its first checkpoint begins again by the same command; so does a misspelt name."""
    said = f"there is no run to resume in {tmp_path / 'run'}: a new one begins"
    for expected in (True, False):
        trainer.train(small(3), tmp_path / "run", resume=True)
        shown = "".join(capsys.readouterr().out.split())
        assert ("".join(said.split()) in shown) == expected


def test_fewer_updates_than_were_made_are_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    trainer.train(small(9), tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    message = r"^steps: .*run has made 9 updates, and 6 are asked for; --resume goes on from update 9, so"
    with pytest.raises(ValueError, match=message):
        trainer.train(small(6), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    assert trainer.train(small(9), tmp_path / "run", resume=True)["steps"] == 9


@pytest.mark.parametrize("before", [None, 1000.0])
def test_less_time_than_was_spent_is_refused_and_nothing_is_changed(before: float | None, tmp_path: Path) -> None:
    """A limit is on the time of the whole run: with less, a resumed run would end before its first update."""
    spent = trainer.train(small(6, max_seconds=before), tmp_path / "run")["seconds"]
    config = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(
        ValueError, match=r"^max_seconds: .*run has trained for .* s, and .* s are asked for; the limit"
    ):
        trainer.train(small(9, max_seconds=spent / 2), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "config.json").read_bytes() == config
    assert trainer.train(small(9, max_seconds=spent + 1000), tmp_path / "run", resume=True)["steps"] == 9


def test_a_run_without_time_left_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small(1000, max_seconds=1e-6)
    trainer.train(config, tmp_path / "run")
    capsys.readouterr()
    assert trainer.train(config, tmp_path / "run", resume=True)["steps"] == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "and the limit of 1e-06 s is on the time of the whole run: no more updates are made" in shown


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (small(6), small(9)),
        (small(9, target=0.0), small(9)),
        (small(9, target=0.0), small(9, target=2.0)),
        (small(30, lr=1e-12, patience=1), small(30, lr=1e-12, patience=3)),
    ],
    ids=["steps", "no target", "another target", "patience"],
)
def test_the_results_before_are_not_those_of_a_run_that_goes_on(
    first: RunConfig, second: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    assert trainer.train(first, folder)["stopped"] in ("steps", "target", "patience")
    assert progress(folder, first) == "done"

    def killed(*_: object) -> None:
        assert Run.read(folder).test is None
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "learn", killed)
        with pytest.raises(Killed):
            trainer.train(second, folder, resume=True)
    assert progress(folder, second) == "begun"
    trainer.train(second, folder, resume=True)
    assert progress(folder, second) == "done"


def test_results_stay_where_a_run_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer.train(small(6), tmp_path / "run")
    summary = checkpoint.read_summary(tmp_path / "run")

    def killed(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(trainer, "evaluate", killed)
    with pytest.raises(Killed):
        trainer.train(small(6), tmp_path / "run", resume=True)
    assert checkpoint.read_summary(tmp_path / "run") == summary


def test_a_further_test_of_earlier_weights_counts_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["train", "adding", "--T", "4", "--hidden-size", "8", "--batch-size", "4", "--eval-every", "2"]
    words += ["--eval-sequences", "4", "--test-sequences", "4", "--device", "cpu", "--lr", "0.01"]
    words += ["--out", str(folder)]
    main([*words, "--steps", "2"])
    main(["eval", str(folder), "--T", "8", "--sequences", "4"])
    (test,) = Run.read(folder).evaluations
    assert test["best_step"] == checkpoint.read_summary(folder)["best_step"] == 2
    main([*words, "--steps", "40", "--resume"])
    assert checkpoint.read_summary(folder)["best_step"] > 2
    assert Run.read(folder).evaluations == checkpoint.read_evaluations(folder) == []
    main(["eval", str(folder), "--T", "8", "--sequences", "4"])
    assert len(Run.read(folder).evaluations) == len(checkpoint.read_evaluations(folder)) == 1


def test_a_run_that_was_interrupted_has_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    learn = trainer.learn

    def asked(run: Any, whole: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return learn(run, whole)

    monkeypatch.setattr(trainer, "learn", asked)
    assert trainer.train(small(6), tmp_path / "run")["stopped"] == "interrupted"
    main(["check", str(tmp_path / "run")])
    shown = capsys.readouterr().out
    assert "It can go on from update 1." in shown
    assert "finished" not in shown


def test_a_second_request_does_not_end_a_run_before_it_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a scheduler that asks all processes, of which one then asks the processes that it has started."""
    learn, save = trainer.learn, checkpoint.save_checkpoint
    ends: list[int] = []

    def asked(run: Any, whole: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return learn(run, whole)

    def asked_again(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        save(*arguments)

    monkeypatch.setattr(trainer, "learn", asked)
    monkeypatch.setattr(checkpoint, "save_checkpoint", asked_again)
    before = signal.signal(signal.SIGTERM, lambda number, _: ends.append(number))
    try:
        assert trainer.train(small(6), tmp_path / "run")["stopped"] == "interrupted"
    finally:
        signal.signal(signal.SIGTERM, before)
    assert ends == []
    assert content(tmp_path / "run")["standing"]["step"] == 1


@pytest.mark.parametrize("credit_every", [1, 4])
def test_a_run_that_ends_where_it_was_interrupted_is_one_of_so_many_updates(
    credit_every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last updates are logged, evaluated and settled, also where this is killed before it is saved."""

    def of(steps: int) -> RunConfig:
        config = streaming(CUE, steps)
        return replace(config, model=replace(config.model, credit_every=credit_every, horizon=20))

    learn, save = trainer.learn, checkpoint.save_checkpoint

    def asked(run: Any, whole: Any) -> Any:
        if run.standing.step == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return learn(run, whole)

    def killed(*_: object) -> None:
        raise Killed

    trainer.train(of(8), tmp_path / "whole")
    monkeypatch.setattr(trainer, "learn", asked)
    assert trainer.train(of(99), tmp_path / "run")["stopped"] == "interrupted"
    monkeypatch.setattr(checkpoint, "save_checkpoint", killed)
    with pytest.raises(Killed):
        trainer.train(of(8), tmp_path / "run", resume=True)
    monkeypatch.setattr(checkpoint, "save_checkpoint", save)
    trainer.train(of(8), tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_run_that_was_killed_after_an_evaluation_beyond_its_time_settles_its_credit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seconds(_run: Any, _began: float) -> float:
        return 4.0  # of each update, and of each evaluation

    monkeypatch.setattr(trainer.Run, "since", seconds)
    config = streaming(CUE, 99, max_seconds=14.0)
    config = replace(config, model=replace(config.model, credit_every=5, horizon=20))
    learn = trainer.learn

    def killed(run: Any, whole: Any) -> Any:
        if run.standing.step == 3:
            raise Killed
        return learn(run, whole)

    assert trainer.train(config, tmp_path / "whole")["steps"] == 4
    monkeypatch.setattr(trainer, "learn", killed)
    with pytest.raises(Killed):
        trainer.train(config, tmp_path / "run")
    monkeypatch.setattr(trainer, "learn", learn)
    trainer.train(config, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert trainer.train(config, tmp_path / "run", resume=True)["steps"] == 4


def test_an_experiment_goes_on_with_a_run_whose_target_is_another(tmp_path: Path) -> None:
    config = small(12, target=0.0)
    trainer.train(config, tmp_path / "run")
    assert progress(tmp_path / "run", config) == "done"
    lifted = replace(config, train=replace(config.train, target=None))
    assert progress(tmp_path / "run", lifted) == "begun"
    trainer.train(lifted, tmp_path / "run", resume=True)
    assert progress(tmp_path / "run", lifted) == "done"
    assert checkpoint.read_summary(tmp_path / "run")["steps"] == 12
