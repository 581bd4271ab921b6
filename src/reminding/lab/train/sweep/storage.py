"""A study in a storage that several workers share. The one file that imports Optuna.

The storage is a journal file, which may lie in a network folder, or a database. Optuna's own heartbeat works with
databases alone and compares clocks; `reminding.lab.train.sweep.pulse` works with both and needs no common time.
"""

from __future__ import annotations

import random
import re
import time
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from reminding.disk.errors import what_is_wrong
from reminding.disk.writing import make_folder
from reminding.lab.runs.machine import without_password
from reminding.lab.train.sweep.attempts import Attempt, State
from reminding.lab.train.sweep.journal import Journal
from reminding.lab.train.sweep.space import Dimension, Scalar, Space

Result = TypeVar("Result")
Sampler = Literal["tpe", "random"]
Pruner = Literal["median", "hyperband", "none"]

STATES: dict[str, State] = {"RUNNING": "running", "COMPLETE": "complete", "PRUNED": "pruned"}
OPENINGS = 5
"""Attempts to open a database: two workers that create its tables at the same time get in each other's way."""
PATIENCE = 60.0
"""Seconds for which a database that does not answer is asked again."""
DEFINITION_SECONDS = 10.0
"""Time that the worker who created a study has to define it."""


class GivenAwayError(Exception):
    """The storage has ended an attempt: its worker was presumed dead, and the job is another's."""


def optuna() -> Any:
    """The library, without its messages."""
    try:
        import optuna
    except ImportError as error:
        raise ImportError('sweeps and shared jobs need Optuna: pip install "reminding[sweep]"') from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class Study:
    """A study: attempts at jobs, in a storage.

    Args:
        url: sqlite:///FILE, postgresql://USER@HOST/DATABASE or another address that SQLAlchemy knows, or the path of
            a journal file.
        name: of the study; a storage may hold several.
        maximize: whether larger results are better.

    Raises:
        ValueError: the storage cannot be opened; the message names it.
        ImportError: Optuna or the database's library is missing.
    """

    def __init__(self, url: str, name: str, *, maximize: bool) -> None:
        library = optuna()
        self.url, self.name, self.maximize = url, name, maximize
        self._storage = _opened(url)
        direction = "maximize" if maximize else "minimize"
        try:
            _patiently(lambda: library.create_study(study_name=name, storage=self._storage, direction=direction))
            self.created = True
        except library.exceptions.DuplicatedStudyError:
            self.created = False
        self._id = _patiently(lambda: self._storage.get_study_id_from_name(name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to a database."""
        if hasattr(self._storage, "engine"):
            self._storage.remove_session()
            self._storage.engine.dispose()

    def agree(self, definition: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> None:
        """Define a new study, or check that an existing one is defined in the same way.

        Args:
            defaults: the value of each option, by its name, for a study that an older version began without it.

        Raises:
            ValueError: it is defined differently; the message names every difference.
        """
        deadline = time.monotonic() + DEFINITION_SECONDS
        found = self._defined()
        while found is None and not self.created and time.monotonic() < deadline:
            time.sleep(0.1)
            found = self._defined()
        if found is None:
            _patiently(lambda: self._storage.set_study_user_attr(self._id, "definition", dict(definition)))
            return
        missing = set(definition) - set(found)
        found = {**found, **{name: value for name, value in (defaults or {}).items() if name in missing}}
        changed = [name for name in sorted({*found, *definition}) if found.get(name) != definition.get(name)]
        if changed:
            told = "; ".join(f"{name}: {found.get(name)} there, {definition.get(name)} here" for name in changed)
            raise ValueError(f"storage: the study {self.name} was begun with other options ({told})")

    def _defined(self) -> dict[str, Any] | None:
        return _patiently(lambda: self._storage.get_study_user_attrs(self._id)).get("definition")

    def attempts(self) -> list[Attempt]:
        """All attempts, in the order of their numbers."""
        trials = _patiently(lambda: self._storage.get_all_trials(self._id))
        return sorted(map(_attempt, trials), key=lambda each: each.number)

    def begin(self, job: str, worker: str, params: Mapping[str, Scalar], space: Space | None) -> int:
        """Write an attempt at a job that runs from now on.

        Args:
            params: values of options that the attempt must have.
            space: the options; None for a job without any.

        Returns:
            its number.
        """
        library = optuna()
        kinds = {each.name: distribution(each) for each in (space.dimensions if space else ())}
        trial = library.trial.create_trial(
            state=library.trial.TrialState.RUNNING,
            params=dict(params),
            distributions={name: kinds[name] for name in params},
            user_attrs={"job": job, "worker": worker},
        )
        created = _patiently(lambda: self._storage.create_new_trial(self._id, trial))
        return _patiently(lambda: self._storage.get_trial_number_from_id(created))

    def write(self, number: int, name: str, value: Any) -> None:
        """Write something to a running attempt.

        Raises:
            GivenAwayError: the attempt does not run any more.
        """
        with self._owned():
            _patiently(lambda: self._storage.set_trial_user_attr(self._trial_id(number), name, value))

    def end(self, number: int, state: State, value: float | None = None) -> None:
        """End a running attempt.

        Args:
            state: not "running". The error of a failed attempt is written before; without one it would be void.
            value: the result; needed by a complete one.

        Raises:
            GivenAwayError: the attempt has ended already.
        """
        states = optuna().trial.TrialState
        told = {"complete": states.COMPLETE, "pruned": states.PRUNED}.get(state, states.FAIL)
        values = None if value is None else [float(value)]
        with self._owned():
            _patiently(lambda: self._storage.set_trial_state_values(self._trial_id(number), told, values))

    @contextmanager
    def _owned(self) -> Generator[None]:
        try:
            yield
        except optuna().exceptions.UpdateFinishedTrialError as error:
            raise GivenAwayError from error

    def _trial_id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, number)

    def searching(self, number: int, search: Search) -> Searching:
        """The search of an attempt: its values, its results on the way, and whether to prune it."""
        return _patiently(lambda: self._searching(number, search))

    def _searching(self, number: int, search: Search) -> Searching:
        library = optuna()
        # A study of its own: that of an earlier attempt remembers the trials of its time.
        study = library.load_study(
            study_name=self.name,
            storage=self._storage,
            sampler=search.make_sampler(number),
            pruner=search.make_pruner(),
        )
        study.get_trials(deepcopy=False)  # Optuna's cache refuses to change a trial that it has not read
        return Searching(library.trial.Trial(study, self._trial_id(number)), search.space, self._owned)


class Search:
    """How a sweep draws values and prunes.

    Args:
        space: the options.
        sampler: "tpe" or "random".
        pruner: "median", "hyperband" or "none".
        seed: of the sampler; every attempt draws from a generator of its own, whichever worker makes it.
        warmup: updates before which nothing is pruned.
        every: updates between evaluations.
        updates: of a whole run.
    """

    def __init__(
        self, space: Space, sampler: Sampler, pruner: Pruner, *, seed: int, warmup: int, every: int, updates: int
    ) -> None:
        self.space, self.sampler, self.pruner = space, sampler, pruner
        self.seed, self.warmup, self.every, self.updates = seed, warmup, every, updates

    def make_sampler(self, number: int) -> Any:
        """The sampler of an attempt."""
        samplers = optuna().samplers
        seed = random.Random(f"{self.seed} {number}").getrandbits(31)
        if self.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant_liar is marked as experimental
            return samplers.TPESampler(seed=seed, constant_liar=True)

    def make_pruner(self) -> Any:
        """The pruner."""
        pruners = optuna().pruners
        if self.pruner == "none":
            return pruners.NopPruner()
        if self.pruner == "hyperband":
            return pruners.HyperbandPruner(min_resource=self.every, max_resource=self.updates)
        return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=self.warmup)


class Searching:
    """An attempt that searches a space. Made by `Study.searching`."""

    def __init__(self, trial: Any, space: Space, owned: Callable[[], Any]) -> None:
        self._trial, self._space, self._owned = trial, space, owned

    def values(self) -> dict[str, Scalar]:
        """The value of each option: those that the attempt began with, and others that the sampler draws."""
        with self._owned():
            return {each.name: _patiently(partial(self._drawn, each)) for each in self._space.dimensions}

    def _drawn(self, each: Dimension) -> Scalar:
        if each.kind == "choice":
            return self._trial.suggest_categorical(each.name, each.choices)
        if each.kind == "int":
            return self._trial.suggest_int(each.name, int(each.low), int(each.high), step=_step(each), log=each.log)
        return self._trial.suggest_float(each.name, each.low, each.high, step=each.step, log=each.log)

    def report(self, step: int, value: float) -> None:
        """Write the result of an evaluation, once for each update."""
        with self._owned():
            _patiently(lambda: self._report(step, value))

    def _report(self, step: int, value: float) -> None:
        if step not in self._trial.storage.get_trial(self._trial._trial_id).intermediate_values:
            self._trial.report(value, step)

    def should_prune(self) -> bool:
        """Whether the results so far are worse than those of other attempts."""
        return bool(_patiently(self._trial.should_prune))


def _step(each: Dimension) -> int:
    return 1 if each.step is None else int(each.step)


def distribution(each: Dimension) -> Any:
    """The values of an option, as Optuna has them."""
    kinds = optuna().distributions
    if each.kind == "choice":
        return kinds.CategoricalDistribution(each.choices)
    if each.kind == "int":
        return kinds.IntDistribution(int(each.low), int(each.high), log=each.log, step=_step(each))
    return kinds.FloatDistribution(each.low, each.high, log=each.log, step=each.step)


def _attempt(trial: Any) -> Attempt:
    notes = dict(trial.user_attrs)
    failed: State = "failed" if "error" in notes else "void"
    return Attempt(
        number=trial.number,
        job=str(notes.pop("job", "")),
        state=STATES.get(trial.state.name, failed),
        worker=str(notes.pop("worker", "")),
        beat=int(notes.pop("beat", 0)),
        params=dict(trial.params),
        value=trial.value,
        intermediate=dict(trial.intermediate_values),
        notes=notes,
        began=trial.datetime_start,
        ended=trial.datetime_complete,
    )


def _opened(url: str) -> Any:
    library = optuna()
    try:
        if "://" not in url:
            make_folder(Path(url).parent)
            return library.storages.JournalStorage(Journal(library, Path(url)))
        return _database(library, url)
    except OSError as error:
        raise ValueError(f"storage: {url} cannot be opened: {error}") from error
    except (AttributeError, KeyError, TypeError) as error:  # of a record that lacks what Optuna writes
        raise ValueError(f"storage: {url} is no journal of a study: {what_is_wrong(error)}") from error


def _database(library: Any, url: str) -> Any:
    # SQLAlchemy's own choice for PostgreSQL is psycopg 2, which is no longer developed.
    address = re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)
    options = {"connect_args": {"timeout": PATIENCE}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    for opening in range(OPENINGS):
        try:
            return library.storages.RDBStorage(address, engine_kwargs=options)
        except ImportError as error:
            raise ImportError(
                f'{without_password(url)} needs {error.name}: pip install "reminding[postgresql]"'
            ) from error
        except Exception as error:  # SQLAlchemy, and each database's library, have errors of their own
            if opening == OPENINGS - 1:
                told = str(error).splitlines()[0]
                raise ValueError(f"storage: {without_password(url)} cannot be opened: {told}") from error
            time.sleep(random.random())
    raise AssertionError


def _patiently(ask: Callable[[], Result]) -> Result:
    """The answer of a storage, which is asked again if it does not answer.

    Every question goes through here: one error of the connection would end the trial that asks for good.

    Raises:
        TimeoutError: it has not answered for a minute.
    """
    silence = optuna().exceptions.StorageInternalError
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except silence as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"storage: no answer for {PATIENCE:.0f} seconds: {error}") from error
            time.sleep(0.5 + random.random())
