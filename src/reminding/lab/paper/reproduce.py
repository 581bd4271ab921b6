"""The plan of an experiment of the paper: its tuning and its runs, and which of them are missing."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from reminding.checks import above_zero, at_least
from reminding.disk.errors import DamagedFileError
from reminding.lab.paper import estimate, tuning
from reminding.lab.paper.experiments import EXPERIMENTS, Experiment, FurtherTest, Setting
from reminding.lab.paper.jobs import Job
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig, command
from reminding.lab.runs.saved.training import standing_of
from reminding.lab.show.tables import Table
from reminding.lab.show.terminal import say
from reminding.lab.train.sweep.pulse import MOST_GRACE

SHORTEST = 1e-3
"""Seconds that a run with a time limit takes at least, in an estimate."""
MOST_BUDGET = 1_000_000
"""The largest factor on the length of runs: that of an experiment has up to a million updates."""


@dataclass(frozen=True)
class ReproduceOptions:
    """Which part of an experiment to run, how long, and where.

    Args:
        seeds: number of runs of each method, with seeds 0, 1, ...
        budget: factor on the updates or the time of each run; with less than 1 the report says so.
        jobs: number of runs at a time, each in a process with one thread.
        settings: run only these settings, such as T100; by default all.
        methods: run only these methods, such as sab lstm; by default all.
        choices: a tuning.json of an earlier tuning of the one setting that is run. Its methods take the rate and the
            initial values that were chosen there, and are not tuned again; None: they are tuned first.
        data_dir: folder of the data sets; None: REMINDING_DATA or the user's cache.
        verify: whether the data must be the published files.
        out: folder of the runs; the report goes to NAME-report in it.
        storage: what workers share, each of which runs this command: sqlite:///FILE, postgresql://USER@HOST/DATABASE,
            or the path of a journal file, which may lie in a network folder; None: this command runs everything.
        grace: seconds without a sign of life after which a worker is presumed dead and its runs are given to others.
        dry: only list the commands that would be run, with an estimate of their time.
    """

    seeds: int = 1
    budget: float = 1.0
    jobs: int = 1
    settings: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    choices: Path | None = None
    data_dir: Path | None = None
    verify: bool = True
    out: Path = Path("runs/paper")
    storage: str | None = None
    grace: float = 120.0
    dry: bool = False

    def __post_init__(self) -> None:
        """Check the options."""
        at_least("seeds", self.seeds, 1)
        at_least("jobs", self.jobs, 1)
        above_zero("budget", self.budget, MOST_BUDGET)
        above_zero("grace", self.grace, MOST_GRACE)
        if self.storage is None and self.grace != ReproduceOptions.grace:
            raise ValueError(f"grace is for the workers of a storage, and there is none; got {self.grace:g}")


@dataclass(frozen=True)
class Planned:
    """A run of an experiment with its seed and its folder, which need not exist yet."""

    title: str
    method: str
    config: RunConfig
    folder: Path


def experiment(name: str, options: ReproduceOptions) -> Experiment:
    """The part of an experiment that the options choose.

    Raises:
        ValueError: a setting or method does not exist; the message lists those that do. Or the choices are of another
            experiment, or several settings are to be run with them. Or data are named, and the experiment reads none.
    """
    whole = EXPERIMENTS[name](options.data_dir, options.verify)
    _check_data(name, [run.task for setting in whole.settings for run in setting.runs.values()], options)
    known = {"settings": [setting.name for setting in whole.settings]}
    known["methods"] = list(dict.fromkeys(method for setting in whole.settings for method in setting.runs))
    for kind, names in known.items():
        for chosen in getattr(options, kind):
            if chosen not in names:
                raise ValueError(f"{kind}: {name} has no {chosen!r}; there are {', '.join(names)}")
    settings = [
        replace(setting, runs={m: r for m, r in setting.runs.items() if not options.methods or m in options.methods})
        for setting in whole.settings
        if not options.settings or setting.name in options.settings
    ]
    wanted = replace(whole, settings=[setting for setting in settings if setting.runs])
    return wanted if options.choices is None else with_choices(wanted, options.choices)


def _check_data(name: str, tasks: Sequence[object], options: ReproduceOptions) -> None:
    """Refuse what is said of the data of an experiment that has none, or whose data are of no published files.

    Raises:
        ValueError: names the option.
    """
    if options.data_dir is not None and not any(hasattr(task, "data_dir") or hasattr(task, "data") for task in tasks):
        raise ValueError(f"data_dir is of data sets, and {name} reads none; got {options.data_dir}")
    if not options.verify and all(getattr(task, "verify", True) for task in tasks):
        raise ValueError(f"verify is of published files, which {name} does not compare; got False")


def with_choices(wanted: Experiment, path: Path) -> Experiment:
    """An experiment whose methods have what an earlier tuning chose, and are not tuned again.

    Raises:
        ValueError: there is not one setting, or it is not tuned, or the file is not what `read_choice` reads.
    """
    if len(wanted.settings) != 1:
        names = ", ".join(setting.name for setting in wanted.settings)
        raise ValueError(f"choices: {path} is of one setting; name it by settings, of {names}")
    (setting,) = wanted.settings
    if setting.grid is None:
        raise ValueError(f"choices: the methods of {wanted.name} {setting.name} are not tuned")
    runs = tuning.read_choice(path, setting.runs)
    remarks = [f"What the tuning chose was read from {path.name}; the grid was not run again."]
    if foreign := [method for method, run in runs.items() if not setting.grid.has(run)]:
        told = f"of {', '.join(foreign)} are in {path.name} and not in the grid of {setting.name}"
        remarks.append(f"The initial values {told}: they may be meant for another lag.")
        say(f"choices: {remarks[-1][0].lower()}{remarks[-1][1:]}")
    return replace(wanted, settings=[replace(setting, runs=runs, grid=None)], remarks=(*wanted.remarks, *remarks))


def planned_runs(wanted: Experiment, options: ReproduceOptions) -> list[Planned]:
    """Every run of an experiment at its full length; all methods with seed 0 come first, for an early comparison.

    Where the tuning has not chosen yet, a run that has been begun keeps its rate and start, and others have those of
    the experiment.
    """
    planned: list[Planned] = []
    for seed, setting in itertools.product(range(options.seeds), wanted.settings):
        for method, run in setting.runs.items():
            folder = folder_of(wanted, setting, options) / f"{method}-seed{seed}"
            config = replace(run, train=replace(run.train, seed=seed))
            if setting.grid is not None and (folder / checkpoint.CONFIG_NAME).is_file():
                config = tuning.with_point_of(config, RunConfig.load(folder / checkpoint.CONFIG_NAME))
            planned.append(Planned(f"{setting.name} {method} seed {seed}", method, config, folder))
    return planned


def folder_of(wanted: Experiment, setting: Setting, options: ReproduceOptions) -> Path:
    """Of the runs of a setting."""
    return options.out / wanted.folder / setting.name


def tuning_folder(wanted: Experiment, setting: Setting, options: ReproduceOptions) -> Path:
    """Of the runs in which the methods of a setting are tuned, and of their choice."""
    return folder_of(wanted, setting, options) / "tuning"


def tuning_runs(
    wanted: Experiment, setting: Setting, options: ReproduceOptions
) -> list[tuple[Planned, tuning.Variant]]:
    """The runs in which the methods of a setting are tuned; none where it has no grid."""
    if setting.grid is None:
        return []
    points = (each for method, run in setting.runs.items() for each in setting.grid.variants(method, run))
    return _planned(points, setting, tuning_folder(wanted, setting, options))


def _planned(
    points: Iterable[tuning.Variant], setting: Setting, folder: Path
) -> list[tuple[Planned, tuning.Variant]]:
    """The runs of points of a setting's grid."""
    return [
        (Planned(f"{setting.name} {each.name}", each.method, each.config, folder / each.name), each)
        for each in points
    ]


def earlier_choices(wanted: Experiment, options: ReproduceOptions) -> list[str]:
    """The options that take the place of a setting's tuning, where its folder has a choice for all its methods."""
    found: list[str] = []
    for setting in wanted.settings:
        folder = tuning_folder(wanted, setting, options)
        if setting.grid is not None and {*setting.runs} <= {*tuning.read_record(folder).chosen}:
            found.append(f"--settings {setting.name} --choices {folder / tuning.CHOICE_NAME}")
    return found


def tuning_jobs(wanted: Experiment, options: ReproduceOptions) -> list[Job]:
    """The commands that tune the methods of an experiment, before the runs that count.

    Raises:
        ValueError: a folder holds a run with other options, or a tuning.json to which the choice cannot be added; the
            message names them.
    """
    for setting in wanted.settings:
        if setting.grid is not None:
            tuning.read_record(tuning_folder(wanted, setting, options))
    planned = [run for setting in wanted.settings for run, _ in tuning_runs(wanted, setting, options)]
    return [_job(wanted, run, options.budget) for run in planned]


def final_runs(
    wanted: Experiment, setting: Setting, options: ReproduceOptions
) -> list[tuple[Planned, tuning.Variant]]:
    """The full runs between which the choice is made; none where the grid has no finalists.

    Raises:
        ValueError: a tuning run has not finished, or no run of a method has a finite result; the message names it.
    """
    if setting.grid is None or setting.grid.finalists == 0:
        return []
    results = _results(tuning_runs(wanted, setting, options))
    points: list[tuning.Variant] = []
    for method, run in setting.runs.items():
        own = [each for each in results if each.variant.method == method]
        points += setting.grid.finals(run, own, run.task.maximize)
    return _planned(points, setting, tuning_folder(wanted, setting, options))


def _results(runs: Sequence[tuple[Planned, tuning.Variant]]) -> list[tuning.Tuned]:
    return [tuning.Tuned.read(variant, planned.folder) for planned, variant in runs]


def final_jobs(wanted: Experiment, options: ReproduceOptions) -> list[Job]:
    """The commands of the finals, once the tuning runs are done.

    Raises:
        ValueError: as `final_runs`; or a folder holds a run with other options, which the message names.
    """
    planned = [run for setting in wanted.settings for run, _ in final_runs(wanted, setting, options)]
    return [_job(wanted, run, options.budget) for run in planned]


def finalists(wanted: Experiment, options: ReproduceOptions) -> list[RunConfig]:
    """Runs that take as long as the finals will, for an estimate before the finalists are known."""
    return [
        scaled(run, options.budget)
        for setting in wanted.settings
        if setting.grid is not None
        for run in setting.runs.values()
        for _ in range(setting.grid.finalists)
    ]


def tuned(wanted: Experiment, options: ReproduceOptions) -> tuple[Experiment, list[Table]]:
    """The experiment with what its tuning chose, and the tables of the grids.

    Writes a tuning.json for each setting, unless the run is dry.

    Raises:
        ValueError: a tuning run has not finished, or no run of a method has a finite result; the message names it.
    """
    settings: list[Setting] = []
    tables: list[Table] = []
    for setting in wanted.settings:
        runs = tuning_runs(wanted, setting, options)
        if not runs:
            settings.append(setting)
            continue
        results, finals = _results(runs), _results(final_runs(wanted, setting, options))
        choice = tuning.chosen(finals or results, next(iter(setting.runs.values())).task.maximize)
        if not options.dry:
            tuning.write_choice(tuning_folder(wanted, setting, options), results, choice, finals)
        tables.append(tuning.table(setting.name, results, choice))
        if finals:
            tables.append(tuning.table(setting.name, finals, choice, "Finals, in full length,"))
        settings.append(replace(setting, runs=tuning.tuned_runs(setting.runs, choice), grid=None))
    return replace(wanted, settings=settings), tables


def training_jobs(wanted: Experiment, options: ReproduceOptions) -> list[Job]:
    """The commands that train the runs of an experiment.

    Raises:
        ValueError: a folder holds a run with other options; the message names them.
    """
    return [_job(wanted, planned, options.budget) for planned in planned_runs(wanted, options)]


def time_left(jobs: Sequence[Job], further: Sequence[RunConfig], at_once: int) -> str:
    """What the jobs that are not done and further runs will take, for a reader."""
    left = (_rest(job.folder, job.config) for job in jobs if job.state != "done" and job.config is not None)
    return estimate.told(estimate.seconds([*left, *further]), at_once)


def _rest(folder: Path, config: RunConfig) -> RunConfig:
    """A run that takes as long as what is left of one after its last checkpoint."""
    if (place := checkpoint.newest(folder)) is None:
        return config
    with suppress(DamagedFileError):  # which its command tells, and goes on from an earlier one
        begun, train = standing_of(place / checkpoint.TRAINING_NAME), config.train
        if train.max_seconds is not None:
            train = replace(train, max_seconds=max(train.max_seconds - begun.seconds, SHORTEST))
        return replace(config, train=replace(train, steps=max(train.steps - begun.step, 1)))
    return config


def _job(wanted: Experiment, planned: Planned, budget: float) -> Job:
    config = scaled(planned.config, budget)
    return train_job(f"{wanted.folder} {planned.title}", planned.folder, config)


def train_job(title: str, folder: Path, config: RunConfig) -> Job:
    """The command that trains a run, or continues it as far as it has come.

    Raises:
        ValueError: the folder holds a run with other options; the message names them.
    """
    state = progress(folder, config)
    resume = ["--resume"] if state == "begun" else []
    return Job(title, folder, [*command(config), "--out", str(folder), *resume], state, config)


def scaled(config: RunConfig, budget: float) -> RunConfig:
    """A run with a share of its updates, or of its time if it has a time limit."""
    train = config.train
    if train.max_seconds is not None:
        return replace(config, train=replace(train, max_seconds=train.max_seconds * budget))
    return replace(config, train=replace(train, steps=max(1, round(train.steps * budget))))


def progress(folder: Path, config: RunConfig) -> Literal["done", "begun", "new"]:
    """How far a run has come: "done" if it reached its number of updates, its time, its target or its patience.

    Raises:
        ValueError: the folder holds a run with other options.
    """
    if not (folder / checkpoint.CONFIG_NAME).is_file():
        return "new"
    saved = RunConfig.load(folder / checkpoint.CONFIG_NAME)
    checkpoint.check_same(saved, config, folder)
    return "done" if checkpoint.is_finished(folder, config) else "begun"


def testing_jobs(wanted: Experiment, options: ReproduceOptions) -> list[Job]:
    """The commands of the further tests of an experiment's trained models."""
    return [
        _test_job(planned, test, options.budget)
        for planned in planned_runs(wanted, options)
        for test in wanted.tests
        if planned.method in test.methods
    ]


def _test_job(planned: Planned, test: FurtherTest, budget: float) -> Job:
    """The command of a further test; one of a run that is not at its end yet was of other weights."""
    task = replace(planned.config.task, T=test.T)
    forgets = "capacity" in planned.config.unread()
    options = replace(test.options, capacity=None, evict=None) if forgets else test.options
    made = any(options.matches(record, task) for record in checkpoint.read_evaluations(planned.folder))
    done = made and checkpoint.is_finished(planned.folder, scaled(planned.config, budget))
    words = options.command(planned.folder, T=test.T)
    return Job(f"test {planned.title} at T={test.T}", planned.folder, words, "done" if done else "new")


def shortened(wanted: Experiment, options: ReproduceOptions) -> list[str]:
    """Remarks for the report if less was run than planned."""
    remarks: list[str] = []
    if options.budget != 1:
        remarks.append(f"Budget {options.budget:g}: the runs have that share of the planned updates or time.")
    if options.settings or options.methods:
        chosen = [*options.settings, *options.methods]
        remarks.append(f"Only a part of the experiment {wanted.name}: {', '.join(chosen)}.")
    return remarks
