"""Experiments: configuration, model, training, evaluation and reports. Needs the extra `experiments`."""
