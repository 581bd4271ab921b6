"""Reports on many runs: tables over seeds, learning curves, and the page that shows them.

May import: `lab.runs`, `lab.show`, `lab.bench`, `reminding.nn`, `reminding.tasks`.
"""

from reminding.lab.report.writing import Report, write_report

__all__ = ["Report", "write_report"]
