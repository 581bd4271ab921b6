"""Trained runs at work: forecasts, labels, text, one step at a time, and the Hugging Face Hub.

May import: `checks`, `disk`, `lab.runs`, `lab.show`, `reminding.nn`, `reminding.tasks`.
"""

from reminding.lab.predict.horizon import HorizonForecast
from reminding.lab.predict.predictor import Predictor, load
from reminding.lab.predict.stepper import PredictionStepper

__all__ = ["HorizonForecast", "PredictionStepper", "Predictor", "load"]
