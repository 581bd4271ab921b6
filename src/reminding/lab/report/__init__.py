"""Reports on many runs: tables over seeds, learning curves, and their page; and the check of one run's files.

May import: `checks`, `disk`, `lab.runs`, `lab.show`, `lab.bench`, `lab.explain`, `lab.train.sweep`, `reminding.nn`,
`reminding.tasks`.
"""

from reminding.lab.report.writing import Report, write_report

__all__ = ["Report", "write_report"]
