"""Tuning before a comparison: the grid, and the choice from its results."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from reminding.lab.paper import delayed, estimate
from reminding.lab.paper.experiments import Experiment, Setting
from reminding.lab.paper.jobs import Job
from reminding.lab.paper.methods import grid
from reminding.lab.paper.reproduce import (
    ReproduceOptions,
    final_jobs,
    finalists,
    training_jobs,
    tuned,
    tuning_jobs,
    with_choices,
)
from reminding.lab.paper.tuning import (
    TUNING_SEED,
    Grid,
    Tuned,
    chosen,
    read_choice,
    table,
    tuned_runs,
    write_choice,
)
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig
from reminding.lab.train.run import Run
from reminding.tasks import PTB, Batch, Cue
from tests.lab.conftest import small

GRID = Grid(rates=(1e-3, 1e-2), biases=(None, 1.0, "chrono:9"), share=0.5)


def runs() -> dict[str, RunConfig]:
    return {
        "sab": small(steps=4),
        "transformer": small(steps=4, model="transformer"),
        "lstm": small(steps=4, model="lstm"),
    }


def test_every_method_is_tried_with_every_rate_and_every_bias_that_it_has() -> None:
    found = {name: list(GRID.variants(name, run)) for name, run in runs().items()}
    assert {name: len(variants) for name, variants in found.items()} == {"sab": 6, "transformer": 2, "lstm": 6}
    for variants in found.values():
        assert len({each.name for each in variants}) == len(variants), "a folder for each"
        for each in variants:
            train, model = each.config.train, each.config.model
            assert (train.lr, model.forget_bias) == (each.lr, each.start.value)
            assert (train.seed, train.steps, train.target) == (TUNING_SEED, 2, None)


def test_a_grus_gates_have_no_forget_bias() -> None:
    run = small(steps=4)
    run = replace(run, model=replace(run.model, cell="gru"))
    assert [each.start.value for each in GRID.variants("sab", run)] == [None, None]


def test_an_rtu_is_tried_with_every_radius(tmp_path: Path) -> None:
    run = small(steps=4, model="rtu")
    wide = replace(GRID, radii=(0.0, 0.9))
    variants = list(wide.variants("rtu", run))
    assert [each.name for each in variants] == [
        f"rtu-lr{lr}-radius-{radius}" for lr in (0.001, 0.01) for radius in (0.0, 0.9)
    ]
    assert [each.config.model.min_radius for each in variants] == [0.0, 0.9] * 2
    found = [Tuned(each, value) for each, value in zip(variants, [0.1, 0.2, 0.4, 0.3], strict=True)]
    choice = chosen(found, maximize=True)
    chosen_run = tuned_runs({"rtu": run}, choice)["rtu"]
    assert (chosen_run.train.lr, chosen_run.model.min_radius) == (1e-2, 0.0)
    write_choice(tmp_path, found, choice)
    written = json.loads((tmp_path / "tuning.json").read_text())
    assert written["chosen"] == {"rtu": {"lr": 1e-2, "min_radius": 0.0}}
    assert [row[1] for row in table("T4", found, choice).rows] == ["radius from 0.0", "radius from 0.9"]
    finals = replace(wide, finalists=2).finals(run, found, maximize=True)
    assert [each.name for each in finals] == ["rtu-lr0.01-radius-0.0-whole", "rtu-lr0.001-radius-0.9-whole"]


def test_a_timed_run_is_tuned_for_a_share_of_its_time() -> None:
    (each, *_) = GRID.variants("sab", small(steps=1000, max_seconds=60.0))
    assert each.config.train.max_seconds == 30


def results(values: list[float | None]) -> list[Tuned]:
    variants = GRID.variants("sab", small(steps=4))
    return [Tuned(variant, value) for variant, value in zip(variants, values, strict=True)]


def test_the_best_on_validation_is_chosen() -> None:
    values = [0.3, 0.5, math.nan, 0.1, 0.4, 0.2]
    best = chosen(results(list(values)), maximize=True)["sab"]
    assert (best.lr, best.start.value) == (1e-3, 1.0)
    least = chosen(results(list(values)), maximize=False)["sab"]
    assert (least.lr, least.start.value) == (1e-2, None)
    run = tuned_runs({"sab": small(steps=4)}, {"sab": best})["sab"]
    assert (run.train.lr, run.model.forget_bias, run.train.seed, run.train.steps) == (1e-3, 1.0, 0, 4)


def test_of_equal_results_the_smaller_rate_is_chosen() -> None:
    assert chosen(results([0.1, 0.1, 0.5, 0.5, 0.1, 0.1]), maximize=True)["sab"].lr == 1e-3


def test_an_unfinished_grid_chooses_nothing() -> None:
    with pytest.raises(ValueError, match=r"no result yet of sab-lr0\.01-bias-chrono9"):
        chosen(results([1.0, 2.0, 3.0, 4.0, 5.0, None]), maximize=True)


def test_a_method_that_never_has_a_finite_result_is_named() -> None:
    with pytest.raises(ValueError, match="no run of sab has a finite validation result"):
        chosen(results([math.nan] * 6), maximize=True)


def test_the_grid_is_shown_with_its_choice() -> None:
    found = results([0.3, 0.5, math.nan, 0.1, 0.4, 0.2])
    shown = table("T4", found, chosen(found, maximize=True))
    assert shown.columns == ["method", "begun with", "rate 0.001", "rate 0.01"]
    assert shown.rows == [
        ["sab", "PyTorch's biases", "0.3000", "0.1000"],
        ["sab", "forget bias 1.0", "0.5000 *", "0.4000"],
        ["sab", "forget bias chrono:9", "nan", "0.2000"],
    ]


def test_the_finalists_are_the_best_of_different_rates() -> None:
    grid, run = replace(GRID, finalists=2), small(steps=4)
    found = results([0.3, 0.5, 0.49, 0.1, 0.4, 0.2])
    finals = grid.finals(run, found, maximize=True)
    assert [(each.lr, each.start.value) for each in finals] == [(1e-3, 1.0), (1e-2, 1.0)]
    assert [each.name for each in finals] == ["sab-lr0.001-bias-1.0-whole", "sab-lr0.01-bias-1.0-whole"]
    assert {each.config.train.steps for each in finals} == {4}, "full length"
    assert {each.config.train.seed for each in finals} == {TUNING_SEED}
    least = grid.finals(run, found, maximize=False)
    assert [(each.lr, each.start.value) for each in least] == [(1e-2, None), (1e-3, None)]


def test_a_rate_without_a_finite_result_has_no_finalist() -> None:
    grid = replace(GRID, finalists=2)
    assert len(grid.finals(small(steps=4), results([0.3, 0.5, 0.4, *[math.nan] * 3]), maximize=True)) == 1
    with pytest.raises(ValueError, match="no run of sab has a finite validation result"):
        grid.finals(small(steps=4), results([math.nan] * 6), maximize=True)


def grid_experiment(finalists: int = 0) -> Experiment:
    grid = replace(GRID, finalists=finalists)
    return Experiment("tiny", "Tiny", [Setting("T4", {"lstm": small(steps=4, model="lstm")}, grid=grid)], (), "tiny")


def finish(jobs: list[Job], values: list[float]) -> None:
    """Leave what the runs of these jobs would leave."""
    for job, value in zip(jobs, values, strict=True):
        assert job.config is not None
        steps = job.config.train.steps
        job.folder.mkdir(parents=True)
        job.config.save(job.folder / checkpoint.CONFIG_NAME)
        record = {"kind": "valid", "step": steps, "accuracy": value}
        (job.folder / "log.jsonl").write_text(json.dumps(record) + "\n")
        checkpoint.write_summary(
            job.folder, {"metric": "accuracy", "stopped": "steps", "steps": steps, "seconds": 1.0}
        )


def test_the_runs_that_count_take_what_was_chosen(tmp_path: Path) -> None:
    """Results are written where the tuning runs would leave them."""
    options, wanted = ReproduceOptions(out=tmp_path), grid_experiment()
    jobs = tuning_jobs(wanted, options)
    assert len(jobs) == 6
    finish(jobs, [0.2, 0.9, 0.3, 0.1, 0.4, 0.5])
    early = checkpoint.read_summary(jobs[0].folder) | {"stopped": "patience", "steps": 1}
    checkpoint.write_summary(jobs[0].folder, early)
    assert all(job.state == "done" for job in tuning_jobs(wanted, options))
    settled, tables = tuned(wanted, options)
    (job,) = training_jobs(settled, options)
    assert job.folder == tmp_path / "tiny" / "T4" / "lstm-seed0"
    assert ("--forget-bias", "1.0") in list(zip(job.words, job.words[1:], strict=False))
    assert ("--lr", "0.001") in list(zip(job.words, job.words[1:], strict=False))
    assert len(tables) == 1
    written = json.loads((tmp_path / "tiny" / "T4" / "tuning" / "tuning.json").read_text())
    assert written["chosen"] == {"lstm": {"lr": 1e-3, "forget_bias": 1.0}}
    assert [each["valid"] for each in written["grid"]] == [0.2, 0.9, 0.3, 0.1, 0.4, 0.5]
    assert [each["updates"] for each in written["grid"]] == [1, 2, 2, 2, 2, 2]  # that were made


def test_the_choice_of_other_methods_stays_on_record(tmp_path: Path) -> None:
    first = results([0.2, 0.9, 0.3, 0.1, 0.4, 0.5])
    write_choice(tmp_path, first, chosen(first, maximize=True), first[:1])
    run = small(steps=4, model="rtu")
    second = [Tuned(each, 0.7) for each in GRID.variants("rtu", run)]
    for _ in range(2):  # what is tuned again is replaced
        write_choice(tmp_path, second, chosen(second, maximize=True))
    written = json.loads((tmp_path / "tuning.json").read_text())
    assert set(written["chosen"]) == {"sab", "rtu"}
    assert [each["method"] for each in written["grid"]] == ["sab"] * 6 + ["rtu"] * 2
    assert [each["method"] for each in written["finals"]] == ["sab"]


def test_a_recorded_choice_takes_the_place_of_the_tuning(tmp_path: Path) -> None:
    """The short runs of RTU have a radius, those of others a bias."""
    runs = {"lstm": small(steps=4, model="lstm"), "rtu": small(steps=4, model="rtu")}
    wanted = replace(grid_experiment(), settings=[Setting("T4", runs, grid=GRID)])
    tried = [Tuned(each, each.lr) for method, run in runs.items() for each in GRID.variants(method, run)]
    choice = chosen(tried, maximize=True)
    write_choice(tmp_path, tried, choice)
    path = tmp_path / "tuning.json"
    assert read_choice(path, runs) == tuned_runs(runs, choice)
    settled = with_choices(wanted, path)
    assert settled.remarks[-1] == "What the tuning chose was read from tuning.json; the grid was not run again."
    options = ReproduceOptions(out=tmp_path / "runs")
    assert tuning_jobs(settled, options) == final_jobs(settled, options) == []
    assert tuned(settled, options) == (settled, [])
    words = {
        job.folder.name: list(zip(job.words, job.words[1:], strict=False)) for job in training_jobs(settled, options)
    }
    assert ("--lr", "0.01") in words["lstm-seed0"]
    assert ("--lr", "0.01") in words["rtu-seed0"]
    assert ("--min-radius", "0.0") not in words["lstm-seed0"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({}, "choices: .*tuning.json records no choice"),
        ({"chosen": []}, "choices: .*tuning.json records no choice"),
        ({"chosen": {"sab": {"lr": 0.1, "forget_bias": 1.0}}}, "has no choice for lstm; it has sab"),
        ({"chosen": {"lstm": {"lr": 0.1}}}, r"has \{'lr': 0.1\} for lstm, expected forget_bias and lr"),
        ({"chosen": {"lstm": {"lr": 0.1, "min_radius": 0.9}}}, "for lstm, expected forget_bias and lr"),
        ({"chosen": {"lstm": {"lr": -1.0, "forget_bias": 1.0}}}, "tuning.json, lstm: lr must be above 0"),
    ],
)
def test_choices_that_cannot_be_used_are_refused(tmp_path: Path, content: dict[str, object], error: str) -> None:
    path = tmp_path / "tuning.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=error):
        with_choices(grid_experiment(), path)


def test_a_choice_that_was_told_another_lag_is_pointed_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is taken as it stands: the file may have been written by hand."""
    runs = {"sab": small(), "lstm": small(model="lstm"), "rtu": small(model="rtu")}
    setting = Setting("lag50", runs, grid=grid(50, share=1.0))
    points = {
        "sab": {"lr": 0.01, "forget_bias": 1.0},
        "lstm": {"lr": 0.01, "forget_bias": "chrono:5"},
        "rtu": {"lr": 0.01, "min_radius": 0.8},
    }
    path = tmp_path / "tuning.json"
    path.write_text(json.dumps({"chosen": points}))
    settled = with_choices(replace(grid_experiment(), settings=[setting]), path)
    assert settled.settings[0].runs["rtu"].model.min_radius == 0.8
    told = "initial values of lstm, rtu are in tuning.json and not in the grid of lag50: they may be meant"
    assert told in settled.remarks[-1]
    assert told in capsys.readouterr().out


def test_choices_are_of_one_setting_that_is_tuned(tmp_path: Path) -> None:
    path, wanted = tmp_path / "tuning.json", grid_experiment()
    with pytest.raises(ValueError, match=r"tuning\.json is damaged: it is missing"):
        with_choices(wanted, path)
    (setting,) = wanted.settings
    with pytest.raises(ValueError, match=r"choices: .* is of one setting; name it by settings, of T4, T8"):
        with_choices(replace(wanted, settings=[setting, replace(setting, name="T8")]), path)
    with pytest.raises(ValueError, match="choices: the methods of tiny T4 are not tuned"):
        with_choices(replace(wanted, settings=[replace(setting, grid=None)]), path)


def test_runs_are_listed_before_the_tuning_has_chosen(tmp_path: Path) -> None:
    """A run that was begun with a rate typed by hand is no obstacle to the list, and is listed with that rate."""
    options, wanted = ReproduceOptions(out=tmp_path), grid_experiment()
    (planned,) = training_jobs(wanted, options)
    assert planned.config is not None
    other = replace(planned.config, train=replace(planned.config.train, lr=0.5))
    finish([replace(planned, config=other)], [0.3])
    (job,) = training_jobs(wanted, options)
    assert job.state == "done"
    assert job.config == other
    finish(tuning_jobs(wanted, options), [0.2, 0.9, 0.3, 0.1, 0.4, 0.5])
    with pytest.raises(ValueError, match=r"begun with other options \(.*train\.lr: 0\.5 there, 0\.001 here"):
        training_jobs(tuned(wanted, options)[0], options)


def test_the_finals_choose_and_not_the_short_runs(tmp_path: Path) -> None:
    options, wanted = ReproduceOptions(out=tmp_path), grid_experiment(finalists=2)
    assert [run.train.steps for run in finalists(wanted, options)] == [4, 4]
    with pytest.raises(ValueError, match="no result yet"):
        final_jobs(wanted, options)
    finish(tuning_jobs(wanted, options), [0.2, 0.9, 0.3, 0.1, 0.4, 0.5])
    jobs = final_jobs(wanted, options)
    assert [job.folder.name for job in jobs] == ["lstm-lr0.001-bias-1.0-whole", "lstm-lr0.01-bias-chrono9-whole"]
    with pytest.raises(ValueError, match="no result yet"):
        tuned(wanted, options)
    finish(jobs, [0.6, 0.7])
    settled, tables = tuned(wanted, options)
    (job,) = training_jobs(settled, options)
    assert ("--forget-bias", "chrono:9") in list(zip(job.words, job.words[1:], strict=False))
    short, full = tables
    assert [row[1:] for row in short.rows] == [
        ["PyTorch's biases", "0.2000", "0.1000"],
        ["forget bias 1.0", "0.9000", "0.4000"],
        ["forget bias chrono:9", "0.3000", "0.5000 *"],
    ]
    assert full.title.startswith("Finals, in full length, of T4")
    assert [row[1:] for row in full.rows] == [
        ["forget bias 1.0", "0.6000", "-"],
        ["forget bias chrono:9", "-", "0.7000 *"],
    ]
    written = json.loads((tmp_path / "tiny" / "T4" / "tuning" / "tuning.json").read_text())
    assert written["chosen"] == {"lstm": {"lr": 1e-2, "forget_bias": "chrono:9"}}
    assert [each["valid"] for each in written["finals"]] == [0.6, 0.7]


def test_the_time_is_that_of_the_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that differ in seed, rate and bias alone are measured once; a timed run takes its time."""
    measured: list[RunConfig] = []

    def cost(run: RunConfig) -> float:
        measured.append(run)
        return 0.5

    monkeypatch.setattr(estimate, "seconds_per_update", cost)
    variants = [each.config for each in GRID.variants("lstm", small(steps=4, model="lstm"))]
    assert estimate.seconds([*variants, small(steps=1000, max_seconds=60.0)]) == 6 * 2 * 0.5 + 60
    assert len(measured) == 1
    assert "about 36 minutes with --jobs 2" in estimate.told(2 * 36 * 60, 2)
    assert "about 10.0 hours with --jobs 1" in estimate.told(36000, 1)


def test_an_update_is_timed() -> None:
    assert 0 < estimate.seconds_per_update(small(steps=4)) < 5


@pytest.mark.parametrize("model", ["sab", "tbptt", "rtu"])
def test_updates_of_a_stream_are_timed_with_and_without_answers(model: Literal["sab", "tbptt", "rtu"]) -> None:
    """Most chunks of a cue hold no answer, so that their loss has no gradient."""
    config = small(steps=4, model=model)
    stream = replace(config.model, capacity=8, normalizer="softmax1")
    run = replace(config, task=Cue(lag=200, chunk=10), model=stream, train=replace(config.train, batch_size=2))
    assert 0 < estimate.seconds_per_update(run.essential()) < 5


def test_the_time_of_every_method_on_a_stream_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of those to which options of SAB, such as its capacity, mean nothing."""
    monkeypatch.setattr(estimate, "UPDATES", 1)
    (near, _) = delayed.cue(None, verify=True).settings
    runs = [replace(run, train=replace(run.train, batch_size=1)) for run in near.runs.values()]
    assert {run.model.model for run in runs} == {"sab", "lstm", "tbptt", "rtu"}
    told = estimate.seconds(runs)
    assert told is not None and told > 0


@pytest.mark.parametrize(("capacity", "updates"), [(8, 12), (40, 44), (None, 5)])
def test_the_memory_of_a_stream_is_full_before_updates_count(
    capacity: int | None, updates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten steps a chunk and a memory every ten steps; with no memory at all, one update is not counted."""
    learned: list[int] = []

    def learn(_: Run, batch: Batch) -> None:
        learned.append(len(batch.input))

    monkeypatch.setattr(estimate, "learn", learn)
    monkeypatch.setattr(estimate, "UPDATES", 4)
    config = small(steps=4, model="sab" if capacity else "lstm")
    stream = replace(config.model, capacity=capacity, k_trunc=10, k_att=10 if capacity else None)
    run = replace(config, task=Cue(lag=200, chunk=10), model=stream)
    assert estimate.seconds_per_update(run.essential()) > 0
    assert learned == [10] * updates


def test_without_its_data_no_time_is_told(tmp_path: Path) -> None:

    missing = replace(small(steps=4), task=PTB(data_dir=tmp_path))
    assert estimate.seconds([missing]) is None
    assert "cannot be estimated" in estimate.told(None, 1)
