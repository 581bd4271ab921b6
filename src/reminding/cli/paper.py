"""The verb `reproduce`."""

from __future__ import annotations

from typing import Any

from reminding.cli.parsing import LISTS, first_line, known_name, overview, parse


def reproduce(arguments: list[str]) -> None:
    """Run an experiment of the paper: reminding reproduce NAME [--seeds 5] [--jobs 2]."""
    from reminding.lab.paper.experiments import EXPERIMENTS
    from reminding.lab.paper.reproduce import ReproduceOptions
    from reminding.lab.verbs import campaigns

    if not arguments or arguments[0].startswith("-"):
        lines = {name: first_line(experiment) for name, experiment in EXPERIMENTS.items()}
        usage = "reminding reproduce NAME [--option value ...]"
        print(overview(usage, lines, f"reminding reproduce NAME --help {LISTS}"))
        return
    name = known_name("experiment", arguments[0], EXPERIMENTS)

    def run(*, reproduce: Any) -> None:
        """Run every method and seed of an experiment, and write its tables and figures.

        Finished runs are not repeated, and interrupted ones continue. Each run is a command of its own, which is
        shown and can also be typed.

        Args:
            reproduce: which part of the experiment, how long, and where.
        """
        campaigns.reproduce(name, reproduce)

    parse(run, arguments[1:], f"reproduce {name}", reproduce=ReproduceOptions())
