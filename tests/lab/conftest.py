"""Small runs for tests: one that trains in seconds, and its options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reminding.lab.runs.config import ModelOptions, RunConfig, TrainOptions
from reminding.lab.train import trainer
from reminding.tasks import Copying


def small(steps: int = 6, task: Any = None, model: str = "sab", **train: Any) -> RunConfig:
    """A run of a few updates on very short sequences."""
    options: dict[str, Any] = {"batch_size": 4, "eval_every": 3, "eval_sequences": 8, "test_sequences": 8, **train}
    return RunConfig(
        task or Copying(T=4, symbols=2),
        ModelOptions(model=model, hidden_size=8, k_trunc=3),  # pyright: ignore[reportArgumentType]
        TrainOptions(steps=steps, device="cpu", **options),
    ).essential()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    trainer.train(small(), folder)
    return folder
