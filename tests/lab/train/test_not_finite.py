"""Errors that are not finite: they are never the best, they end a run with a message, and files stay JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reminding.cli import main
from reminding.lab.report.writing import write_report
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.runlog import read_log
from reminding.lab.train import trainer
from reminding.tasks import Adding, Batch, Cue
from reminding.tasks.kinds.tallies import Columns, ColumnTally
from tests.lab.conftest import small

NAN, INF = float("nan"), float("inf")


def refuse(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


def summary_of(folder: Path) -> dict[str, Any]:
    """The summary, read as JSON without Python's additions to it."""
    return json.loads((folder / "summary.json").read_text(), parse_constant=refuse)


def spoil(monkeypatch: pytest.MonkeyPatch, **instead: list[float]) -> None:
    """Give the first evaluations of a split these errors in the place of their own."""
    real = trainer.evaluate

    def evaluated(model: Any, task: Any, split: Any, **options: Any) -> dict[str, float]:
        found, left = real(model, task, split, **options), instead.get(split, [])
        return {**found, "mse": left.pop(0)} if left else found

    monkeypatch.setattr(trainer, "evaluate", evaluated)


@pytest.mark.parametrize("first", [[NAN], [INF, NAN], [NAN, INF]])
def test_an_evaluation_that_is_not_finite_is_not_the_best(
    first: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, valid=list(first))
    summary = trainer.train(small(12, task=Adding(T=4)), tmp_path / "run")
    values = {record["step"]: record["mse"] for record in read_log(tmp_path / "run") if record["kind"] == "valid"}
    finite = {step: value for step, value in values.items() if math.isfinite(value)}
    assert len(values) == len(finite) + len(first) == 4
    assert summary["best_step"] == min(finite, key=lambda step: finite[step])
    assert summary["valid_mse"] == min(finite.values())


@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_test_that_is_not_finite_is_an_error_and_null_in_the_summary(
    bad: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, test=[bad], valid=[NAN] * 9)
    config = small(3, task=Adding(T=4))
    with pytest.raises(trainer.NotFiniteError, match=rf"the mse of the test is {bad}; the weights and the summary"):
        trainer.train(config, tmp_path / "run")
    assert summary_of(tmp_path / "run")["mse"] is None
    assert summary_of(tmp_path / "run")["valid_mse"] is None
    report = write_report([tmp_path / "run"], tmp_path / "report")
    assert "no run has a result yet" in report.sentences[0]
    spoil(monkeypatch, test=[bad])
    unchecked = RunConfig(config.task, config.model, replace(config.train, check_finite=False))
    assert trainer.train(unchecked, tmp_path / "unchecked")["mse"] is None


def test_the_command_line_ends_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, test=[NAN])
    words = f"train adding --T 4 --steps 1 --hidden-size 4 --batch-size 2 --test-sequences 2 --out {tmp_path / 'run'}"
    with pytest.raises(SystemExit, match="reminding: the mse of the test is nan"):
        main([*words.split(), "--eval-sequences", "2", "--device", "cpu"])


def test_a_prediction_that_is_not_a_number_is_no_error_of_zero() -> None:
    tally = ColumnTally(Columns(("a", "b"), lambda input: input, torch.zeros(2).numpy(), torch.ones(2).numpy(), None))
    input, target = torch.zeros(3, 1, 2), torch.tensor([[[1.0, NAN]], [[1.0, 1.0]], [[1.0, 1.0]]])
    prediction = torch.zeros(3, 1, 2)
    prediction[1, 0, 0] = NAN
    tally.add(prediction, Batch(input, target, None))
    found = tally.record()["columns"]
    assert found["a"]["model"] == {"rmse": None, "mae": None}
    assert found["b"]["model"] == {"rmse": 1, "mae": 1}
    assert found["a"]["unchanged"] == {"rmse": 1, "mae": 1}


def test_chunks_without_an_answer_leave_no_bare_nan_in_the_log(tmp_path: Path) -> None:
    """They have no loss; NaN is not JSON, and other programs stop at it."""

    def refused(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    config = small(steps=4, task=Cue(lag=60, gap=4, chunk=6), eval_every=2, eval_sequences=40, test_sequences=40)
    config = replace(config, model=replace(config.model, capacity=8, normalizer="softmax1"))
    trainer.train(config, tmp_path / "run")
    trainer.train(replace(config, train=replace(config.train, steps=6)), tmp_path / "run", resume=True)
    records = [
        json.loads(line, parse_constant=refused) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()
    ]
    trained = [record for record in records if record["kind"] == "train"]
    assert len(trained) >= 3
    assert any("loss" not in record for record in trained)
    json.loads((tmp_path / "run/summary.json").read_text(), parse_constant=refused)
    write_report([tmp_path / "run"], tmp_path / "report")
