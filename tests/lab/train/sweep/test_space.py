"""A space file is read by the names and types of the command line's options, or refused with file, table and key."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from docs.command_pages import printed
from reminding.lab.runs.config import ModelOptions, RunConfig, TrainOptions
from reminding.lab.train.sweep.space import Dimension, Space, command_line_options
from reminding.tasks import TASKS, Copying


def read(tmp_path: Path, text: str) -> Space:
    path = tmp_path / "space.toml"
    path.write_text(text)
    return Space.read(path, Copying, ModelOptions)


def test_ranges_and_choices_have_the_types_of_their_options(space: Space) -> None:
    assert list(space.dimensions) == [
        Dimension("lr", "train", "lr", "float", 1e-3, 1e-1, log=True),
        Dimension("hidden_size", "model", "hidden_size", "int", 4, 16, step=4),
        Dimension("normalizer", "model", "normalizer", "choice", choices=(None, "softmax1")),
    ]
    assert [Dimension.of_record(name, told).record() for name, told in space.record().items()] == list(
        space.record().values()
    )


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("[hidden_size]\nlow = 1\nhigh = 10\nstep = 4", 9),
        ("[hidden_size]\nlow = 1\nhigh = 9\nstep = 4", 9),
        ("[lr]\nlow = 0.1\nhigh = 1\nstep = 0.3", 1),
        ("[lr]\nlow = 0.1\nhigh = 1.0\nstep = 0.4", 0.9),
    ],
)
def test_a_range_ends_at_a_step(tmp_path: Path, text: str, last: float) -> None:
    (dimension,) = read(tmp_path, text).dimensions
    assert dimension.high == pytest.approx(last, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[hiden-size]\nlow = 1\nhigh = 2", "hiden-size: there is no such option; did you mean hidden_size"),
        ("[lr]\nlow = 1", "lr: high is missing"),
        ("[lr]\nlow = 2\nhigh = 1", "lr: low must be below high, got 2 and 1"),
        ("[lr]\nlow = 0\nhigh = 1\nlog = true", "lr: low: lr must be above 0"),
        ("[anneal]\nlow = 0\nhigh = 1\nlog = true", "anneal: low must be above 0 on a logarithmic scale"),
        ("[lr]\nlow = 0.1\nhigh = 1\nlog = 1", "lr: log must be true or false, got 1"),
        (
            "[lr]\nlow = 0.1\nhigh = 1\nlogg = true",
            "lr: logg is not a key here; a range has low, high and",
        ),
        ("[lr]\nlow = 0.1\nhigh = 1\nlog = true\nstep = 0.1", "lr: step must be above 0, and is not for a log"),
        ("[lr]\nlow = 0.1\nhigh = inf", "lr: high must be finite, got inf"),
        (
            "[lr]\nchoices = [0.1, 1.0]",
            "lr: choices is not a key here; a range has low, high and perhaps",
        ),
        ("[hidden_size]\nlow = 4\nhigh = 8\nstep = 5", "hidden_size: step must be at most high - low, 4, got 5"),
        ("[hidden_size]\nlow = 1.5\nhigh = 3", "hidden_size: low must be an integer, got 1.5"),
        ("[hidden_size]\nlow = true\nhigh = 3", "hidden_size: low must be an integer, got True"),
        ("[backtrack]\nlow = 0\nhigh = 1", "backtrack: the option is not a number; give it a choice"),
        ("[normalizer]\nchoice = ['softmax', 'sotfmax1']", "normalizer: choice has 'sotfmax1', which"),
        ("[normalizer]\nchoice = ['softmax', 'softmax']", "normalizer: choice has a value twice"),
        ("[normalizer]\nchoice = ['softmax']", "normalizer: choice must be a list of at least two values"),
        (
            "[normalizer]\nchoice = ['softmax', 'None']\nlow = 1",
            "normalizer: low is not a key here; choice stands alone",
        ),
        ("[hidden_size]\nchoice = [8, 'None']", "hidden_size: choice has 'None', which the option cannot be"),
        ("[batch_size]\nlow = 0\nhigh = 4", "batch_size: low: batch_size must be an integer of at least 1"),
        ("[batch_size]\nchoice = [0, 4]", "batch_size: choice: batch_size must be an integer of at least 1"),
        ("[eval-every]\nlow = 1\nhigh = 4", "eval-every: trials that differ in this option cannot be compared"),
        (
            "[hidden-size]\nlow = 1\nhigh = 2\n[hidden_size]\nlow = 1\nhigh = 2",
            "hidden_size: the option is named twi",
        ),
        ("lr = 3", "lr: expected a table with low and high, or with choice, got 3"),
        ("", "names no option"),
        ("[lr", "is not a TOML file"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_table(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        read(tmp_path, text)
    assert str(tmp_path / "space.toml") in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="space: there is no file"):
        Space.read(tmp_path / "nothing.toml", Copying, ModelOptions)


def test_an_option_is_searched_or_given(space: Space) -> None:
    space.check_free(RunConfig(Copying()))
    with pytest.raises(ValueError, match=r"lr is 0\.5 on the command line, but the space searches it"):
        space.check_free(RunConfig(Copying(), train=TrainOptions(lr=0.5)))


MODELS = "[model]\nchoice = ['sab', 'lstm']\n"


@pytest.mark.parametrize(
    ("text", "model", "says"),
    [
        ("[k_top]\nlow = 1\nhigh = 3", {"model": "lstm"}, "k_top is for sab, not for lstm, and so in every trial"),
        ("[lr]\nlow = 0.1\nhigh = 1", {"model": "lstm", "capacity": 4}, "capacity is for sab, not for lstm"),
        ("[horizon]\nlow = 0\nhigh = 9", {}, "horizon is for streams"),
        (f"{MODELS}[positions]\nchoice = ['t5', 'none']", {}, "positions is for transformer, not for sab"),
        (f"{MODELS}[evict]\nchoice = ['fifo', 'least_recalled']", {}, "evict needs a capacity"),
    ],
)
def test_an_option_that_means_nothing_in_any_trial_is_refused(
    tmp_path: Path, text: str, model: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=f"^{says}"):
        read(tmp_path, text).check_read(RunConfig(Copying(), ModelOptions(**model)), model)


def test_an_option_that_means_something_in_some_trials_is_left_out_of_the_others(tmp_path: Path) -> None:
    space = read(tmp_path, f"{MODELS}[k_top]\nlow = 1\nhigh = 3")
    base = RunConfig(Copying(), ModelOptions(capacity=9))
    space.check_read(base, {"capacity"})
    configs = [space.config(base, {"model": model, "k_top": 2}).model for model in ("sab", "lstm")]
    assert configs == [replace(base.model, k_top=2), ModelOptions(model="lstm")]
    for config in configs:
        RunConfig(Copying(), config).check_read()


def test_values_become_options_of_all_three_parts(tmp_path: Path) -> None:
    space = read(tmp_path, "[T]\nlow = 3\nhigh = 9\n[k-top]\nlow = 1\nhigh = 3\n[lr]\nlow = 0.1\nhigh = 1")
    base = RunConfig(Copying(T=5, symbols=2), ModelOptions(hidden_size=7))
    expected = RunConfig(Copying(T=4, symbols=2), replace(base.model, k_top=2), replace(base.train, lr=0.5))
    assert space.config(base, {"T": 4, "k_top": 2, "lr": 0.5}) == expected


@pytest.mark.parametrize("task", ["copying", "series"])
def test_options_have_the_names_of_the_command_line(task: str) -> None:
    typed = set(re.findall(r"--([\w-]+)", printed(["sweep", task, "--help"])))
    options = command_line_options({"task": TASKS[task], "model": ModelOptions, "train": TrainOptions})
    assert {name.replace("_", "-") for name in options} <= typed
