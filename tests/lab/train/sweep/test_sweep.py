"""`reminding sweep` runs trials, prunes, survives errors, goes on, and writes what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reminding.cli import main
from reminding.disk.errors import CannotWriteError
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig
from reminding.lab.train.sweep import sweep as sweeping
from reminding.lab.train.sweep.record import SweepRecord
from reminding.lab.train.sweep.storage import Searching
from reminding.lab.train.sweep.sweep import Sweep
from tests.lab.train.sweep.conftest import FIXED


def words(space: Path, out: Path, *more: str, trials: int = 3) -> list[str]:
    return ["sweep", "copying", "--space", str(space), "--out", str(out), "--trials", str(trials), *FIXED, *more]


def test_a_sweep_from_nothing_to_its_best_trial_and_on(
    space_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    main(words(space_file, out))
    shown = capsys.readouterr().out
    assert "trials: 3 complete" in shown
    record = SweepRecord.load(out)
    assert (record.name, record.trials, record.metric) == ("copying-sab", 3, "accuracy")
    best = record.ranked()[0]
    assert f"best run: {out}/trials/{best.job}" in shown
    for each in record.attempts:
        config = RunConfig.load(out / "trials" / each.job / checkpoint.CONFIG_NAME)
        drawn = (config.train.lr, config.model.hidden_size, config.model.normalizer)
        assert drawn == (each.params["lr"], each.params["hidden_size"], each.params["normalizer"])
        summary = checkpoint.read_summary(out / "trials" / each.job)
        assert each.value == summary["valid_accuracy"]
        assert (each.notes["test"], each.notes["steps"]) == (summary["accuracy"], 6)
        assert sorted(each.intermediate) == [2, 4, 6]

    main(words(space_file, out, trials=4))
    assert capsys.readouterr().out.count("trial 000") == 1
    assert [each.job for each in SweepRecord.load(out).attempts] == ["0000", "0001", "0002", "0003"]
    with pytest.raises(SystemExit, match=r"begun with other options \(model\.k_top: 5 there, 2 here\)"):
        main(words(space_file, out, "--k-top", "2"))


def test_a_sweep_goes_on_after_an_update_that_brought_options(
    space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = Sweep.definition

    def of_before(self: Sweep) -> dict[str, Any]:
        lacking = ("task.balanced", "model.residual", "train.patience")
        return {name: value for name, value in definition(self).items() if name not in lacking}

    monkeypatch.setattr(Sweep, "definition", of_before)
    main(words(space_file, tmp_path / "out", trials=1))
    monkeypatch.setattr(Sweep, "definition", definition)
    main(words(space_file, tmp_path / "out", trials=2))
    assert len(SweepRecord.load(tmp_path / "out").attempts) == 2
    with pytest.raises(SystemExit, match=r"begun with other options \(task\.balanced: False there, True here\)"):
        main(words(space_file, tmp_path / "out", "--balanced"))


def test_a_trial_that_is_worse_than_others_ends_early_and_is_not_tested(
    space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worse(_: Searching) -> bool:
        return True

    monkeypatch.setattr(Searching, "should_prune", worse)
    with pytest.raises(SystemExit, match="no trial has a result"):
        main(words(space_file, tmp_path / "out", trials=1))
    (attempt,) = SweepRecord.load(tmp_path / "out").attempts
    summary = checkpoint.read_summary(tmp_path / "out" / "trials" / "0000")
    assert (attempt.state, attempt.value) == ("pruned", summary["valid_accuracy"])
    assert (summary["stopped"], summary["steps"], "accuracy" in summary) == ("pruned", 2, False)


def test_a_trial_that_cannot_run_stops_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = tmp_path / "space.toml"
    space.write_text("[cell]\nchoice = ['lstm', 'nothing:Here']\n")
    main(words(space, tmp_path / "out", "--sampler", "random", trials=6))
    assert "its module cannot be imported" in capsys.readouterr().out
    attempts = SweepRecord.load(tmp_path / "out").attempts
    assert {(each.params["cell"], each.state) for each in attempts} == {
        ("lstm", "complete"),
        ("nothing:Here", "failed"),
    }
    assert all("module cannot be imported" in each.notes["error"] for each in attempts if each.state == "failed")


def test_ctrl_c_gives_the_trial_back_and_the_same_command_goes_on(
    space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, train = tmp_path / "out", sweeping.trainer.train

    def stop(step: int, value: float) -> str:
        return "interrupted"

    def interrupted(config: RunConfig, folder: Path, **options: Any) -> dict[str, Any]:
        return train(config, folder, resume=options["resume"], judge=stop)

    monkeypatch.setattr(sweeping.trainer, "train", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(words(space_file, out, trials=1))
    assert ended.value.code == 130
    told = "stopped by Ctrl-C or another signal; the trial was given back, and the same command continues"
    assert told in capsys.readouterr().out
    assert checkpoint.read_summary(out / "trials" / "0000")["steps"] == 2
    monkeypatch.setattr(sweeping.trainer, "train", train)
    main(words(space_file, out, trials=1))
    first, second = SweepRecord.load(out).attempts
    assert (first.state, second.state, first.params) == ("void", "complete", second.params)
    assert checkpoint.read_summary(out / "trials" / "0000")["steps"] == 6
    assert sorted(second.intermediate) == [2, 4, 6]


def test_a_full_disk_ends_the_sweep_and_gives_the_trial_back(
    space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All trials failed one after the other, and were never tried again."""
    out, train = tmp_path / "out", sweeping.trainer.train

    def full(*_: Any, **__: Any) -> dict[str, Any]:
        raise CannotWriteError(out / "checkpoints", "No space left on device")

    monkeypatch.setattr(sweeping.trainer, "train", full)
    with pytest.raises(SystemExit, match="No space left on device; the same command goes on with the sweep"):
        main(words(space_file, out, trials=2))
    monkeypatch.setattr(sweeping.trainer, "train", train)
    main(words(space_file, out, trials=2))
    assert [each.state for each in SweepRecord.load(out).attempts] == ["void", "complete", "complete"]


def test_a_trial_that_cannot_be_saved_advises_no_option_that_a_sweep_lacks(
    space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer told of --resume."""
    out = tmp_path / "out"

    def full(*_: Any, **__: Any) -> None:
        raise CannotWriteError(out / "checkpoints", "No space left on device")

    monkeypatch.setattr(checkpoint, "save_checkpoint", full)
    advice = "No space left on device; no update of the run is saved yet; the same command begins it again"
    with pytest.raises(SystemExit, match=advice):
        main(words(space_file, out, trials=2))


def test_every_trial_has_the_number_of_parameters(space_file: Path, tmp_path: Path) -> None:
    space = tmp_path / "score.toml"
    space.write_text("[score-size]\nchoice = [4, 64]\n")
    main(words(space, tmp_path / "out", "--parameters", "20000", "--sampler", "random", trials=4))
    attempts = SweepRecord.load(tmp_path / "out").attempts
    assert {each.params["score_size"] for each in attempts} == {4, 64}
    assert all(abs(each.notes["parameters"] - 20_000) <= 600 for each in attempts)
    with pytest.raises(SystemExit, match="parameters determines hidden_size, which the space searches"):
        main(words(space_file, tmp_path / "other", "--parameters", "3000"))


def test_no_file_holds_the_password_of_a_database(
    space_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = f"sqlite://me:secret@/{tmp_path}/studies.db"
    monkeypatch.setattr("sys.argv", ["reminding", "sweep", "--storage", secret])
    plain = f"sqlite:///{tmp_path}/studies.db"
    main(words(space_file, tmp_path / "out", "--storage", plain, trials=1))
    told = [json.dumps(SweepRecord.load(tmp_path / "out").command)]
    told += [path.read_text() for path in (tmp_path / "out").rglob("*.json*")]
    assert not any("secret" in text for text in told)
    assert any("sqlite://me@/" in text for text in told)
