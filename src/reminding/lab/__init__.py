"""Experiments: configuration, model, training, evaluation and reports. Needs the extra `experiments`.

All code is in the rooms within.
May import: nothing of the package.
"""
