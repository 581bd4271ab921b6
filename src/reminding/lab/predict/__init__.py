"""Trained runs at work: forecasts, labels, text, one step at a time, and the Hugging Face Hub.

May import: `disk`, `lab.runs`, `reminding.nn`, `reminding.tasks`.
"""

from reminding.lab.predict.predictor import Predictor, load
from reminding.lab.predict.stepper import Stepper

__all__ = ["Predictor", "Stepper", "load"]
