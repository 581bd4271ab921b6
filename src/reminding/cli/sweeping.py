"""The verb `sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reminding.cli.parsing import check_size, given_names, named_task, parse

USAGE = "reminding sweep TASK --space FILE [--trials 20] [--storage URL] [--option value ...]"


def sweep(arguments: list[str]) -> None:
    """Search options of a task by many trials: reminding sweep TASK --space FILE [--storage URL]."""
    from reminding.lab.runs.config import RunConfig, TrainOptions, model_defaults
    from reminding.lab.train.sweep.sweep import SweepOptions
    from reminding.lab.verbs import campaigns

    if (task_class := named_task("sweep", USAGE, arguments)) is None:
        return
    check_size(arguments)
    given = given_names(arguments)

    def run(
        *,
        sweep: Any,
        task: Any,
        model: Any,
        train: Any,
        parameters: int | None = None,
        out: Path | None = None,
    ) -> None:
        """Train one model after another with options drawn from a space, and show the best.

        The same command in another terminal, or on another machine with the same storage, adds a worker. A worker
        without a free trial waits for the others, and runs the trials of those that have died.

        Args:
            sweep: the search.
            task: the task.
            model: the network; options that the space does not search.
            train: the training of a trial; options that the space does not search.
            parameters: the number of parameters that every model shall have, within 3%; chooses its hidden_size.
            out: folder of the sweep, where reminding report finds it; None: runs/sweep/STUDY.
        """
        campaigns.sweep(RunConfig(task, model, train), sweep, out, parameters, given)

    options = {"task": task_class, "model": model_defaults(task_class), "train": TrainOptions()}
    parse(run, arguments[1:], f"sweep {arguments[0]}", **options, sweep=SweepOptions)
