"""Recurrent networks that are reminded of their past: Sparse Attentive Backtracking for PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reminding.moved import install
from reminding.nn import SAB, Credit, Memory, Recall, SABState, tbptt
from reminding.version import __version__

if TYPE_CHECKING:
    from reminding.lab.predict import Predictor

install()
del install

__all__ = ["SAB", "Credit", "Memory", "Recall", "SABState", "__version__", "load", "tbptt"]


def load(run: str | Path, *, device: str = "cpu") -> Predictor:
    """Load a trained run as an object that predicts; see `reminding.lab.predict.load`."""
    from reminding.lab.predict import load

    return load(run, device=device)
