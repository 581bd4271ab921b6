"""The options of a run are read back from config.json unchanged, for tasks with fields of any type."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from reminding.disk.fields import from_plain, plain
from reminding.disk.records import read_json, write_json
from reminding.lab.runs.config import ModelOptions, RunConfig, command, load_task
from reminding.lab.runs.evaluation import EvalOptions
from reminding.tasks import TASKS, Copying
from reminding.tasks.kinds.facts import Informed
from tests.lab.conftest import small


@dataclass(frozen=True)
class Corpus(Informed):
    """A task with paths of every kind; none of them is called data, test or data_dir."""

    name: ClassVar[str] = "corpus"
    streamed: ClassVar[bool] = False

    vocabulary: Path
    notes: Path | None = None
    parts: tuple[Path, ...] = ()
    pair: tuple[Path, int] | None = None
    source: str | Path = "text"
    label: str = "runs"
    sizes: tuple[int, ...] = (1,)
    kind: Literal["a", "b"] | None = None
    folder: Path = Path("somewhere")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "corpus", Corpus)


FULL = Corpus(
    vocabulary=Path("/data/words"),
    notes=Path("/data/notes"),
    parts=(Path("/data/a"), Path("/data/b")),
    pair=(Path("/data/c"), 3),
    label="/data/d",
    sizes=(4, 5),
    kind="b",
    folder=Path("/data/e"),
)


@pytest.mark.parametrize("task", [FULL, Corpus(Path("/data/words"), folder=Path("/data/e"))], ids=["all", "defaults"])
def test_paths_of_any_name_are_read_back_as_paths(task: Corpus, tmp_path: Path) -> None:
    RunConfig(task).save(tmp_path / "config.json")
    assert RunConfig.load(tmp_path / "config.json").task == task


def test_paths_are_written_absolute_wherever_they_stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    options = plain(Corpus(Path("words"), parts=(Path("a"), Path("/b")), pair=(Path("c"), 1)))
    assert options["vocabulary"] == str(tmp_path / "words")
    assert options["parts"] == [str(tmp_path / "a"), "/b"]
    assert options["pair"] == [str(tmp_path / "c"), 1]
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where data_dir=Path("~/data") is read from
    assert plain(Corpus(Path("~/words")))["vocabulary"] == str(tmp_path / "home" / "words")
    assert json.loads(json.dumps(options)) == options


def test_a_default_path_is_not_typed() -> None:
    assert command(RunConfig(Corpus(Path("/w")))) == ["train", "corpus", "--vocabulary", "/w"]
    assert command(RunConfig(Corpus(Path("/w"), parts=(Path("/a"), Path("/b")))))[4:] == ["--parts", "/a", "/b"]


def test_a_tuple_of_the_wrong_length_is_no_option() -> None:
    with pytest.raises(ValueError, match="pair must have 2 values, got 1"):
        from_plain(Corpus, {"vocabulary": "/w", "pair": ["/c"]})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "foo"}, r"model must be one of \['sab', .*, got 'foo'"),
        ({"model": None}, "model must be one of .*, got None"),
        ({"hidden_size": "8"}, "hidden_size must be an integer, got '8'"),
        ({"num_layers": True}, "num_layers must be an integer, got True"),
        ({"k_top": None}, "k_top must be an integer, got None"),
        ({"k_att": 1.5}, "k_att must be an integer or None, got 1.5"),
        ({"dropout": "much"}, "dropout must be a number, got 'much'"),
        ({"backtrack": "no"}, "backtrack must be true or false, got 'no'"),
        ({"cell": 3}, "cell must be a text, got 3"),
        ({"forget_bias": [1]}, r"forget_bias must be a number or a text or None, got \[1\]"),
        ({"depth": 2}, "there is no option 'depth'"),
    ],
)
def test_a_value_of_another_type_than_its_option_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        from_plain(ModelOptions, options)


@pytest.mark.parametrize("options", [{"dropout": 1}, {"forget_bias": "chrono:9"}, {"k_att": None}, {"k_att": 3}])
def test_a_value_of_a_type_of_its_option_is_taken(options: dict[str, object]) -> None:
    assert vars(from_plain(ModelOptions, options)).items() >= options.items()


@pytest.mark.parametrize("parts", ["/a", ["/a", 3], [None]])
def test_members_of_another_type_are_refused(parts: object) -> None:
    with pytest.raises(ValueError, match="parts must be a list, got"):
        from_plain(Corpus, {"vocabulary": "/w", "parts": parts})


def test_a_task_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match=r"task must be one of .*, got 'corpora'"):
        load_task({"name": "corpora"})


def test_an_evaluation_is_typed_without_its_defaults() -> None:
    options = EvalOptions(sequences=5, capacity=3, evict="least_recalled")
    words = options.command(Path("run"), T=9)
    assert words == ["eval", "run", "--T", "9", "--sequences", "5", "--capacity", "3", "--evict", "least_recalled"]
    assert EvalOptions().command(Path("run")) == ["eval", "run"]


def test_an_evaluation_recognizes_its_record() -> None:
    task, options = Copying(T=9), EvalOptions(sequences=5, capacity=3)
    record = json.loads(json.dumps({"accuracy": 1.0, **options.record(task)}))
    assert options.matches(record, task)
    assert EvalOptions(sequences=5, capacity=3, batch_size=7, steps_at_once=2).matches(record, task)
    assert not options.matches(record, Copying(T=10))
    assert not EvalOptions(sequences=5).matches(record, task)
    assert not EvalOptions(sequences=6, capacity=3).matches(record, task)


def test_a_run_older_than_an_option_of_the_model_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    small().save(path)
    content = json.loads(path.read_text())
    content["model"] = {name: content["model"][name] for name in ("model", "hidden_size", "k_trunc")}
    del content["sealed"], content["checksum"]
    path.write_text(json.dumps(content))
    assert RunConfig.load(path) == small()


@pytest.mark.parametrize("option", ["sequences", "batch_size", "steps_at_once", "capacity"])
def test_an_evaluation_of_nothing_is_refused_by_name(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be an integer of at least 1"):
        EvalOptions(**{option: 0})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("given", [{"rare": 9}, {"distances": (5,)}])
def test_options_of_rare_words_without_by_distance_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(given))} is for by_distance"):
        EvalOptions(**given)
    EvalOptions(by_distance=True, **given)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("eval_every", 0),
        ("patience", 0),
        ("lr", 0.0),
        ("clip", -1.0),
        ("seed", -1),
        ("max_seconds", 0.0),
        ("anneal", 1.5),
        ("weight_decay", -0.1),
        ("weight_decay", math.inf),
        ("lr", math.inf),
        ("threads", 1025),
    ],
)
def test_options_out_of_range_are_named(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{option} must be"):
        small(**{option: value})


@pytest.mark.parametrize(
    ("semantics", "normalizer"), [("paper", "softmax"), ("release", None)], ids=["paper", "release"]
)
def test_a_run_of_version_0_1_keeps_the_defaults_it_was_trained_with(
    semantics: Literal["paper", "release"], normalizer: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    RunConfig(Copying(T=9), ModelOptions(hidden_size=64, semantics=semantics)).save(path)
    content = read_json(path)
    write_json(path, {**content, "format": 1})
    old = RunConfig.load(path).model
    assert (old.score_size, old.normalizer) == (64, normalizer)
    write_json(path, {**content, "format": 1, "model": {**content["model"], "score_size": 8}})
    assert RunConfig.load(path).model.score_size == 8


def test_options_of_numpy_are_saved_as_numbers(tmp_path: Path) -> None:
    task: Any = Copying(np.int64(5))  # pyright: ignore[reportArgumentType]
    options: dict[str, Any] = {"hidden_size": np.int64(3), "recall_scale": np.float32(0.5)}
    config = RunConfig(task, ModelOptions(**options))
    config.save(tmp_path / "config.json")
    found = RunConfig.load(tmp_path / "config.json")
    assert found == config and type(found.model.hidden_size) is int and type(found.model.recall_scale) is float
