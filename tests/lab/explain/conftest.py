"""Runs to explain, with their initial weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import ModelOptions, RunConfig
from reminding.lab.runs.model import SequenceModel
from reminding.tasks import Copying


def untrained(folder: Path, task: Any, **options: Any) -> Path:
    """A run that still has its initial weights."""
    torch.manual_seed(0)
    options = {"hidden_size": 8, "k_trunc": 3, "capacity": 16 if task.streamed else None, **options}
    config = RunConfig(task, ModelOptions(**options))
    folder.mkdir()
    config.save(folder / checkpoint.CONFIG_NAME)
    checkpoint.save_weights(folder, SequenceModel(task, config.model))
    return folder


@pytest.fixture
def copying(tmp_path: Path) -> Path:
    return untrained(tmp_path / "copying", Copying(T=8, symbols=3))
