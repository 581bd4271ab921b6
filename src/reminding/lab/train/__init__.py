"""Training and evaluation: one loop for every task and model, gradient clipping, the cost of an update.

May import: `disk`, `lab.runs`, `lab.runs.saved`, `lab.show`, `reminding.nn`, `reminding.tasks`.
"""
