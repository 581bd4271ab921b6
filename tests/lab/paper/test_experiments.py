"""The presets are complete, comparable, and the same from the command line as in `reproduce`."""

from __future__ import annotations

import pytest

from reminding.lab.paper.experiments import EXPERIMENTS, Experiment, adding, copying, matched, parameters
from reminding.lab.runs.config import ModelOptions, RunConfig, plain
from reminding.lab.runs.records import setting_name
from reminding.tasks import Copying

METHODS = {"sab", "tbptt", "lstm", "attention", "transformer"}


@pytest.fixture(scope="module", params=sorted(EXPERIMENTS))
def experiment(request: pytest.FixtureRequest) -> Experiment:
    return EXPERIMENTS[request.param](None, True)


def test_every_experiment_of_the_paper_is_there() -> None:
    assert set(EXPERIMENTS) == {"copying", "adding", "ptb", "text8", "pmnist", "cifar10", "transfer", "ablation"}
    names = [setting.name for setting in EXPERIMENTS["copying"](None, True).settings]
    assert names[:3] == ["T100", "T200", "T300"]


def test_every_method_is_compared_wherever_it_can_run(experiment: Experiment) -> None:
    if experiment.name == "ablation":
        pytest.skip("compares SAB with itself")
    for setting in experiment.settings:
        models = {run.model.model for run in setting.runs.values()}
        streamed = next(iter(setting.runs.values())).task.streamed
        assert models == (METHODS - {"attention", "transformer"} if streamed else METHODS)
        assert len([run for run in setting.runs.values() if run.model.model == "tbptt"]) >= 2


def told(run: RunConfig) -> str:
    return setting_name({"name": run.task.name, **plain(run.task)})


def test_methods_are_matched_in_parameters_data_and_length(experiment: Experiment) -> None:
    if experiment.name == "ablation":
        pytest.skip("changes what has parameters")
    for setting in experiment.settings:
        runs = list(setting.runs.values())
        wanted = parameters(runs[0].task, runs[0].model)
        for name, run in setting.runs.items():
            assert parameters(run.task, run.model) == pytest.approx(wanted, rel=0.06), name
            assert told(run) == told(runs[0]), "the same data and metric"
            ours = (run.train.steps, run.train.max_seconds, run.train.batch_size, run.train.eval_sequences)
            first = runs[0].train
            assert ours == (first.steps, first.max_seconds, first.batch_size, first.eval_sequences), name


def test_the_nearest_hidden_size_is_found() -> None:
    task, options = Copying(T=5), ModelOptions(model="lstm", hidden_size=40)
    wanted = parameters(task, ModelOptions(hidden_size=40))
    found = matched(task, options, wanted)
    counts = {size: parameters(task, ModelOptions(model="lstm", hidden_size=size)) for size in range(4, 161, 4)}
    miss = {size: abs(count - wanted) for size, count in counts.items()}
    assert miss[found.hidden_size] == min(miss.values())


def test_the_papers_own_setting_is_among_the_methods() -> None:
    for setting in (copying(100), adding(200)):
        plain = setting.runs["sab-paper"]
        assert (plain.model.normalizer, plain.model.k_att, plain.train.clip_kind) == ("threshold", 2, "fixed")


def test_the_ablation_of_credit_uses_the_runs_of_the_other_experiments() -> None:
    for name, T in (("copying", 100), ("adding", 200)):
        theirs = next(each for each in EXPERIMENTS[name](None, True).settings if each.name == f"T{T}")
        shared = next(each for each in EXPERIMENTS["ablation"](None, True).settings if each.name == f"{name}-T{T}")
        assert shared.folder == f"{name}/T{T}"
        assert shared.runs["sab"] == theirs.runs["sab"]
        assert shared.runs["no-credit"].model.backtrack is False
