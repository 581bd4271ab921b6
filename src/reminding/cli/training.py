"""The verbs `train` and `eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reminding.cli.parsing import asks_for_help, check_size, given_names, named_task, parse, run_folder, values_of

USAGE = "reminding train TASK [--model sab|lstm|tbptt|attention|transformer|mingru|rtu] [--option value ...]"


def train(arguments: list[str]) -> None:
    """Train a model on a task: reminding train TASK [--option value ...]."""
    from reminding.lab.runs.config import TrainOptions, model_defaults
    from reminding.lab.verbs import commands

    if (task_class := named_task("train", USAGE, arguments)) is None:
        return
    check_size(arguments)
    given = given_names(arguments)

    def run(
        *,
        task: Any,
        model: Any,
        train: Any,
        parameters: int | None = None,
        out: Path | None = None,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Train a model, test it, and write everything to a folder.

        Args:
            task: the task.
            model: the network.
            train: the training.
            parameters: the number of parameters that the model shall have, within 3%; chooses its hidden_size.
            out: folder of the run; None: runs/TASK-MODEL-seedSEED.
            resume: continue the run in that folder, with the same options. Only --steps and --max-seconds, which
                count what was done before, may be larger, and --patience and the target (--target; of a
                stream of files --train-target) others or left out.
            overwrite: replace the run in that folder.
        """
        model = model if parameters is None else commands.sized(task, model, parameters)
        commands.train(task, model, train, out, given=given, resume=resume, overwrite=overwrite)

    options = {"task": task_class, "model": model_defaults(task_class), "train": TrainOptions()}
    parse(run, arguments[1:], f"train {arguments[0]}", **options)


def evaluate(arguments: list[str]) -> None:
    """Test a trained model, also with other options of its task: reminding eval RUN [--T 200] [--data FILE]."""
    from reminding.lab.runs.evaluation import EvalOptions
    from reminding.lab.verbs import commands

    if asks_for_help(arguments):

        def about(*, evaluation: Any) -> None:
            """Evaluate a run's model on the test split.

            The options of the run's task are options too; `reminding eval RUN --help` lists them.

            Args:
                evaluation: the evaluation.
            """

        parse(about, arguments, "eval RUN", evaluation=EvalOptions())
        return
    folder, options = run_folder(arguments, "eval")
    given = {name for name in ("data", "test") if values_of(f"--{name}", arguments)}

    def run(*, task: Any, evaluation: Any) -> None:
        """Evaluate a run's model on the test split, or on the whole of a file of your own with --data.

        Args:
            task: the task; the defaults are the options that the run was trained with.
            evaluation: the evaluation.
        """
        commands.evaluate(folder, task, evaluation, new_data=given)

    parse(run, options, "eval RUN", task=commands.task_of(folder), evaluation=EvalOptions())
