"""`reminding eval RUN --by-distance`: what it shows and records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reminding import cli
from reminding.lab.runs import checkpoint
from reminding.lab.runs.evaluation import EvalOptions
from reminding.lab.train.evaluate import evaluate
from reminding.tasks import DATASETS, Text8
from reminding.tasks.data.datasets import Dataset
from reminding.tasks.delayed.repeats import RareRepeats

SMALL = ["--hidden-size", "8", "--steps", "2", "--eval-sequences", "2", "--test-sequences", "2", "--chunk", "20"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on 4,000 characters of a made-up text8."""
    words = ["a", "rare", "word", "and", "a", "rare", "bird", "saw", "the", "word", "and", "the", "bird", "again"]
    text = " ".join(words[(7 * i * i + i) % len(words)] + " " + "z" * (i % 9 + 1) for i in range(900))[:4000]
    (tmp_path / "text8").write_bytes(text.encode())
    whole = DATASETS["text8"]
    monkeypatch.setitem(DATASETS, "text8", Dataset("text8", "tiny", "none", whole.urls, whole.files, whole.archive))
    out = tmp_path / "run"
    cli.main(["train", "text8", "--data-dir", str(tmp_path), "--prefix", "4000", *SMALL, "--out", str(out)])
    return out


def test_the_groups_are_shown_and_recorded(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["eval", str(run), "--by-distance", "--rare", "400", "--distances", "10", "30", "--eval-rows", "2"])
    shown = capsys.readouterr().out
    config, model = checkpoint.load_run(run)
    (record,) = checkpoint.read_evaluations(run)
    assert record["by_distance"] == {"rare": 400, "distances": [10, 30]}
    assert isinstance(config.task, Text8)
    judged = RareRepeats(Text8(config.task.data_dir, 20, 2, 4000), 400, (10, 30))
    wanted = evaluate(model, judged, "test", batch_size=100)
    for name, value in wanted.items():
        assert record[name] == pytest.approx(value, rel=1e-6), name
        assert f"{value:.4f}" in shown
    sizes = judged.sizes("test")
    assert sum(size.words > 0 for size in sizes) >= 3
    for size in sizes:
        assert (f"bits_{size.name}" in wanted) == (size.words > 0)
        (line,) = [line for line in shown.splitlines() if f"bits_{size.name} " in line]
        assert f" {size.words} " in line and f" {size.characters} " in line


def test_an_evaluation_by_distance_is_not_the_usual_one(run: Path) -> None:
    cli.main(["eval", str(run), "--by-distance"])
    (record,) = checkpoint.read_evaluations(run)
    task = checkpoint.load_run(run)[0].task
    assert EvalOptions(by_distance=True).matches(record, task)
    assert not EvalOptions(by_distance=True, rare=9).matches(record, task)
    assert not EvalOptions().matches(record, task)
    assert not EvalOptions(by_distance=True).matches(json.loads("{}"), task)


def test_other_tasks_have_no_words(finished: Path) -> None:
    with pytest.raises(SystemExit, match="by_distance is for runs on ptb, text8 or enwik8, got a run on copying"):
        cli.main(["eval", str(finished), "--by-distance"])
