"""Tasks that ask for something long after it was shown, and an evaluation of texts by how long ago a word came.

May import: `checks`, `tasks`, `tasks.kinds`, `tasks.data`, `tasks.data.labelled`.
"""
