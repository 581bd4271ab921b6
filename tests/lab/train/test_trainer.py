"""The training loop: what it writes, when it stops, and that no progress is lost."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import ModelOptions, RunConfig, TrainOptions
from reminding.lab.runs.runlog import read_log
from reminding.lab.train import run as run_module
from reminding.lab.train import trainer
from reminding.lab.train.run import Run
from reminding.nn.state.storage import load_tensors
from reminding.tasks import Adding, Batch, Copying, Cue
from tests.lab.conftest import small
from tests.lab.stream_runs import content, last
from tests.lab.stream_runs import small as streaming


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return content(folder)["model"]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_leaves_all_its_files(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names >= {"config.json", "log.jsonl", "tensorboard", "checkpoints", "model.safetensors", "summary.json"}
    assert any("tfevents" in path.name for path in (finished / "tensorboard").iterdir())
    assert RunConfig.load(finished / "config.json") == small()


def test_training_flushes_subnormal_numbers(tmp_path: Path) -> None:
    products: list[float] = []

    def judge(step: int, value: float) -> None:
        products.append((torch.tensor(1.2e-38) * 0.5).item())

    trainer.train(small(), tmp_path / "run", judge=judge)
    assert set(products) == {0.0}


def test_the_summary_has_the_tasks_metrics_under_their_own_names(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert {"accuracy", "cross_entropy", "cross_entropy_recall", "accuracy_all"} <= summary.keys()
    assert summary["steps"] == 6
    assert summary["stopped"] == "steps"
    assert summary["seed"] == 0
    assert summary["parameters"] == sum(p.numel() for p in checkpoint.load_run(finished)[1].parameters())


def test_the_log_holds_each_evaluation(finished: Path) -> None:
    records = read_log(finished)
    assert [(record["kind"], record["step"]) for record in records] == [
        ("train", 3),
        ("valid", 3),
        ("train", 6),
        ("valid", 6),
    ]
    assert all("loss" in record for record in records if record["kind"] == "train")


def test_one_seed_gives_one_result_and_another_another(tmp_path: Path, finished: Path) -> None:
    trainer.train(small(), tmp_path / "again")
    trainer.train(small(seed=1), tmp_path / "other")
    assert same(weights(finished), weights(tmp_path / "again"))
    assert not same(weights(finished), weights(tmp_path / "other"))


@pytest.mark.parametrize("model", ["sab", "transformer", "mingru", "rtu"])
def test_resumed_equals_uninterrupted(tmp_path: Path, model: str) -> None:
    deep = {} if model == "rtu" else {"num_layers": 2, "dropout": 0.2}
    dropout = {"model": replace(small(model=model).model, **deep)}
    whole, half = replace(small(9, model=model), **dropout), replace(small(3, model=model), **dropout)
    trainer.train(whole, tmp_path / "whole")
    trainer.train(half, tmp_path / "parts")
    trainer.train(whole, tmp_path / "parts", resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    logs = [
        [{k: v for k, v in record.items() if k != "seconds"} for record in read_log(tmp_path / name)]
        for name in ("whole", "parts")
    ]
    assert logs[0] == logs[1]


def test_a_finished_run_is_not_touched_without_being_told(finished: Path) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    with pytest.raises(FileExistsError, match=r"--resume.*--overwrite"):
        trainer.train(small(), finished)
    assert before == {path.name: path.read_bytes() for path in finished.iterdir() if path.is_file()}


def test_a_folder_is_refused_before_the_data_are_made(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which may take minutes; a scheduler's RANK without WORLD_SIZE is no sign of another process."""

    def unwanted(_: Copying) -> dict[str, Any]:
        raise AssertionError("the data were made")

    monkeypatch.setattr(Copying, "facts", unwanted)
    monkeypatch.setenv("RANK", "3")
    (tmp_path / "thesis.tex").write_text("mine")
    for folder, refusal in ((finished, "already holds a run"), (tmp_path, "is not a run")):
        with pytest.raises(FileExistsError, match=refusal):
            trainer.train(small(), folder)


def test_overwrite_replaces_the_run_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trainer.train(small(3), folder)
    (folder / "notes.txt").write_text("mine")
    trainer.train(small(6), folder, overwrite=True)
    assert json.loads((folder / "summary.json").read_text())["steps"] == 6
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_folder_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match="not a run"):
        trainer.train(small(), tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_annealed_run_has_the_length_it_was_begun_with(tmp_path: Path) -> None:
    trainer.train(small(4, anneal=0.5), tmp_path / "run")
    with pytest.raises(ValueError, match=r"train\.steps: 4 there, 8 here"):
        trainer.train(small(8, anneal=0.5), tmp_path / "run", resume=True)


def test_resuming_another_experiment_is_refused(finished: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.lr: 0\.003 there, 0\.5 here"):
        trainer.train(small(lr=0.5), finished, resume=True)
    with pytest.raises(ValueError, match=r"task\.name: copying there, adding here"):
        trainer.train(small(task=Adding(T=4)), finished, resume=True)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    trainer.train(small(3), tmp_path / "run")
    path = last(tmp_path / "run") / checkpoint.TRAINING_NAME
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"checkpoints/3/training\.safetensors is damaged: it has 500 bytes"):
        trainer.train(small(6), tmp_path / "run", resume=True)


def test_bad_options_fail_before_the_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="k_att must be"):
        trainer.train(replace(small(), model=replace(small().model, k_att=0)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_target_and_patience_stop_early(tmp_path: Path) -> None:
    assert trainer.train(small(30, target=0.0), tmp_path / "target")["stopped"] == "target"
    summary = trainer.train(small(300, patience=2, lr=1e-12), tmp_path / "patience")
    assert summary["stopped"] == "patience"
    assert (summary["best_step"], summary["steps"]) == (3, 9)


def test_a_limit_of_time_stops_after_an_evaluation_and_can_be_raised(tmp_path: Path) -> None:
    summary = trainer.train(small(100_000, max_seconds=1e-6, eval_every=50), tmp_path / "run")
    assert (summary["stopped"], summary["steps"]) == ("time", 1)
    assert [record["step"] for record in read_log(tmp_path / "run")] == [1, 1]
    assert trainer.train(small(100_000, max_seconds=1e-6, eval_every=50), tmp_path / "run", resume=True)["steps"] == 1
    summary = trainer.train(small(100_000, max_seconds=0.3, eval_every=50), tmp_path / "run", resume=True)
    assert summary["steps"] > 1
    assert summary["seconds"] >= 0.3


def test_every_second_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates of 1 s and evaluations of 10 s: those before an update are no part of it."""
    now = 0.0

    def taking(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            nonlocal now
            now += seconds
            return function(*arguments, **options)

        return timed

    for module in (run_module, trainer):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(trainer, "learn", taking(1, trainer.learn))
    monkeypatch.setattr(trainer, "_validated", taking(10, cast("Any", trainer)._validated))
    summary = trainer.train(small(9), tmp_path / "run")
    assert [each["seconds"] for each in read_log(tmp_path / "run") if each["kind"] == "train"] == [3, 16, 29]
    assert (summary["seconds"], summary["ms_per_update"]) == (39, 1000 * 39 / 9)
    assert trainer.train(small(9, max_seconds=20), tmp_path / "limited")["steps"] == 6
    stream = streaming(Cue(lag=7, gap=3, chunk=6), 9, max_seconds=20)
    assert trainer.train(stream, tmp_path / "stream")["steps"] == 6
    owing = replace(stream, model=replace(stream.model, credit_every=4, horizon=20))
    assert trainer.train(owing, tmp_path / "owing")["steps"] == 7, "the credit that waits is settled"


def test_the_log_follows_the_norm_of_h_and_the_summary_counts_backward_steps(finished: Path) -> None:
    norms = [record["state_norm"] for record in read_log(finished) if record["kind"] == "valid"]
    assert len(norms) == 2
    assert all(norm > 0 for norm in norms)
    summary = checkpoint.read_summary(finished)
    assert summary["backward_steps"] == summary["forward_steps"] == 8


def test_the_learning_rate_falls_over_the_last_part_of_the_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    step = cast("Callable[[torch.optim.Adam], None]", torch.optim.Adam.step)

    def note(self: torch.optim.Adam) -> None:
        rates.append(self.param_groups[0]["lr"])
        step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", note)
    trainer.train(small(8, lr=0.1, anneal=0.5), tmp_path / "run")
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.1, 0.075, 0.05, 0.025])


@pytest.mark.parametrize("model", ["sab", "rtu"])
def test_weights_decay_and_biases_do_not(tmp_path: Path, model: str) -> None:
    """Seen at the first update, whose gradient is the same either way. A resumed run goes on as it would have."""
    trainer.train(small(1, lr=0.01, model=model), tmp_path / "plain")
    trainer.train(small(1, lr=0.01, model=model, weight_decay=0.5), tmp_path / "decayed")
    plain, decayed = weights(tmp_path / "plain"), weights(tmp_path / "decayed")
    begun = Run.prepare(small(1, model=model), tmp_path).model.state_dict()
    for name, weight in begun.items():
        wanted = plain[name] - (0.01 * 0.5 * weight if weight.dim() > 1 else 0)
        torch.testing.assert_close(decayed[name], wanted, rtol=1e-5, atol=1e-7)
    whole, parts = tmp_path / "whole", tmp_path / "decayed"
    trainer.train(small(6, lr=0.01, model=model, weight_decay=0.5), whole)
    trainer.train(small(6, lr=0.01, model=model, weight_decay=0.5), parts, resume=True)
    assert same(weights(whole), weights(parts))


def test_the_best_weights_are_kept_not_the_last(tmp_path: Path) -> None:
    summary = trainer.train(small(60, lr=0.05, task=Adding(T=4)), tmp_path / "run")
    values = {r["step"]: r["mse"] for r in read_log(tmp_path / "run") if r["kind"] == "valid"}
    assert summary["best_step"] == min(values, key=lambda step: values[step])
    kept = load_tensors(tmp_path / "run" / checkpoint.WEIGHTS_NAME)[0]
    assert same(kept, weights(tmp_path / "run")) == (summary["best_step"] == 60)


@dataclass(frozen=True)
class Broken(Adding):
    """The adding task, with a NaN at step 3 of sequence 1 in training batch number `bad`."""

    bad: int = 5

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        for number, batch in enumerate(super().train_batches(batch_size, seed, start), start + 1):
            if number == self.bad:
                batch.input[2, 1, 0] = float("nan")
            yield batch


def test_nan_in_the_input_is_located_and_the_last_good_weights_are_saved(tmp_path: Path) -> None:
    with pytest.raises(trainer.NotFiniteError, match=r"update 5: input holds nan at step 3 of sequence 1"):
        trainer.train(small(task=Broken(T=6)), tmp_path / "run")
    trainer.train(small(4, task=Adding(T=6)), tmp_path / "good")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "good"))
    assert all(
        tensor.isfinite().all() for tensor in load_tensors(tmp_path / "run" / checkpoint.WEIGHTS_NAME)[0].values()
    )


def test_nan_before_the_first_evaluation_still_leaves_weights(tmp_path: Path) -> None:
    with pytest.raises(trainer.NotFiniteError, match="update 1"):
        trainer.train(small(task=Broken(T=6, bad=1)), tmp_path / "run")
    assert (tmp_path / "run" / checkpoint.WEIGHTS_NAME).exists()


@dataclass(frozen=True)
class Exploding(Copying):
    """The copying task with a loss that is far too large."""

    factor: float = math.inf

    def loss(self, prediction: torch.Tensor, batch: Batch) -> torch.Tensor:
        return super().loss(prediction, batch) * self.factor


def test_a_loss_that_is_not_finite_stops_the_run_unless_unchecked(tmp_path: Path) -> None:
    with pytest.raises(trainer.NotFiniteError, match="update 1: the loss is inf"):
        trainer.train(small(task=Exploding(T=4, symbols=2)), tmp_path / "run")
    trainer.train(small(3, task=Exploding(T=4, symbols=2), check_finite=False), tmp_path / "unchecked")


def test_a_gradient_whose_squares_overflow_is_an_update_like_any_other(tmp_path: Path) -> None:
    summary = trainer.train(small(4, task=Exploding(T=4, symbols=2, factor=1e30)), tmp_path / "run")
    assert summary["steps"] == 4
    begun = trainer.train(small(1, task=Exploding(T=4, symbols=2, factor=1e30)), tmp_path / "begun")
    assert begun["steps"] == 1
    assert not same(weights(tmp_path / "run"), weights(tmp_path / "begun"))


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"model": "lstm"}, "try an --lr below 0.003"),
        (
            {"model": "sab", "normalizer": "threshold"},
            "try --recall-scale 0.5, --normalizer softmax, an --lr below 0.003",
        ),
    ],
)
def test_what_is_not_finite_brings_advice_for_the_model(tmp_path: Path, options: dict[str, Any], advice: str) -> None:
    config = RunConfig(Exploding(T=4, symbols=2), ModelOptions(**options, hidden_size=4), TrainOptions(steps=2))
    with pytest.raises(trainer.NotFiniteError, match=f"the loss is inf, though the input is finite; {advice}$"):
        trainer.train(config, tmp_path / "run")


def test_ctrl_c_leaves_a_run_that_resumes_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer.train(small(60, eval_every=20), tmp_path / "whole")
    step = cast("Callable[[torch.optim.Adam], None]", torch.optim.Adam.step)
    updates: list[torch.optim.Adam] = []

    def interrupted(self: torch.optim.Adam) -> None:
        updates.append(self)
        if len(updates) == 33:
            os.kill(os.getpid(), signal.SIGINT)
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", interrupted)
        summary = trainer.train(small(60, eval_every=20), tmp_path / "stopped")
    assert summary["stopped"] == "interrupted"
    assert summary["steps"] == 33, "the update under way is the last"
    assert summary["seconds"] > 0
    assert "accuracy" not in summary, "whoever stops does not want to wait for the test"
    trainer.train(small(60, eval_every=20), tmp_path / "stopped", resume=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    logs = [[{**record, "seconds": 0} for record in read_log(tmp_path / name)] for name in ("whole", "stopped")]
    assert logs[0] == logs[1], "the means logged too, wherever between two evaluations it was stopped"
