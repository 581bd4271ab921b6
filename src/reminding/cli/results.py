"""The verbs `report`, `explain` and `check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reminding.cli.parsing import parse, run_folder


def report(arguments: list[str]) -> None:
    """Summarize runs in tables and figures: reminding report RUN... [--out DIR]."""
    from reminding.lab.verbs import commands

    def run(runs: list[Path], /, *, out: Path | None = None, sequence: int = 0) -> None:
        """Write tables of methods over their seeds, learning curves, and what SAB recalled in one test sequence.

        Args:
            runs: folders of runs, finished or not, or folders that hold runs at any depth.
            out: folder to write report.md, index.html and the figures to; None: RUNS/report for a single folder, or
                report in the present folder for several.
            sequence: number of the test sequence to draw, from 0.
        """
        commands.report(runs, out, sequence)

    parse(run, arguments, "report")


def explain(arguments: list[str]) -> None:
    """Show what a trained model recalls and which memories get credit: reminding explain RUN [--input FILE]."""
    folder, options = run_folder(arguments, "explain")
    from reminding.lab.explain.explanation import ExplainOptions
    from reminding.lab.verbs import commands

    def run(*, explain: Any, out: Path | None = None, occlude: int | None = None) -> None:
        """Write a page that shows what each step of some sequences recalled, and which memories received the credit.

        Args:
            explain: which sequences, and the credit of which steps.
            out: folder to write index.html and the figures to; None: RUN/explain.
            occlude: test the credit on this many sequences: blank parts of each, the most credited first and in other
                orders, and see how the metric falls; None: no test.
        """
        commands.explain(folder, explain, out, occlude)

    parse(run, options, "explain RUN", explain=ExplainOptions())


def check(arguments: list[str]) -> None:
    """Verify every file of a run, and say what can be done with it: reminding check RUN."""
    from reminding.lab.verbs import commands

    def run(folder: Path, /) -> None:
        """Compare every file of a run with its checksum, and say what is damaged and from where the run can go on.

        Nothing is changed. The exit status is 1 if a file is damaged.

        Args:
            folder: the folder of the run.
        """
        commands.check(folder)

    parse(run, arguments, "check")
