"""Explanations: what a trained network recalled, which memories received credit, and whether they mattered.

May import: `checks`, `disk`, `lab.runs`, `lab.show`, `lab.predict`, `reminding.nn`, `reminding.tasks`.
"""

from reminding.lab.explain.explanation import ExplainOptions, Explanation, Reminders, explain

__all__ = ["ExplainOptions", "Explanation", "Reminders", "explain"]
