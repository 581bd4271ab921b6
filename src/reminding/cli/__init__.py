"""The command line: verbs only, no logic. Each verb reads its options and calls a function of `lab.verbs`.

`program` finds the verb, `parsing` reads the options, the other files hold the verbs. A verb imports `lab` when it
runs, so that `reminding --help` needs nothing of it.
May import: `version`, `lab.verbs`, `lab.show`, and options in `lab.runs`, `lab.explain`, `lab.bench`,
`lab.bench.kinds`, `lab.paper` and `lab.train.sweep`; of `lab.train` the number of processes.
"""

from reminding.cli.program import VERBS, main

__all__ = ["VERBS", "main"]
