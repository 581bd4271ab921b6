"""Recurrent networks that are reminded of their past: Sparse Attentive Backtracking for PyTorch."""

from reminding.moved import install
from reminding.nn import SAB, Credit, Memory, Recall, SABState, tbptt

install()
del install

__version__ = "0.1.0"

__all__ = ["SAB", "Credit", "Memory", "Recall", "SABState", "__version__", "tbptt"]
