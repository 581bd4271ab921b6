"""`reminding train`: a preset runs the command that it prints."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from reminding import cli
from reminding.disk.fields import plain
from reminding.lab.paper.experiments import EXPERIMENTS
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import ModelOptions, RunConfig, TrainOptions, command
from reminding.lab.verbs import commands
from reminding.tasks import Copying, Cue


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_what_is_typed_is_what_is_run(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    typed: list[RunConfig] = []

    def note(task: object, model: ModelOptions, train: TrainOptions, out: Path | None, **_: bool) -> None:
        typed.append(RunConfig(task, model, train))

    monkeypatch.setattr(commands, "train", note)
    runs = [run for setting in EXPERIMENTS[name](tmp_path, True).settings for run in setting.runs.values()]
    for run in runs:
        cli.main(command(run))
    assert list(map(essential, typed)) == list(map(essential, runs))


def essential(config: RunConfig) -> RunConfig:
    """A configuration with what its model does not read, which commands leave out, at the defaults.

    A task whose training has defaults of its own is typed with options of a class of its own.
    """
    return replace(config.essential(), train=TrainOptions(**plain(config.train)))


def test_options_of_every_kind_are_typed_as_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    typed: list[RunConfig] = []

    def note(task: object, model: ModelOptions, train: TrainOptions, out: Path | None, **_: bool) -> None:
        typed.append(RunConfig(task, model, train))

    monkeypatch.setattr(commands, "train", note)
    model = ModelOptions(k_trunc=None, backtrack=False, dropout=0.25, num_layers=2, capacity=None)
    runs = [
        RunConfig(Copying(T=7), model, TrainOptions(lr=1e-4, check_finite=False, eval_sequences=None)),
        RunConfig(
            Cue(lag=40), ModelOptions(capacity=3, k_top=2, horizon=0), TrainOptions(device="cpu", threads=None)
        ),
        RunConfig(Copying(T=7), ModelOptions(model="lstm", forget_bias="chrono:120", embedding_size=4)),
        RunConfig(Copying(T=7), ModelOptions(model="tbptt", forget_bias=-1.5)),
        RunConfig(Copying(T=7), ModelOptions(normalizer="softmax1", null_score=1.0, score_size=3)),
        RunConfig(Copying(T=7), ModelOptions(summary_gate=0.0, stored="proposal")),
    ]
    for run in runs:
        cli.main(command(run))
    assert typed == runs


@pytest.mark.parametrize(
    ("model", "options"),
    [("sab", ["--score-size", "16"]), ("transformer", ["--positions", "t5", "--num-layers", "2"]), ("rtu", [])],
)
def test_a_hidden_size_is_chosen_for_a_number_of_parameters(
    model: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["train", "copying", "--T", "5", "--model", model, *options, "--parameters", "12000", "--steps", "1"]
    cli.main([*words, "--eval-sequences", "2", "--test-sequences", "2", "--out", str(out)])
    summary = checkpoint.read_summary(out)
    assert summary["parameters"] == pytest.approx(12_000, rel=0.03)
    chosen = RunConfig.load(out / checkpoint.CONFIG_NAME).model.hidden_size
    assert f"hidden_size {chosen}: {summary['parameters']:,} parameters" in capsys.readouterr().out


@pytest.mark.parametrize("size", [["--hidden-size", "8"], ["--hidden-size=8"], ["--hidden_size", "8"]])
@pytest.mark.parametrize("verb", [["train", "copying"], ["sweep", "copying", "--space", "space.toml"]])
def test_a_number_of_parameters_and_a_hidden_size_exclude_each_other(verb: list[str], size: list[str]) -> None:
    message = "--parameters 12000 chooses the hidden size, and --hidden-size 8 gives one; leave one of them out"
    with pytest.raises(SystemExit, match=message):
        cli.main([*verb, *size, "--parameters", "12000"])


def test_no_parameters_are_refused() -> None:
    with pytest.raises(SystemExit, match="parameters must be an integer of at least 1, got 0"):
        cli.main(["train", "copying", "--parameters", "0"])


def test_resume_and_overwrite_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="resume and overwrite exclude each other"):
        cli.main(["train", "adding", "--T", "10", "--resume", "--overwrite", "--out", str(tmp_path / "run")])


def test_a_folder_that_cannot_be_made_is_no_run_to_resume(tmp_path: Path) -> None:
    """A link to nowhere, say: `--resume` was advised, and failed again."""
    (tmp_path / "run").symlink_to(tmp_path / "nowhere" / "run")
    small = ["--T", "10", "--hidden-size", "4", "--steps", "2", "--eval-every", "2", "--eval-sequences", "4"]
    with pytest.raises(SystemExit, match=r"run: it is a link to nothing, and a folder is needed$"):
        cli.main(["train", "adding", *small, "--out", str(tmp_path / "run")])


def test_a_run_that_could_not_be_saved_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(SystemExit, match="saving and loading need safetensors: pip install"):
        cli.main(["train", "copying", "--T", "4", "--steps", "1000000", "--out", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()
