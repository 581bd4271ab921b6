"""Small networks of experiments."""

from __future__ import annotations

from typing import Any

import torch

from reminding.lab.runs.config import ModelOptions
from reminding.lab.runs.model import SequenceModel

MODELS = ("sab", "lstm", "tbptt", "attention", "transformer", "mingru", "rtu")
UNLIKE_SAB = ("transformer", "mingru", "rtu")


def build(task: Any, **options: Any) -> SequenceModel:
    torch.manual_seed(0)
    return SequenceModel(task, ModelOptions(hidden_size=8, k_trunc=3, **options))
