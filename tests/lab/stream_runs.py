"""Small runs on streams, and a comparison of two of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import ModelOptions, RunConfig, TrainOptions
from reminding.lab.runs.runlog import read_log
from reminding.nn.state.storage import load_tensors

TINY: dict[str, Any] = {"hidden_size": 8, "k_trunc": 3, "k_top": 2}


def small(task: Any, steps: int = 6, model: Any = "sab", **train: Any) -> RunConfig:
    options: dict[str, Any] = {"batch_size": 3, "eval_every": 3, "eval_sequences": 4, **train}
    training = TrainOptions(steps=steps, device="cpu", **options)
    return RunConfig(task, ModelOptions(model=model, capacity=4, **TINY), training).essential()


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """1,500 bytes with few distinct values."""
    path = tmp_path / "text"
    path.write_bytes(np.random.default_rng(0).integers(97, 105, 1500, dtype=np.uint8).tobytes())
    return path


def content(folder: Path) -> dict[str, Any]:
    """The last checkpoint: "model" and "optimizer" by name, and the "standing"."""
    tensors, metadata = load_tensors(last(folder) / checkpoint.TRAINING_NAME)
    parts = {
        part: {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items() if name.startswith(part)}
        for part in ("model", "optimizer")
    }
    return {**parts, "standing": json.loads(metadata["training"])["standing"]}


def last(folder: Path) -> Path:
    """The folder of the last checkpoint."""
    found = checkpoint.newest(folder)
    assert found is not None
    return found


def stream_state(folder: Path) -> dict[str, Tensor]:
    return load_tensors(last(folder) / checkpoint.STATE_NAME)[0]


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, stream states and every logged number agree bit for bit; only times may differ."""
    for got, want in (
        (content(one)["model"], content(other)["model"]),
        (stream_state(one), stream_state(other)),
        (load_tensors(one / checkpoint.WEIGHTS_NAME)[0], load_tensors(other / checkpoint.WEIGHTS_NAME)[0]),
    ):
        assert got.keys() == want.keys()
        assert all(torch.equal(got[name], want[name]) for name in want)
    logs = [[{**record, "seconds": 0} for record in read_log(folder)] for folder in (one, other)]
    assert logs[0] == logs[1]
    took = {"seconds", "ms_per_update", "peak_resident_bytes", "command"}
    summaries = [checkpoint.read_summary(folder) for folder in (one, other)]
    assert {k: v for k, v in summaries[0].items() if k not in took} == {
        k: v for k, v in summaries[1].items() if k not in took
    }
