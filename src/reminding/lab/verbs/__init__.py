"""The actions of the command line's verbs, with their output on the terminal: of one run, and of many.

May import: `checks`, `disk`, `lab.runs`, `lab.show`, `lab.train`, `lab.train.sweep`, `lab.predict`, `lab.explain`,
`lab.report`, `lab.paper`, `lab.bench`, `lab.bench.kinds`, `reminding.tasks`.
"""
