"""An experiment of a few updates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reminding.lab.paper import experiments as paper
from reminding.lab.paper.experiments import Experiment, FurtherTest, Setting
from reminding.lab.paper.tuning import Grid
from reminding.lab.runs.evaluation import EvalOptions
from tests.lab.conftest import small


def tiny(data_dir: Path | None, verify: bool) -> Experiment:
    """An experiment with two methods of a few updates; one is also tested at another length."""
    runs = {"sab": small(steps=4), "lstm": small(steps=4, model="lstm")}
    setting = Setting("T4", runs)
    test = FurtherTest(6, ("sab",), EvalOptions(sequences=3, steps_at_once=5, capacity=2, evict="least_recalled"))
    return Experiment("tiny", "Tiny", [setting], ("A remark.",), "tiny", [test])


def tiny_tuned(data_dir: Path | None, verify: bool) -> Experiment:
    """One method of it, tuned over two rates and two biases first."""
    whole = tiny(data_dir, verify)
    setting = Setting("T4", {"lstm": whole.settings[0].runs["lstm"]}, grid=Grid((1e-3, 1e-2), (None, 1.0), share=0.5))
    return replace(whole, name="tiny-tuned", folder="tiny-tuned", settings=[setting], tests=())


@pytest.fixture(autouse=True)
def only_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(paper.EXPERIMENTS, "tiny", tiny)
    monkeypatch.setitem(paper.EXPERIMENTS, "tiny-tuned", tiny_tuned)
