"""The paper's experiments: their settings and methods, and the jobs that run them.

May import: `checks`, `disk`, `lab.runs`, `lab.runs.saved`, `lab.show`, `lab.train`, `lab.train.sweep`,
`reminding.nn`, `reminding.tasks`.
"""
