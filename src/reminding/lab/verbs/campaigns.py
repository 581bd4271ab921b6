"""The actions of the verbs that run many runs, `sweep` and `reproduce`, with their output on the terminal."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from reminding.disk.errors import CannotWriteError, FolderInUseError
from reminding.disk.lock import locked
from reminding.disk.writing import check_folder, make_folder
from reminding.lab.paper.jobs import Job, run_jobs
from reminding.lab.paper.reproduce import (
    Experiment,
    ReproduceOptions,
    earlier_choices,
    experiment,
    final_jobs,
    finalists,
    shortened,
    testing_jobs,
    time_left,
    training_jobs,
    tuned,
    tuning_jobs,
)
from reminding.lab.paper.shared import run_shared, shared_jobs
from reminding.lab.report.writing import write_report
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import ModelOptions, RunConfig
from reminding.lab.runs.records import ending_of, status_of
from reminding.lab.show.tables import metric_text
from reminding.lab.show.terminal import say, show_table
from reminding.lab.train.sweep.record import SweepRecord
from reminding.lab.train.sweep.space import Space
from reminding.lab.train.sweep.sweep import StoppedError, Sweep, SweepOptions, trial_folder, work
from reminding.lab.verbs.commands import show_report


def sweep(
    config: RunConfig, options: SweepOptions, out: Path | None, parameters: int | None, given: Collection[str]
) -> None:
    """Run trials until the sweep has all of them, then show the best.

    Args:
        config: the options that are not searched.
        out: folder of the sweep; None: runs/sweep/STUDY.
        parameters: the number of parameters of every trial's model; None: as its options give.
        given: the options on the command line, which must mean something in a trial, also at their defaults.

    Raises:
        ValueError: an option is wrong.
        SystemExit: Ctrl-C or another signal, after the trial has been given back; the status tells which.
    """
    kind: Any = config.task.__class__
    space = Space.read(options.space, kind, ModelOptions)
    space.check_free(config)
    space.check_read(config, given)
    wanted = Sweep(config, space, options, out, parameters)
    try:
        record = work(wanted)
    except StoppedError as stopped:
        say(f"stopped by {ending_of(stopped.summary)}; the trial was given back, and the same command continues")
        raise SystemExit(status_of(stopped.summary)) from None
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped by Ctrl-C; the same command continues") from None
    _show_best(record, wanted.folder)


def _show_best(record: SweepRecord, folder: Path) -> None:
    ranked = record.ranked()
    say(f"trials: {record.counted()}")
    if not ranked:
        raise ValueError(f"no trial has a result; {folder} tells why each ended")
    names = [each.name for each in record.space.dimensions]
    best = [(each, each.value) for each in ranked[:5] if each.value is not None]
    rows = [[each.job, metric_text(value), *(_cell(each.params[name]) for name in names)] for each, value in best]
    show_table(f"Best trials of {record.name}", ["trial", f"valid {record.metric}", *names], rows)
    say(f"best run: {trial_folder(folder, ranked[0].job)}; reminding report {folder} shows the sweep")


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def reproduce(name: str, options: ReproduceOptions) -> None:
    """Run the missing parts of an experiment of the paper, test its models, and write its report.

    Raises:
        ValueError: some runs failed; the message names them, after all others have run.
        FolderInUseError: another command runs the experiment in this folder, and they share no storage.
        CannotWriteError: the folder, or a file in it, cannot be written.
        KeyboardInterrupt: Ctrl-C, after the running jobs have saved their state.
    """
    wanted = experiment(name, options)
    for folder in (options.out / wanted.folder, options.out / f"{name}-report"):
        check_folder(folder)
    if options.dry:
        _show_plan(wanted, tuning_jobs(wanted, options), options)
        return
    with _alone(options.out / wanted.folder) if options.storage is None else nullcontext():
        _reproduce(name, wanted, options)


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Hold the lock of an experiment's folder: of two commands, each would fail on the runs that the other has begun.

    Raises:
        FolderInUseError: another process holds it; the message names the process, and what lets both work.
    """
    make_folder(folder)
    held = ExitStack()
    try:
        held.enter_context(locked(folder))
    except FolderInUseError as error:
        raise FolderInUseError(f"{error}; or give each command the same --storage, and they share the runs") from None
    with held:
        yield


def _reproduce(name: str, wanted: Experiment, options: ReproduceOptions) -> None:
    """Run the missing parts of an experiment; see `reproduce`."""
    tuning = tuning_jobs(wanted, options)
    try:
        _run_all(name, "tuning runs", tuning, options)
        _run_all(name, "finals of the tuning", final_jobs(wanted, options), options)
        wanted, tables = tuned(wanted, options)
        for table in tables:
            show_table(table.title, table.columns, table.rows)
        jobs = training_jobs(wanted, options)
        failed = _run(name, "runs", jobs, testing_jobs(wanted, options), options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped by Ctrl-C; the same command continues with the missing runs") from None
    except CannotWriteError as error:
        raise error.with_advice("the same command continues with the missing runs") from error
    begun = [job.folder for job in jobs if (job.folder / checkpoint.CONFIG_NAME).is_file()]
    remarks = [*wanted.remarks, *shortened(wanted, options)]
    if begun:
        out = options.out / f"{name}-report"
        show_report(write_report(begun, out, title=wanted.title, remarks=remarks, tuning=tables))
    _check_done(failed)


def _check_done(failed: Sequence[str]) -> None:
    """Raise a ValueError that names the failed runs, if there are any; what each said is of its own command."""
    if failed:
        raise ValueError(f"{len(failed)} failed: {'; '.join(failed)}. The same command to reproduce runs them again")


def _run_all(name: str, kind: str, jobs: Sequence[Job], options: ReproduceOptions) -> None:
    """Run the jobs that are not done.

    Raises:
        ValueError: some failed; the message names them, after all others have run.
    """
    _check_done(_run(name, kind, jobs, [], options))


def _run(name: str, kind: str, jobs: Sequence[Job], tests: Sequence[Job], options: ReproduceOptions) -> list[str]:
    """Run the jobs that are not done, here or by all workers of a storage, and return the failed ones.

    A run that failed is not tested: its weights are those of an earlier update.
    """
    if jobs:
        say(f"{len(jobs)} {kind}, {sum(job.state == 'done' for job in jobs)} of them done")
    if options.storage is not None:
        return run_shared(name, shared_jobs(jobs, tests, options.out), options)
    failed = run_jobs(jobs, options.jobs)
    ended = {job.folder for job in jobs if job.config and checkpoint.is_finished(job.folder, job.config)}
    return failed + run_jobs([test for test in tests if test.folder in ended], options.jobs)


def _show_plan(wanted: Experiment, tuning: Sequence[Job], options: ReproduceOptions) -> None:
    """List the commands of an experiment. What a grid will choose is not known before it has been run."""
    tried = all(job.state == "done" for job in tuning)
    finals = final_jobs(wanted, options) if tried else []
    ready = tried and all(job.state == "done" for job in finals)
    settled = tuned(wanted, options)[0] if ready else wanted
    jobs = training_jobs(settled, options)
    for job in [*tuning, *finals, *jobs, *testing_jobs(settled, options)]:
        say(f"{job.state}: reminding {' '.join(job.words)}")
    if not tried:
        done = sum(job.state == "done" for job in tuning)
        say(f"{len(tuning)} tuning runs come first, {done} of them done; with --choices FILE there are none")
        for choice in earlier_choices(wanted, options):
            say(f"an earlier tuning is there, and is taken with {choice}")
    if not ready:
        say("the rate and the initial values of the runs after the tuning are those that it will choose")
    coming = [] if tried else finalists(wanted, options)
    if coming:
        say(f"{len(coming)} finals of the tuning, in full length, are not listed: the tuning will show which")
    say(time_left([*tuning, *finals, *jobs], coming, options.jobs))
