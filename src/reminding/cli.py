"""The command line: verbs only, no logic. The one file that imports tyro."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from reminding.lab import commands
from reminding.lab.bench.gpu_options import GpuOptions
from reminding.lab.bench.options import BenchOptions
from reminding.lab.explain.explanation import ExplainOptions
from reminding.lab.paper.experiments import EXPERIMENTS
from reminding.lab.paper.reproduce import ReproduceOptions
from reminding.lab.runs.config import TASKS, ModelOptions, TrainOptions, model_defaults


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `reminding VERB ...`; exits with 1 and a plain message where something is wrong."""
    verb, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        if verb in ("-h", "--help"):
            print(_overview())
        else:
            VERBS[_known("verb", verb, VERBS)](rest)
    except (ValueError, FileExistsError, FileNotFoundError, ImportError) as error:
        sys.exit(f"reminding: {error}")


def train(arguments: list[str]) -> None:
    """Train a model on a task: reminding train TASK [--option value ...]."""
    if not arguments or arguments[0].startswith("-"):
        print(_tasks_overview())
        return
    task = TASKS[_known("task", arguments[0], TASKS)]

    def run(
        task: Any,
        model: ModelOptions,
        train: TrainOptions,
        out: Path | None = None,
        resume: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Train a model, test it, and write everything to a folder.

        Args:
            task: the task's own options.
            model: the network.
            train: the training.
            out: folder of the run; None: runs/TASK-MODEL-seedSEED.
            resume: go on with the run in that folder.
            overwrite: replace the run in that folder.
        """
        commands.train(task, model, train, out, resume=resume, overwrite=overwrite)

    run.__annotations__.update(task=task, model=ModelOptions, train=TrainOptions)
    run.__defaults__ = (model_defaults(task), TrainOptions(), *(run.__defaults__ or ()))
    _parse(run, arguments[1:], f"train {arguments[0]}")


def evaluate(arguments: list[str]) -> None:
    """Evaluate a trained model, on other task options if given: reminding eval RUN [--T 200]."""
    folder = _folder_first(arguments, "eval")
    task = commands.task_of(folder)

    def run(
        task: Any,
        sequences: int | None = None,
        batch_size: int = 100,
        steps_at_once: int | None = None,
        capacity: int | None = None,
        evict: Literal["fifo", "least_recalled"] | None = None,
        device: str = "auto",
    ) -> None:
        """Evaluate a run's model on the test split.

        Args:
            task: the task's own options; what is not given is as in training.
            sequences: how many to evaluate; None: the task's own number.
            batch_size: sequences at a time; does not change the result.
            steps_at_once: read whole sequences in pieces of so many steps, to hold less; changes no result.
            capacity: at most this many memories; None: as in training.
            evict: which memory goes when the capacity is full; None: as in training.
            device: auto takes a GPU where there is one.
        """
        changes = {"capacity": capacity, "evict": evict}
        reading: dict[str, Any] = {"sequences": sequences, "batch_size": batch_size, "steps_at_once": steps_at_once}
        commands.evaluate(folder, task, changes, **reading, device=device)

    run.__annotations__["task"] = type(task)
    run.__defaults__ = (task, *(run.__defaults__ or ()))
    _parse(run, arguments[1:], "eval RUN")


def report(arguments: list[str]) -> None:
    """Draw and tabulate runs: reminding report RUN... [--out DIR]."""

    def run(runs: list[Path], out: Path = Path("report"), sequence: int = 0) -> None:
        """Write tables of methods over their seeds, learning curves, and what SAB was reminded of in one sequence.

        Args:
            runs: folders of runs, finished or not, or folders that hold runs at any depth.
            out: folder to write report.md, index.html and the figures to.
            sequence: which test sequence to draw, from 0.
        """
        commands.report(runs, out, sequence)

    _parse(run, arguments, "report", positional="runs")


def explain(arguments: list[str]) -> None:
    """Show what a trained run was reminded of, and what got the credit: reminding explain RUN [--input FILE]."""
    folder = _folder_first(arguments, "explain")

    def run(explain: ExplainOptions, out: Path | None = None, occlude: int | None = None) -> None:
        """Write a page that shows, for some sequences, what each step recalled and which memories got the credit.

        Args:
            explain: which sequences, and of which steps the credit is.
            out: folder to write index.html and the figures to; None: RUN/explain.
            occlude: blank parts of so many sequences of the split, those with the most credit first and in other
                orders, to see whether the credit points at what the answers need; None: do not.
        """
        commands.explain(folder, explain, out, occlude)

    run.__annotations__["explain"] = ExplainOptions
    run.__defaults__ = (ExplainOptions(), *(run.__defaults__ or ()))
    _parse(run, arguments[1:], "explain RUN")


def reproduce(arguments: list[str]) -> None:
    """Run an experiment of the paper: reproduce NAME [--seeds 5] [--jobs 2]."""
    if not arguments or arguments[0].startswith("-"):
        print(_experiments_overview())
        return
    name = _known("experiment", arguments[0], EXPERIMENTS)

    def run(reproduce: ReproduceOptions) -> None:
        """Run what an experiment still needs, every method and seed, and write its tables and figures.

        What is finished is not run again, what was interrupted is gone on with. Each run is a command of its own,
        which is shown, and can be typed by itself.

        Args:
            reproduce: which part, how long, and where.
        """
        commands.reproduce(name, reproduce)

    run.__annotations__["reproduce"] = ReproduceOptions
    run.__defaults__ = (ReproduceOptions(),)
    _parse(run, arguments[1:], f"reproduce {name}")


def data(arguments: list[str]) -> None:
    """Say which data sets are on this machine, and download one: reminding data [--fetch NAME]."""

    def run(fetch: str | None = None, data_dir: Path | None = None) -> None:
        """Show each data set's files and whether they are what was published.

        Args:
            fetch: download what is missing of this data set.
            data_dir: where data lies; None: REMINDING_DATA, or the user's cache.
        """
        commands.data(fetch, data_dir)

    _parse(run, arguments, "data")


def bench(arguments: list[str]) -> None:
    """Measure time and memory of a training step: reminding bench [--T 100 400 1600], or --device cuda."""
    if any(argument.startswith("cuda") for argument in _given(arguments, "--device")):
        return _bench_gpu(arguments)

    def run(bench: BenchOptions, out: Path = Path("runs/bench")) -> None:
        """Measure what one training step costs, in time and peak memory, beside nn.LSTM with full BPTT.

        Contestants take turns in every repetition, so that a busy moment of the machine falls on all of them; what is
        reported is the median of the ratios within each repetition. Memory is taken in a fresh process a contestant:
        how far its resident set rises during one training step. Give one of --T, --B and --H several values, in
        growing order, to see how the cost grows. Who would go over a limit is left out of a size, and it says why.

        Args:
            bench: what to measure, and its limits.
            out: folder for measured.json, report.md and growth.png; what is there is replaced.
        """
        commands.bench(bench, out)

    run.__annotations__["bench"] = BenchOptions
    return _parse(run, arguments, "bench")


def _bench_gpu(arguments: list[str]) -> None:
    def run(bench: GpuOptions, out: Path = Path("runs/bench-gpu")) -> None:
        """Measure what one training step costs on a GPU, in time and peak memory, beside nn.LSTM on cuDNN.

        Beside each figure stands the least that it could be: its arithmetic and its bytes over what the device is
        measured to do in the same run. Each contestant has a process of its own at each size, so that what fails
        costs its row and no other; why it failed is told.

        Args:
            bench: what to measure, and its limits.
            out: folder for measured.json and report.md, written anew after each row; what is there is replaced.
        """
        commands.bench_gpu(bench, out)

    run.__annotations__["bench"] = GpuOptions
    _parse(run, arguments, "bench")


def _given(arguments: list[str], option: str) -> list[str]:
    """The values that an option is given, as `--option value` or `--option=value`."""
    after = [value for name, value in pairwise(arguments) if name == option]
    return after + [name.partition("=")[2] for name in arguments if name.startswith(f"{option}=")]


VERBS: dict[str, Callable[[list[str]], None]] = {
    "train": train,
    "eval": evaluate,
    "report": report,
    "explain": explain,
    "reproduce": reproduce,
    "data": data,
    "bench": bench,
}


def _parse(run: Callable[..., None], arguments: list[str], verb: str, positional: str | None = None) -> None:
    """Read the options that a function's signature and docstring describe, and call it."""
    try:
        import tyro
    except ImportError as error:
        raise ImportError('the command line needs tyro: pip install "reminding[experiments]"') from error
    if positional is not None:
        run.__annotations__[positional] = tyro.conf.Positional[list[Path]]
    tyro.cli(run, args=arguments, prog=f"reminding {verb}", config=(tyro.conf.OmitArgPrefixes,))


def _known(kind: str, name: str, known: dict[str, Any]) -> str:
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
    raise ValueError(f"there is no {kind} {name!r}; {hint}")


def _folder_first(arguments: list[str], verb: str) -> Path:
    if not arguments or arguments[0].startswith("-"):
        raise ValueError(f"which run? reminding {verb} RUN [--option value ...]; RUN is a folder that train wrote")
    return Path(arguments[0])


def _overview() -> str:
    lines = [f"  {name:9} {_first_line(verb)}" for name, verb in VERBS.items()]
    return "\n".join(["usage: reminding VERB ...", "", *lines, "", "reminding VERB --help says more."])


def _tasks_overview() -> str:
    lines = [f"  {name:8} {_first_line(task)}" for name, task in TASKS.items()]
    head = "usage: reminding train TASK [--model sab|lstm|tbptt|attention|transformer] [--option value ...]"
    return "\n".join([head, "", *lines, "", "reminding train TASK --help lists every option with its default."])


def _experiments_overview() -> str:
    lines = [f"  {name:9} {_first_line(experiment)}" for name, experiment in EXPERIMENTS.items()]
    head = "usage: reminding reproduce NAME [--option value ...]"
    return "\n".join([head, "", *lines, "", "reminding reproduce NAME --help says more."])


def _first_line(thing: object) -> str:
    return (inspect.getdoc(thing) or "").splitlines()[0]


if __name__ == "__main__":
    main()
