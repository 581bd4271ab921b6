"""A run and its folder: configuration, model, checkpoint, log, records read back, and the machine.

Every other room of `lab` may import this one.
May import: `checks`, `disk`, `version`, `lab.runs.saved`, `reminding.nn`, `reminding.tasks`.
"""
