"""The presets are complete, comparable, and the same from the command line as in `reproduce`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reminding.disk.fields import plain
from reminding.lab.paper import kiln
from reminding.lab.paper.experiments import EXPERIMENTS, Experiment, Setting, adding, copying
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.parity import parameters
from reminding.lab.runs.records import setting_name

ROOT = Path(__file__).parents[3]
PAPER = {"copying", "adding", "ptb", "text8", "pmnist", "cifar10", "transfer", "ablation"}
LAGS: dict[str, Callable[[Any], int]] = {
    "cue": lambda task: task.lag,
    "kiln": lambda task: 320,
    "nback": lambda task: task.back * task.item_steps,
    "match": lambda task: task.back * task.item_steps,
}
"""Steps between an event and the question about it."""
OF_SAB_ALONE = {"ablation", "recipe"}
METHODS = {"sab", "tbptt", "lstm", "mingru", "attention", "transformer"}


@pytest.fixture(scope="module", params=sorted(EXPERIMENTS))
def experiment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return EXPERIMENTS[request.param](tmp_path_factory.mktemp("data"), True)


def test_every_experiment_of_the_paper_is_there() -> None:
    assert set(EXPERIMENTS) >= PAPER
    names = [setting.name for setting in EXPERIMENTS["copying"](None, True).settings]
    assert names[:3] == ["T100", "T200", "T300"]


def test_every_method_is_compared_wherever_it_can_run(experiment: Experiment) -> None:
    if experiment.name in OF_SAB_ALONE:
        pytest.skip("compares SAB with itself")
    if experiment.name not in PAPER:
        pytest.skip("has rivals of its own")
    for setting in experiment.settings:
        models = {run.model.model for run in setting.runs.values()}
        streamed = next(iter(setting.runs.values())).task.streamed
        assert models == (METHODS - {"attention", "transformer"} if streamed else METHODS)
        assert len([run for run in setting.runs.values() if run.model.model == "tbptt"]) >= 2


def of_sab(experiment: Experiment) -> list[Setting]:
    """All settings but those that show an LSTM where the lag fits its chunk."""
    return [setting for setting in experiment.settings if not setting.name.endswith("-fits")]


def told(run: RunConfig) -> str:
    return setting_name({"name": run.task.name, **plain(run.task)})


def test_methods_are_matched_in_parameters_data_and_length(experiment: Experiment) -> None:
    if experiment.name == "ablation":
        pytest.skip("changes what has parameters")
    for setting in experiment.settings:
        runs = list(setting.runs.values())
        wanted = parameters(runs[0].task, runs[0].model)
        for name, run in setting.runs.items():
            assert parameters(run.task, run.model) == pytest.approx(wanted, rel=0.03), name
            assert told(run) == told(runs[0]), "the same data and metric"
            ours = (run.train.steps, run.train.max_seconds, run.train.batch_size, run.train.eval_sequences)
            first = runs[0].train
            assert ours == (first.steps, first.max_seconds, first.batch_size, first.eval_sequences), name


def test_the_papers_own_setting_is_among_the_methods() -> None:
    for setting in (copying(100), adding(200)):
        plain = setting.runs["sab-paper"]
        assert (plain.model.normalizer, plain.model.k_att, plain.train.clip_kind) == ("threshold", 2, "fixed")


def test_every_comparison_of_methods_is_tuned_over_one_grid(experiment: Experiment) -> None:
    for setting in experiment.settings:
        if experiment.name in OF_SAB_ALONE:
            assert setting.grid is None
            continue
        assert setting.grid is not None
        assert len(setting.grid.rates) >= 3
        assert None in setting.grid.biases
        assert any(str(bias).startswith("chrono:") for bias in setting.grid.biases)


def test_sab_without_credit_stands_beside_sab(experiment: Experiment) -> None:
    if experiment.name in OF_SAB_ALONE:
        pytest.skip("has its own")
    for setting in of_sab(experiment):
        assert setting.runs["sab-no-credit"].model == replace(setting.runs["sab"].model, backtrack=False)
        if setting.runs["sab"].task.streamed:
            assert setting.runs["sab-horizon-0"].model == replace(setting.runs["sab"].model, horizon=0)


def test_beyond_the_paper_the_rival_on_streams_is_trained_by_exact_online_gradients(tmp_path: Path) -> None:
    for name in LAGS:
        for setting in of_sab(EXPERIMENTS[name](tmp_path, True)):
            assert setting.runs["rtu"].model.model == "rtu"
            sab = setting.runs["sab"]
            assert sab.model.capacity is not None
            reach = sab.model.capacity * (sab.model.k_att or sab.model.k_trunc or 1)
            task = sab.task
            lag = LAGS[name](task)
            assert reach > lag >= task.chunk, "no chunk holds an answer and its question, and a memory may"


@pytest.mark.parametrize(("name", "setting"), [("nback", "rows-back3"), ("match", "back1"), ("match", "back4")])
def test_an_lstm_is_shown_where_the_lag_fits_its_chunk(name: str, setting: str) -> None:
    settings = {setting.name: setting for setting in EXPERIMENTS[name](None, True).settings}
    run, fits = settings[setting].runs["lstm"], settings[f"{setting}-fits"].runs["lstm"]
    assert fits.task.chunk >= 2 * run.task.back * run.task.item_steps
    assert fits == replace(run, task=fits.task)


def test_the_kilns_table_is_the_one_that_its_page_makes(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "howto" / "kiln.md").read_text()
    script = page.split("```python\n", 1)[1].split("```", 1)[0]
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    made = kiln.table(tmp_path)
    assert made.read_bytes() == (tmp_path / "kiln.csv").read_bytes()
    changed = made.stat().st_mtime_ns
    assert kiln.table(tmp_path) == made
    assert made.stat().st_mtime_ns == changed, "it is made once"
