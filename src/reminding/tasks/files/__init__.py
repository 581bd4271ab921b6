"""The files of a stream: how they are opened, what a run keeps of them, and how steps become inputs and targets.

`labelled` does this for labelled series.
May import: `checks`, `tasks.kinds`, `tasks.data`, `tasks.data.tables`, `tasks.data.labelled`, `tasks.data.times`.
"""
