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
    """Load a trained run as an object that predicts; see `reminding.lab.predict.load`.

    Args:
        run: its folder; no training data are needed.
        device: to compute on; "auto": a GPU if there is one.

    Returns:
        A `Predictor`, whose `predict` takes a path, a table or an array.

    Raises:
        FileNotFoundError: the folder is not a run, or has no weights yet.
        ValueError: a file cannot be read; or the run has code of its own or data that are not here.
    """
    from reminding.lab.predict import load

    return load(run, device=device)
