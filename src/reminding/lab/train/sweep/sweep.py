"""A sweep: trials of a task with options drawn from a space, by any number of workers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reminding.checks import above_zero, at_least, at_least_or_none
from reminding.disk.errors import CannotWriteError, FolderInUseError
from reminding.disk.writing import make_folder
from reminding.lab.runs import checkpoint, parity
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.machine import command_line, without_password
from reminding.lab.runs.records import defaults_of
from reminding.lab.runs.runlog import read_log
from reminding.lab.show.terminal import say
from reminding.lab.train import trainer
from reminding.lab.train.sweep.pulse import MOST_GRACE, Pulse
from reminding.lab.train.sweep.queue import Queue
from reminding.lab.train.sweep.record import TRIALS_NAME, SweepRecord, check_folder
from reminding.lab.train.sweep.space import Scalar, Space
from reminding.lab.train.sweep.storage import (
    GivenAwayError,
    Pruner,
    Sampler,
    Search,
    Searching,
    Study,
)
from reminding.tasks import TASKS

JOURNAL_NAME = "journal.log"
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class SweepOptions:
    """The search.

    Args:
        space: a TOML file: for each option that is searched, a table with low and high (and log = true, or step) or
            with choice.
        trials: number of trials, of all workers together.
        storage: what the workers share: sqlite:///FILE, postgresql://USER@HOST/DATABASE, or the path of a journal
            file, which may lie in a network folder; None: journal.log in the sweep's folder.
        study: name of the sweep in its storage; None: TASK-MODEL.
        sampler: tpe: values near those of good trials (tree-structured Parzen estimator); random.
        pruner: median: a trial ends early if its best result so far is worse than the median of the others at that
            update; hyperband; none.
        warmup: updates before which the median pruner ends no trial.
        sampler_seed: of the values that are drawn.
        grace: seconds without a sign of life after which a worker is presumed dead and its trial is run again.
    """

    space: Path
    trials: int = 20
    storage: str | None = None
    study: str | None = None
    sampler: Sampler = "tpe"
    pruner: Pruner = "median"
    warmup: int = 0
    sampler_seed: int = 0
    grace: float = 120.0

    def __post_init__(self) -> None:
        """Check the options."""
        at_least("trials", self.trials, 1)
        at_least("warmup", self.warmup, 0)
        if self.warmup and self.pruner != "median":
            raise ValueError(f"warmup is for the pruner median, not for {self.pruner}; got {self.warmup}")
        at_least("sampler_seed", self.sampler_seed, 0)
        above_zero("grace", self.grace, MOST_GRACE)


@dataclass(frozen=True)
class Sweep:
    """A sweep as one worker sees it.

    Args:
        base: the options that are not searched.
        space: the options that are.
        options: of the search.
        out: folder of the sweep; None: runs/sweep/STUDY.
        parameters: the number of parameters of every model, by the choice of its hidden size; None: as it comes.
    """

    base: RunConfig
    space: Space
    options: SweepOptions
    out: Path | None = None
    parameters: int | None = None

    @property
    def name(self) -> str:
        """The name of the study."""
        return self.options.study or f"{self.base.task.name}-{self.base.model.model}"

    @property
    def folder(self) -> Path:
        """The folder of the trials' runs and of sweep.json."""
        return self.out or Path("runs/sweep") / self.name

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: parameters is below 1, or hidden_size is searched although it follows from them.
        """
        at_least_or_none("parameters", self.parameters, 1)
        if self.parameters is not None and any(each.name == "hidden_size" for each in self.space.dimensions):
            raise ValueError("parameters determines hidden_size, which the space searches; leave one of them out")

    def definition(self) -> dict[str, Any]:
        """What all workers of a sweep must agree on. Files may be in other places."""
        settings = {name: value for name, value in self.base.settings().items() if name not in self.base.places()}
        searched = {f"{each.part}.{each.field}" for each in self.space.dimensions}
        own = {name: getattr(self.options, name) for name in ("sampler", "pruner", "warmup", "sampler_seed")}
        fixed = {name: value for name, value in settings.items() if name not in searched}
        return {**fixed, **own, "parameters": self.parameters, "space": self.space.record()}

    def config(self, values: Mapping[str, Scalar]) -> RunConfig:
        """The run of a trial.

        Raises:
            ValueError: an option is out of range, or no hidden size gives the number of parameters.
        """
        config = self.space.config(self.base, values)
        if self.parameters is None:
            return config
        return replace(config, model=parity.matched(config.task, config.model, self.parameters))


class StoppedError(Exception):
    """A signal ended a trial, which is saved; its summary."""

    def __init__(self, summary: Mapping[str, Any]) -> None:
        self.summary = summary
        super().__init__("stopped by a signal")


def trial_folder(folder: Path, job: str) -> Path:
    """The folder of a trial's run within that of its sweep."""
    return folder / TRIALS_NAME / job


def work(sweep: Sweep) -> SweepRecord:
    """Run trials until the sweep has all of them, whichever worker runs them; the first worker begins the sweep.

    Each trial is a run in trials/NUMBER of the sweep's folder. A worker without a free trial waits for those of the
    others, and takes the trial of one that has fallen silent. That trial keeps its values, and goes on from the
    checkpoint if it lies here.

    Raises:
        ValueError: the storage cannot be opened, or holds another sweep of this name; or the folder holds another.
        StoppedError: a signal ended a trial, which has been given back.
        KeyboardInterrupt: Ctrl-C between two trials.
        OSError: a file could not be read or written, as on a full disk; the trial has been given back.
    """
    options, base = sweep.options, sweep.base
    make_folder(sweep.folder)
    storage = options.storage or str(sweep.folder / JOURNAL_NAME)
    check_folder(sweep.folder, sweep.name, without_password(storage))
    try:
        with Study(storage, sweep.name, maximize=base.task.maximize) as study:
            study.agree(sweep.definition(), defaults_of(TASKS[base.task.name]))
            _begin(sweep, study)
            say(f"sweep {sweep.name} in {without_password(storage)}: {options.trials} trials")
            return _worked(sweep, study)
    except CannotWriteError as error:
        raise error if error.advice else error.with_advice("the same command goes on with the sweep") from error


def _begin(sweep: Sweep, study: Study) -> None:
    """Write sweep.json before the first trial, so that no other sweep begins in the folder.

    Raises:
        ValueError: the folder holds another sweep.
    """
    earlier = None
    with suppress(ValueError):  # it is missing, damaged, or of another version
        earlier = SweepRecord.load(sweep.folder)
    record = _record(sweep, study)  # after the file was read: other workers may write it at any time
    if earlier is not None:
        record.check_holds(earlier, sweep.folder)
    record.save(sweep.folder)


def _worked(sweep: Sweep, study: Study) -> SweepRecord:
    options, train = sweep.options, sweep.base.train
    search = Search(
        sweep.space,
        options.sampler,
        options.pruner,
        seed=options.sampler_seed,
        warmup=options.warmup,
        every=train.eval_every,
        updates=train.steps,
    )
    jobs = [f"{number:04d}" for number in range(options.trials)]
    with Pulse(study, options.grace) as pulse:
        queue = Queue(study, pulse, jobs, space=sweep.space)
        while not queue.finished():
            taken = queue.take()
            if taken is None:
                time.sleep(POLL_SECONDS)
                continue
            _Trial(sweep, queue, study.searching(taken[1], search), *taken).run()
            _record(sweep, study).save(sweep.folder)
    record = _record(sweep, study)
    record.save(sweep.folder)
    return record


def _record(sweep: Sweep, study: Study) -> SweepRecord:
    task = sweep.base.task
    return SweepRecord(
        name=study.name,
        storage=without_password(study.url),
        task=task.name,
        model=sweep.base.model.model,
        metric=task.metric,
        maximize=task.maximize,
        space=sweep.space,
        trials=sweep.options.trials,
        command=command_line(),
        attempts=study.attempts(),
    )


class _Trial:
    """A worker's attempt at a trial."""

    def __init__(self, sweep: Sweep, queue: Queue, searching: Searching, job: str, number: int) -> None:
        self._sweep, self._queue, self._searching = sweep, queue, searching
        self._job, self._number = job, number
        self._folder = trial_folder(sweep.folder, job)

    def run(self) -> None:
        """Train, and write the result to the storage.

        Raises:
            StoppedError, KeyboardInterrupt, OSError: see `work`.
        """
        try:
            self._trained()
        except GivenAwayError:
            say(f"trial {self._job} was given to another worker, which presumed this one dead")
            self._queue.pulse.remove(self._number)
        except (StoppedError, KeyboardInterrupt, SystemExit):
            self._queue.give_back(self._number, "stopped by its user")
            raise
        except FolderInUseError as error:  # a worker that was presumed dead still lives
            say(f"trial {self._job} is given back: {error}")
            self._queue.give_back(self._number, str(error))
            time.sleep(self._sweep.options.grace / 4)
        except OSError as error:  # of this machine, not of the options: another attempt may not meet it
            self._queue.give_back(self._number, str(error))
            raise
        except Exception as error:  # options that do not go together, a gradient that is not finite
            say(f"trial {self._job} failed: {error}")
            self._queue.fail(self._number, f"{type(error).__name__}: {error}")

    def _trained(self) -> None:
        values = self._searching.values()
        say(f"trial {self._job}: {', '.join(_told(name, value) for name, value in values.items())}")
        config = self._sweep.config(values)
        begun = (self._folder / checkpoint.CONFIG_NAME).is_file()
        for step, value in self._earlier(config.task.metric) if begun else ():
            self._searching.report(step, value)
        summary = trainer.train(config, self._folder, resume=begun, judge=self._judge, again="the same command")
        if self._queue.pulse.lost(self._number):
            raise GivenAwayError
        if summary["stopped"] == "interrupted":
            raise StoppedError(summary)
        self._end(summary, config.task.metric)

    def _earlier(self, metric: str) -> list[tuple[int, float]]:
        """The results of the evaluations before a resumption."""
        records = read_log(self._folder)
        return [(each["step"], each[metric]) for each in records if each["kind"] == "valid" and metric in each]

    def _judge(self, step: int, value: float) -> str | None:
        """Report an evaluation; the reason to stop, or None."""
        if self._queue.pulse.lost(self._number):
            return "interrupted"
        self._searching.report(step, value)
        return "pruned" if self._searching.should_prune() else None

    def _end(self, summary: Mapping[str, Any], metric: str) -> None:
        study, value = self._queue.study, summary[f"valid_{metric}"]
        for name in ("steps", "seconds", "parameters", "stopped"):
            study.write(self._number, name, summary[name])
        if metric in summary:
            study.write(self._number, "test", summary[metric])
        if value is None or value != value:
            self._queue.fail(self._number, "no validation result is a number")
        elif summary["stopped"] == "pruned":
            self._queue.prune(self._number, value)
        else:
            self._queue.complete(self._number, value)


def _told(name: str, value: Scalar) -> str:
    return f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
