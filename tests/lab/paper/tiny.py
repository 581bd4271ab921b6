"""An experiment of a few updates."""

from __future__ import annotations

from pathlib import Path

import pytest

from reminding.lab.paper import experiments as paper
from reminding.lab.paper.experiments import Experiment, FurtherTest, Setting
from reminding.lab.runs.evaluation import EvalOptions
from tests.lab.conftest import small


def tiny(data_dir: Path | None, verify: bool) -> Experiment:
    """An experiment with two methods of a few updates; one is also tested at another length."""
    runs = {"sab": small(steps=4), "lstm": small(steps=4, model="lstm")}
    setting = Setting("T4", runs)
    test = FurtherTest(6, ("sab",), EvalOptions(sequences=3, steps_at_once=5, capacity=2, evict="least_recalled"))
    return Experiment("tiny", "Tiny", [setting], ("A remark.",), "tiny", [test])


@pytest.fixture(autouse=True)
def only_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(paper.EXPERIMENTS, "tiny", tiny)
