"""`reminding check`: damaged files are named, with what is lost and what can be done."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from reminding.cli import main
from reminding.disk.lock import locked
from reminding.disk.records import read_json, write_json
from reminding.lab.report.check import check_run
from reminding.lab.runs import checkpoint
from reminding.lab.train import trainer
from tests.lab.conftest import small
from tests.places import GOLDEN


def damage(path: Path) -> None:
    """Change a letter; the last of seventeen digits would leave a number what it is, which is no damage."""
    raw = bytearray(path.read_bytes())
    letters = (at for at in range(len(raw) // 3, len(raw)) if chr(raw[at]).isalpha())
    at = raw.rfind(b'"step": ') + 8 if path.suffix == ".jsonl" else next(letters)
    raw[at] ^= 1
    path.write_bytes(raw)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.parent.name != "tensorboard")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run with a further test."""
    shutil.copytree(finished, tmp_path / "run")
    checkpoint.add_evaluation(tmp_path / "run", {"accuracy": 0.5, "step": 3})
    return tmp_path / "run"


def test_a_sound_run_is_said_to_be_one_and_left_as_it_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in files_of(run)}
    main(["check", str(run)])
    shown = capsys.readouterr().out
    assert "The run has finished. It can go on from update 6." in shown
    assert shown.count(" ok") == 8
    assert before == {path: path.read_bytes() for path in files_of(run)}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("config.json", "its options are lost"),
        ("facts.json", "delete the file, and they are read again"),
        ("log.jsonl", "these records are lost; --resume keeps the others"),
        ("eval.jsonl", "`reminding eval` makes them again"),
        ("summary.json", "--resume tests again"),
        ("model.safetensors", "--resume restores it from a checkpoint"),
        ("checkpoints/6/training.safetensors", "It can go on from update 3; the updates from there to 6 are lost"),
        ("checkpoints/6/manifest.json", "It can go on from update 3"),
        ("checkpoints/3/model.safetensors", "It can go on from update 6."),
    ],
)
def test_a_damaged_file_is_named_with_what_is_lost(
    run: Path, name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(run / name)
    with pytest.raises(SystemExit, match=r"reminding: 1 of \d+ files of .*run are damaged"):
        main(["check", str(run)])
    assert [file.name for file in check_run(run).damaged] == [name]
    assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [("model", "model", "foo"), ("model", "hidden_size", -3), ("train", "lr", "much"), ("task", "T", None)],
)
def test_options_that_no_command_takes_are_named(
    run: Path, part: str, name: str, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is whole, but no run has such options: an editor wrote it, or another version."""
    config = read_json(run / "config.json")
    write_json(run / "config.json", {**config, part: {**config[part], name: value}})
    assert [file.name for file in check_run(run).damaged] == ["config.json"]
    with pytest.raises(SystemExit, match=r"reminding: 1 of \d+ files of .*run are damaged"):
        main(["check", str(run)])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"{name} must be" in shown
    assert "The run cannot be resumed as it is." in shown


def without_weights(run: Path) -> None:
    (run / "model.safetensors").unlink()


def without_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def with_damaged_checkpoints(run: Path) -> None:
    for path in run.rglob("training.safetensors"):
        damage(path)


def with_an_unfinished_file(run: Path) -> None:
    (run / ".log.jsonl.elsewhere-1-0.part").touch()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without_weights, "model.safetensors: --resume restores it"),
        (without_checkpoints, "cannot go on, but its weights can be used"),
        (with_damaged_checkpoints, "cannot go on, but its weights can be used"),
        (with_an_unfinished_file, "1 unfinished files of killed processes"),
    ],
)
def test_what_is_missing_is_told(run: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(run)
    assert any(said in finding for finding in check_run(run).findings)


def test_a_summary_of_other_weights_is_told(run: Path) -> None:
    summary = checkpoint.read_summary(run)
    checkpoint.write_summary(run, {**summary, "best_step": 1})
    step = summary["best_step"]
    said = f"summary.json is of the weights of update 1, model.safetensors of update {step}; --resume tests again."
    assert said in check_run(run).findings


def test_what_resume_is_said_to_restore_it_restores(run: Path) -> None:
    for name in ("summary.json", "model.safetensors", "checkpoints/6/training.safetensors"):
        damage(run / name)
    trainer.train(small(), run, resume=True)
    assert not check_run(run).damaged


def test_a_run_in_use_and_a_folder_that_is_none(run: Path) -> None:
    with locked(run):
        assert check_run(run).findings[0].startswith("The run is in use by process ")
    with pytest.raises(SystemExit, match=r"is not a run: it has no config\.json"):
        main(["check", str(run / "checkpoints")])


def test_a_run_of_version_0_1(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "run-0.1", tmp_path / "run")
    found = check_run(tmp_path / "run")
    assert not found.damaged
    assert found.findings == ["It is of version 0.1, and can go on from its checkpoint, which has no checksums."]
    damage(tmp_path / "run" / "model.safetensors")  # a number, which nothing can tell without a checksum
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"no archive")
    assert [file.name for file in check_run(tmp_path / "run").damaged] == ["checkpoint.pt"]
