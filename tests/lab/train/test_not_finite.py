"""Errors that are not finite: they are never the best, they end a run with a message, and files stay JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from reminding.cli import main
from reminding.lab.explain.explanation import explain
from reminding.lab.explain.page import write_explanations
from reminding.lab.report.check import check_run
from reminding.lab.report.writing import write_report
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.records import read_runs
from reminding.lab.runs.runlog import read_log
from reminding.lab.train import trainer
from reminding.lab.train.finite import large_value
from reminding.nn.state.storage import load_tensors
from reminding.tasks import Adding, Batch, Cue, FileStream
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


def diverging(steps: int) -> RunConfig:
    """A run whose rate is far too high, and which is not checked."""
    config = small(steps, task=Cue(lag=7, gap=3, chunk=6), eval_every=3, eval_sequences=4, test_sequences=4)
    model = replace(config.model, capacity=4)
    return replace(config, model=model, train=replace(config.train, lr=1e30, check_finite=False))


def test_the_files_of_a_run_that_diverges_are_json_and_give_its_numbers_back(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer.train(diverging(9), run)
    lines = [json.loads(line, parse_constant=refuse) for line in (run / "log.jsonl").read_text().splitlines()]
    last = [record for record in read_log(run) if record["kind"] == "train"][-1]
    assert any(line.get("not_finite", {}).get("/loss") == "NaN" for line in lines)
    assert math.isnan(last["loss"]) and math.isnan(last["gradient_norm"]) and math.isnan(last["gradient_norm_max"])
    summary_of(run)
    assert check_run(run).damaged == []
    (read,), damaged = read_runs([run])
    assert not damaged
    assert math.isfinite(read.valid[-1].best)
    write_report([run], tmp_path / "report")
    write_explanations(explain(run), tmp_path / "pages", "run")
    for page in (tmp_path / "report" / "index.html", tmp_path / "pages" / "index.html"):
        texts = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page.read_text(), re.DOTALL)
        assert texts
        for text in texts:
            json.loads(text, parse_constant=refuse)


def test_a_run_that_diverges_is_the_same_when_it_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped between two evaluations, its checkpoint holds losses and norms that are no numbers."""
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    trainer.train(diverging(9), whole)
    learn = trainer.learn

    def interrupted(run: Any, batch: Any) -> Any:
        if run.standing.step == 8:
            raise KeyboardInterrupt
        return learn(run, batch)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "learn", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.train(diverging(9), resumed)
    trainer.train(diverging(9), resumed, resume=True)
    logs = [[{**record, "seconds": 0} for record in read_log(folder)] for folder in (resumed, whole)]
    assert repr(logs[0]) == repr(logs[1])


MARK = 7.0
"""Of a batch whose loss is finite and whose gradient is not."""


def steepen(monkeypatch: pytest.MonkeyPatch, numbers: Collection[int]) -> None:
    """Let the loss of the adding task have no finite gradient at these training batches, counted from 1."""
    train_batches, loss = Adding.train_batches, Adding.loss

    def marked(self: Adding, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        for number, batch in enumerate(train_batches(self, batch_size, seed, start), start + 1):
            if number in numbers:
                batch.input[0, 0, 0] = MARK
            yield batch

    def steep(self: Adding, prediction: torch.Tensor, batch: Batch) -> torch.Tensor:
        value = loss(self, prediction, batch)
        return value + (0 * value).sqrt() if batch.input[0, 0, 0] == MARK else value

    monkeypatch.setattr(Adding, "train_batches", marked)
    monkeypatch.setattr(Adding, "loss", steep)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "model.safetensors")[0]


def test_an_update_without_a_finite_gradient_is_skipped_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steepen(monkeypatch, (2, 4))
    run, before = tmp_path / "run", tmp_path / "before"
    trainer.train(small(4, task=Adding(T=6), eval_every=4), run)
    told = capsys.readouterr().out
    trainer.train(small(3, task=Adding(T=6), eval_every=4), before)
    assert all(torch.equal(each, weights(before)[name]) for name, each in weights(run).items())
    (record,) = [each for each in read_log(run) if each["kind"] == "train"]
    assert record["gradients_not_finite"] == 2
    assert math.isfinite(record["loss"])
    (warning,) = [each for each in read_log(run) if each["kind"] == "warning"]
    assert warning["name"] == "gradient_not_finite"
    assert "2 gradients were not finite, and skipped; try" in told


def test_ten_gradients_that_are_not_finite_in_a_row_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steepen(monkeypatch, (2, *range(4, 13), *range(14, 99)))
    message = "update 23: the gradient norm is nan, and the 9 gradients before it were not finite; try"
    with pytest.raises(trainer.NotFiniteError, match=message):
        trainer.train(small(60, task=Adding(T=6), eval_every=4), tmp_path / "run")
    assert all(each.isfinite().all() for each in weights(tmp_path / "run").values())


def test_a_run_that_is_resumed_gives_up_where_it_would_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steepen(monkeypatch, range(4, 99))
    trainer.train(small(7, task=Adding(T=6), eval_every=3), tmp_path / "run")
    with pytest.raises(trainer.NotFiniteError, match="update 13: "):
        trainer.train(small(60, task=Adding(T=6), eval_every=3), tmp_path / "run", resume=True)


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


@pytest.mark.parametrize("missing", ["carry", "drop"])
def test_a_fill_value_in_the_test_rows_is_named(tmp_path: Path, missing: str) -> None:
    """The state of the network is not to blame for it. The number of the row is that in the file."""
    rows = [[f"{math.sin(step):.3f}", f"{math.cos(step):.3f}"] for step in range(200)]
    rows[20][0], rows[190][1] = "", "9.96921e36"
    data = tmp_path / "sea.csv"
    data.write_text("\n".join(["level,salt", *(",".join(row) for row in rows)]) + "\n")
    words = f"train stream --data {data} --missing {missing} --held-out 40 --eval-rows 2 --chunk 10 --hidden-size 4"
    message = r"In the test split, the column 'salt' in row 190 of .*sea\.csv is 9.96921e\+36, which is .* --na"
    with pytest.raises(SystemExit, match=message):
        main([*words.split(), *f"--steps 2 --batch-size 2 --device cpu --out {tmp_path / 'run'}".split()])


def test_a_large_value_is_looked_for_in_the_split_alone(tmp_path: Path) -> None:
    data = tmp_path / "a.csv"
    values = [math.sin(step) for step in range(200)]
    values[130] = -1e9
    data.write_text("\n".join(["x", *map(str, values)]) + "\n")
    task = FileStream(data, held_out=40, eval_rows=2)
    assert large_value(task, "test") is None and large_value(Adding(4), "test") is None
    told = large_value(task, "valid")
    assert told is not None and told.startswith(f"the column 'x' in row 130 of {data} is -1e+09, which is ")
