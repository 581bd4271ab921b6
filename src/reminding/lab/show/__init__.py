"""What things look like: figures, charts, HTML, tables, the terminal. Each library for it has its one file here.

Knows no run, no model and no task.
May import: nothing else of the package.
"""
