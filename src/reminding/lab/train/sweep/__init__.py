"""Many runs by many workers: jobs in a shared storage, and the search of a space of options.

May import: `checks`, `disk`, `lab.runs`, `lab.show`, `lab.train`, `reminding.nn`, `reminding.tasks`.
"""
