"""Warnings while training: each kind for numbers like those of failed runs, and none for successful runs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reminding.lab.runs.config import ModelOptions, TrainOptions
from reminding.lab.runs.runlog import read_log
from reminding.lab.runs.saved.training import MeanLoss, Update, mean_figures
from reminding.lab.runs.watch import DEAD_EVALUATIONS, Trouble, Watch
from reminding.lab.train import trainer
from tests.lab.conftest import small
from tests.places import RESULTS

FIXED = TrainOptions(clip_kind="fixed")
TOLD = {
    "noisy-cifar10/sab-decay0.3-longer-seed0": "exploding_norm",
    "adding/T400/sab-seed0": "lost_solution",
    "copying-t30/lstm": "lost_solution",
    "copying/T100/attention-seed0": "exploding_norm",
    "copying/T100-attention-op/attention-seed0": "exploding_norm",
    "copying/T100/sab-forgets-seed2": "lost_solution",
    "copying/T100/sab-paper-seed0": "exploding_norm",
    "nback/segments/k14": "lost_solution",
    "pmnist/ten-epochs/lstm-chrono392-seed1": "lost_solution gradient_not_finite",
}
"""Two runs whose loss rose to 1.13 and 1.18 over 250 updates, with one gradient of norm 5,000 or 3,000, and recovered
in another 250. An LSTM on a plateau, whose loss rose from 0.37 to 0.57 at update 2,500 and took 1,500 updates to
recover. Three runs whose h grew: two with attention to all states, and one with the paper's setting, which failed.
One of n-back that fell from 82 to 66% on validation, and is tested by its best weights."""
FAILED = 0.8
"""The accuracy below which a run of the ablation has not learned its task."""


def seen(records: Sequence[dict[str, Any]], model: ModelOptions | None = None, train: TrainOptions | None = None):
    watch = Watch(model or ModelOptions(), train or TrainOptions())
    return [trouble for record in records for trouble in watch.see(record)]


def name_of(log: Path) -> str:
    return log.parent.relative_to(RESULTS).as_posix()


def names(troubles: Sequence[Trouble]) -> list[str]:
    return [trouble.name for trouble in troubles]


def losses(*values: float) -> list[dict[str, Any]]:
    return [{"kind": "train", "loss": value, "gradient_norm": 0.03, "gradient_norm_max": 0.1} for value in values]


def test_a_loss_that_rises_back_is_told_once_with_what_to_try() -> None:
    (trouble,) = seen(losses(0.4, 0.2, 0.17, 0.45, 0.44, 0.5), train=FIXED)
    assert trouble.name == "lost_solution"
    assert "rose from 0.1700 to 0.4500" in trouble.what
    assert "--clip-kind adaptive" in trouble.advice
    assert "--lr below 0.003" in trouble.advice
    assert "--clip-kind" not in seen(losses(0.4, 0.17, 0.45))[0].advice  # it already clips this way


@pytest.mark.parametrize(
    "course",
    [
        (0.4, 0.17, 0.25, 0.17),  # a third of the way back
        (2.08, 2.07, 2.09, 2.08),  # it has not begun to learn
        (1e-3, 1e-6, 9e-6),
        (0.4,),
        (float("nan"), 0.4, 0.3),  # a stream without any target so far
    ],
)
def test_a_loss_that_wavers_is_not(course: tuple[float, ...]) -> None:
    assert not seen(losses(*course))


def test_a_loss_that_only_ever_rises_is_told() -> None:
    assert names(seen(losses(1.0, 1.1, 8.4))) == ["lost_solution"]


def course(means: Sequence[float], updates: int, seed: int) -> list[dict[str, Any]]:
    """The records of a stream with one or two answers in two of three chunks, at some mean losses.

    The cross-entropy of an answer varies by 0.1 where nothing is known, and by more than its mean once some are sure.
    """
    random = np.random.default_rng(seed)
    records: list[dict[str, Any]] = []
    for mean in means:
        spread = 0.1 + max(2.1 - mean, 0.0)  # of a gamma distribution, whose values are above 0
        shape, scale = (mean / spread) ** 2, spread**2 / mean
        made: list[Update] = []
        for count in map(int, random.integers(0, 3, size=updates)):
            loss = sum(random.gamma(shape, scale) for _ in range(count)) / count if count else math.nan
            made.append(Update(loss=loss, norm=0.03, steps=100, metrics={"accuracy": (0.0, float(count))}))
        records.append({"kind": "train", **mean_figures(made)})
    return records


CUE = [
    (2.173, 0.0272, 93),
    (2.098, 0.0212, 114),
    (2.089, 0.0114, 116),
    (2.079, 0.0146, 118),
    (2.015, 0.0247, 116),
    (2.252, 0.1265, 114),
]
"""Loss, error and count at every 250 updates of cue/lag5000-tuned/sab-seed4. In the last of them 31% of the answers
were right, the most so far, and the run went on to 99%."""


def test_a_loss_that_rises_within_the_noise_of_few_answers_is_not_told() -> None:
    def records(names: Sequence[str]) -> list[dict[str, Any]]:
        return [{"kind": "train", **dict(zip(names, each, strict=False))} for each in CUE]

    assert not seen(records(["loss", "loss_error", "loss_count"]))
    assert names(seen(records(["loss"]))) == ["lost_solution"]


@pytest.mark.parametrize("updates", [1, 10, 50])
def test_the_noise_between_two_evaluations_close_by_is_not_told(updates: int) -> None:
    learned = np.repeat([2.16, 2.12, 2.1, 2.09, 2.08, 2.06, 2.04, 2.03, 1.8, 1.4, 0.75, 0.44], 250 // updates)
    records = [course(learned.tolist(), updates, seed) for seed in range(10)]
    assert not any(seen(each) for each in records)
    exact = [[{"kind": "train", "loss": each["loss"]} for each in made if "loss" in each] for made in records]
    assert any(seen(each) for each in exact)


@pytest.mark.parametrize("updates", [1, 10, 250])
def test_a_solution_that_is_lost_is_told_where_answers_are_few(updates: int) -> None:
    for seed in range(10):
        lost = np.repeat([2.16, 2.0, 1.4, 0.75, 0.44, 0.5, 2.05], 250 // updates)
        records = course(lost.tolist(), updates, seed)
        assert not seen(records[: 6 * (250 // updates)])
        (trouble,) = seen(records)
        assert trouble.name == "lost_solution"
        diverging = course([2.1] * (250 // updates) + [9.0] * (250 // updates), updates, seed)
        assert names(seen(diverging)) == ["lost_solution"]


def test_means_of_losses_add_up_to_that_of_all_their_updates() -> None:
    losses = [2.0, 1.0, 4.0, 3.5, 1e-3]
    whole = MeanLoss.of(losses)
    assert whole.value == pytest.approx(np.mean(losses))
    assert whole.error == pytest.approx(np.std(losses, ddof=1) / math.sqrt(5))
    for at in (1, 2, 4):
        both = MeanLoss.of(losses[:at]) + MeanLoss.of(losses[at:])
        assert (both.value, both.error, both.count) == pytest.approx((whole.value, whole.error, 5))
    (record,) = course([2.0], 250, 0)
    assert record["loss_count"] == pytest.approx(250 * 2 / 3, rel=0.2)
    assert 0 < record["loss_error"] < 0.1


def test_the_loss_of_a_stream_is_the_mean_over_its_answers() -> None:
    random = np.random.default_rng(0)
    answers = [random.gamma(2.0, size=count).tolist() for count in (1, 0, 9, 2, 40)]
    made: list[Update] = []
    for each in answers:
        metrics = {"accuracy": (0.0, float(len(each))), "cross_entropy": (sum(each), float(len(each)))}
        made.append(Update(loss=sum(each) / len(each) if each else math.nan, norm=0.1, steps=50, metrics=metrics))
    found = mean_figures(made)
    assert found["loss"] == pytest.approx(np.mean(np.concatenate(answers)))
    assert found["loss"] == pytest.approx(found["cross_entropy"])
    assert (found["loss_count"], found["loss_targets"]) == (4, 52)
    parts = [MeanLoss.of([sum(each) / len(each)], [float(len(each))]) for each in answers if each]
    assert reduce(add, parts).value == pytest.approx(found["loss"])


def test_the_error_of_a_mean_over_unequal_updates_is_that_of_many_such_means() -> None:
    random = np.random.default_rng(0)
    counts = [float(count) for count in random.integers(1, 20, size=200)]
    drawn = [[float(random.normal()) / math.sqrt(count) for count in counts] for _ in range(400)]
    means = [MeanLoss.of(losses, counts) for losses in drawn]
    spread = float(np.std([mean.value for mean in means]))
    assert np.mean([mean.error for mean in means]) == pytest.approx(spread, rel=0.1)
    assert np.mean([(mean + mean).error for mean in means]) == pytest.approx(spread / math.sqrt(2), rel=0.15)


def test_a_norm_beyond_what_units_and_recalls_add_up_to_is_told() -> None:
    model = ModelOptions(hidden_size=64, k_att=2, normalizer="threshold")
    assert not seen([{"kind": "valid", "state_norm": 21.5}], model)
    for norm in (21.7, float("nan"), float("inf")):
        (trouble,) = seen([{"kind": "valid", "state_norm": norm}] * 2, model)
        assert trouble.name == "exploding_norm"
        for part in ("--k-att", "--normalizer softmax", "--recall-scale"):
            assert part in trouble.advice
    (trouble,) = seen([{"kind": "valid", "state_norm": 1e3}], ModelOptions(cell="gru"))
    assert trouble.advice.endswith("whatever is stored: try --cell lstm, or --recall-scale 0.1")
    for model in ("transformer", "mingru", "rtu"):
        assert not seen([{"kind": "valid", "state_norm": 1e3}], ModelOptions(model=model))


def test_a_gradient_beyond_the_usual_is_told_where_clipping_lets_it_through() -> None:
    spike = [{"kind": "train", "loss": 0.17, "gradient_norm": 0.03, "gradient_norm_max": 1e6}]
    usual = losses(0.2, 0.18, 0.17)
    assert names(seen(usual + spike, train=FIXED)) == ["gradient_spike"]
    assert "only clipped to 1" in seen(usual + spike, train=FIXED)[0].what
    assert names(seen(usual + spike, train=TrainOptions(clip=0))) == ["gradient_spike"]
    assert not seen(usual + spike)  # adaptive
    assert not seen(usual + spike, train=TrainOptions(clip=0.5, clip_kind="fixed"))  # 17 times the usual


def test_recall_stuck_on_one_memory_is_told_when_the_loss_is_stuck_too() -> None:
    dead = {"kind": "valid", "recall_share": 0.99}
    stuck = [record for loss in [0.4, *[0.2] * 5] for record in (*losses(loss), dead)]
    (trouble,) = seen(stuck)
    assert trouble.name == "dead_attention"
    assert "99%" in trouble.what
    falling = [record for loss in (0.4, 0.35, 0.3, 0.25, 0.2) for record in (*losses(loss), dead)]
    assert not seen(falling)
    learned = [record for loss in [0.4, *[0.02] * 5] for record in (*losses(loss), dead)]
    assert not seen(learned)
    assert not seen(stuck[: 2 * DEAD_EVALUATIONS])
    spread = [record for loss in [0.4, *[0.2] * 5] for record in (*losses(loss), {**dead, "recall_share": 0.93})]
    assert not seen(spread)


def test_an_infinite_gradient_is_told_as_skipped_or_as_a_spike_that_passed() -> None:
    bad = {**losses(0.2)[0], "gradient_norm_max": math.inf, "gradients_not_finite": 1.0}
    (skipped,) = seen([*losses(0.4, 0.3, 0.25), bad], train=FIXED)
    assert (skipped.name, skipped.what) == ("gradient_not_finite", "1 gradient was not finite, and skipped")
    (passed,) = seen([*losses(0.4, 0.3, 0.25), bad], train=replace(FIXED, check_finite=False))
    assert passed.name == "gradient_spike"


def noisy(values: Sequence[float], error: float, seed: int = 0) -> list[dict[str, Any]]:
    """Records of losses with noise of a standard error, relative to each, while one memory gets all the weight."""
    random = np.random.default_rng(seed)
    means = [(value * (1 + error * random.normal()), value * error) for value in values]
    trains = [{"kind": "train", "loss": mean, "loss_error": spread} for mean, spread in means]
    return [record for train in trains for record in (train, {"kind": "valid", "recall_share": 0.99})]


@pytest.mark.parametrize("seed", range(5))
def test_a_loss_that_falls_within_its_noise_is_not_told_and_a_stuck_one_is_when_it_is_sure(seed: int) -> None:
    falling: list[float] = (0.4 * 0.97 ** np.arange(40)).tolist()
    assert not seen(noisy(falling, 0.03, seed))
    exact = [{**each, "loss_error": 0.0} for each in noisy(falling, 0.03, seed)]
    assert "dead_attention" in names(seen(exact)), "the same, if the noise is not known"
    stuck = noisy([0.4] * 60, 0.01, seed)
    assert not seen(stuck[: 2 * DEAD_EVALUATIONS])
    assert names(seen(stuck)) == ["dead_attention"]


def test_what_an_interrupted_run_was_told_is_not_told_again() -> None:
    told = {"kind": "warning", "name": "exploding_norm"}
    bad = {"kind": "valid", "state_norm": 1e3}
    assert not seen([told, bad])
    records = losses(0.4, 0.2, 0.17, 0.45)
    watch = Watch(ModelOptions(), TrainOptions())
    first = [trouble for record in records[:3] for trouble in watch.see(record)]
    assert not first
    assert names(watch.see(records[3])) == ["lost_solution"]
    assert not watch.see(records[3])


LOGS = sorted(set(RESULTS.rglob("log.jsonl")) - set((RESULTS / "recipe").rglob("log.jsonl")))
"""Of all measured runs but those of variants that were tried against each other, some of which failed."""


@pytest.mark.parametrize("log", LOGS, ids=lambda log: name_of(log))
def test_runs_that_learned_are_left_alone(log: Path) -> None:
    config = json.loads((log.parent / "config.json").read_text())
    model, train = ModelOptions(**config["model"]), TrainOptions(**config["train"])
    found = names(seen(read_log(log.parent), model, train))
    if name_of(log) in TOLD:
        assert found == TOLD[name_of(log)].split()
    elif name_of(log).startswith(("kiln/tuned/", "cue/lag5000-tuned/")):  # few answers a chunk, some lost for a while
        assert set(found) <= {"lost_solution"}
    elif name_of(log).startswith(("ablation/", "copying-tuned/", "cue/lag5000/", "nback/")):
        summary = json.loads((log.parent / "summary.json").read_text())
        assert not found or summary.get("accuracy", 0.0) < FAILED
    else:
        assert not found


def test_a_run_that_goes_wrong_says_so_in_its_log_once_and_not_again_when_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a learning rate of 30 and no clipping, the loss must rise."""
    wrong: dict[str, Any] = {"lr": 30.0, "clip": 0.0, "eval_every": 1}
    trainer.train(small(6, **wrong), tmp_path / "run")
    printed = " ".join(capsys.readouterr().out.split())
    (found,) = (record for record in read_log(tmp_path / "run") if record["kind"] == "warning")
    assert found["name"] == "lost_solution"
    assert f"warning: {found['what']}; {found['advice']}" in printed
    trainer.train(small(9, **wrong), tmp_path / "run", resume=True)
    assert "warning" not in capsys.readouterr().out
    again = [record for record in read_log(tmp_path / "run") if record["kind"] == "warning"]
    assert again == [found]


def test_the_log_has_what_is_judged(finished: Path) -> None:
    records = read_log(finished)
    assert all(r["gradient_norm_max"] >= r["gradient_norm"] for r in records if r["kind"] == "train")
    assert all(0 < r["recall_share"] <= 1 for r in records if r["kind"] == "valid")
    assert json.loads(json.dumps(records)) == records
