"""A run and its folder: configuration, model, checkpoint, log, the records read back, the machine it ran on.

Every other room of `lab` may import this one.
May import: `reminding.nn`, `reminding.tasks`.
"""
