"""Models and their folders: one that is missing is told as such, and no name of a repository is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

import reminding
from reminding.cli import main
from reminding.lab.predict.predictor import Predictor
from reminding.lab.runs.facts import check_own_data, save_facts
from reminding.lab.runs.runlog import LOG_NAME
from tests.lab.explain.conftest import untrained
from tests.lab.test_portable import rows_of, stream, write_table


@pytest.mark.parametrize("name", ["/none/at/all", "../none", "runs/mine/seed0"])
def test_a_folder_that_is_missing_is_told(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"there is no folder {name}; a model of the Hub is named as"):
        Predictor.from_pretrained(name)


def test_a_saved_run_says_that_it_has_no_data_to_be_evaluated_on(tmp_path: Path) -> None:
    run = untrained(tmp_path / "run", task := stream(write_table(tmp_path / "trained.csv", rows_of(0))))
    save_facts(run, task)
    reminding.load(run).save_pretrained(tmp_path / "saved")
    said = r"eval: .*saved was saved to be used without its training data; --data FILE evaluates another file"
    with pytest.raises(SystemExit, match=said):
        main(["eval", str(tmp_path / "saved")])


def test_a_saved_run_on_a_pattern_says_what_else_it_can_be_evaluated_on(tmp_path: Path) -> None:
    write_table(tmp_path / "trained.csv", rows_of(0))
    run = untrained(tmp_path / "run", task := stream(tmp_path / "*.csv"))
    save_facts(run, task)
    reminding.load(run).save_pretrained(tmp_path / "saved")
    with pytest.raises(SystemExit, match=r"eval: .*\*\.csv.*; --data FILE evaluates another file"):
        main(["eval", str(tmp_path / "saved")])


def test_a_model_is_not_saved_over_the_run_that_trained_it(tmp_path: Path) -> None:
    """The run then was refused by --resume and by eval, as one that was saved to be used without its data."""
    run = untrained(tmp_path / "run", task := stream(write_table(tmp_path / "trained.csv", rows_of(0))))
    save_facts(run, task)
    (run / LOG_NAME).write_text("")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(ValueError, match=r"^folder must not be that of a run, which could then not be resumed, got"):
        reminding.load(run).save_pretrained(run)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    check_own_data(task, run, "eval", "")


@pytest.mark.parametrize("option", ["revison", "device"])
def test_an_option_of_from_pretrained_that_there_is_not_is_refused(option: str, tmp_path: Path) -> None:
    """It was ignored, so that a revision spelt wrong loaded another model."""
    with pytest.raises(ValueError, match=f"^from_pretrained takes revision, cache_dir, .*token, got {option}$"):
        Predictor.from_pretrained(tmp_path, **{option: "v1"})
