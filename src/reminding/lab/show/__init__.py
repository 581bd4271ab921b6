"""Output: figures, charts, HTML, tables, the terminal. Each library for it is imported by one file here.

This room knows no run, no model and no task.
May import: `disk`.
"""
