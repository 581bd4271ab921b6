"""The loop of the ablation that stores other states equals the layer when it stores what the layer stores."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from reminding.lab.paper import experiments as paper
from reminding.lab.runs.config import RunConfig
from reminding.tasks import Copying
from tests.places import BENCHMARKS


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = BENCHMARKS / "what_is_written.py"
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small(**model: Any) -> RunConfig:
    base = paper.parts().runs["recipe"]
    options = replace(base.model, hidden_size=8, embedding_size=4, k_trunc=3, **model)
    return RunConfig(Copying(T=6, symbols=2, balanced=True), options, replace(base.train, batch_size=4))


@pytest.mark.parametrize("model", [{}, {"k_top": 2, "k_att": 2}], ids=["recipe", "more memories than are recalled"])
def test_writing_h_is_what_the_layer_does(script: ModuleType, model: dict[str, Any]) -> None:
    script.check(small(**model))


def test_writing_anything_else_is_not(script: ModuleType) -> None:
    traces = [torch.tensor(script.updated(script.built(small(), written), small(), 2)) for written in script.WRITTEN]
    assert not torch.allclose(traces[0], traces[1], rtol=1e-4)
    assert not torch.allclose(traces[0], traces[2], rtol=1e-4)


def test_it_writes_what_it_found(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = paper.Setting("recipe", {"recipe": small()})

    def recipe(_: float) -> paper.Setting:
        return setting

    monkeypatch.setattr(script.paper, "recipe", recipe)
    script.main(["--seeds", "2", "--steps", "3", "--out", str(tmp_path)])
    runs = json.loads((tmp_path / "measured.json").read_text(encoding="utf-8"))["runs"]
    assert [(run["seed"], run["written"]) for run in runs] == [(s, w) for s in (0, 1) for w in ("h", "h_hat", "c")]
