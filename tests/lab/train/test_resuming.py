"""What a resumed run may change: how long it goes on, and what ends it early."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from reminding.cli import main
from reminding.lab.paper.reproduce import progress
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig
from reminding.lab.train import trainer
from tests.lab.conftest import small
from tests.lab.stream_runs import content


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


def test_fewer_updates_than_were_made_are_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    trainer.train(small(9), tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    message = r"^steps: .*run has made 9 updates, and 6 are asked for; --resume goes on from update 9, so"
    with pytest.raises(ValueError, match=message):
        trainer.train(small(6), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    assert trainer.train(small(9), tmp_path / "run", resume=True)["steps"] == 9


def test_an_experiment_goes_on_with_a_run_whose_target_is_another(tmp_path: Path) -> None:
    config = small(12, target=0.0)
    trainer.train(config, tmp_path / "run")
    assert progress(tmp_path / "run", config) == "done"
    lifted = replace(config, train=replace(config.train, target=None))
    assert progress(tmp_path / "run", lifted) == "begun"
    trainer.train(lifted, tmp_path / "run", resume=True)
    assert progress(tmp_path / "run", lifted) == "done"
    assert checkpoint.read_summary(tmp_path / "run")["steps"] == 12
