"""A study works in the same way in every kind of storage: no job is lost, and none is run twice."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from reminding.lab.train.sweep import storage as storage_module
from reminding.lab.train.sweep.pictures import importance, rebuilt
from reminding.lab.train.sweep.pulse import Pulse
from reminding.lab.train.sweep.queue import Queue
from reminding.lab.train.sweep.space import Space
from reminding.lab.train.sweep.storage import GivenAwayError, Search, Study

Make = Callable[[str], Study]
JOBS = [f"{number}" for number in range(8)]


class Clock:
    """A clock that the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def queue_of(study: Study, jobs: list[str] | None = None, retry_failed: bool = False) -> Queue:
    return Queue(study, Pulse(study, grace=60.0), jobs or JOBS, retry_failed=retry_failed)


def taken(queue: Queue) -> tuple[str, int]:
    found = queue.take()
    assert found is not None
    return found


def test_a_job_is_taken_completed_and_read_back(storage: str, study_of: Make, space: Space) -> None:
    study = study_of(storage)
    search = Search(space, "tpe", "median", seed=0, warmup=0, every=2, updates=6)
    queue = Queue(study, Pulse(study, 60.0), ["a"], space=space)
    job, number = taken(queue)
    assert (job, queue.take(), queue.finished()) == ("a", None, False)
    searching = study.searching(number, search)
    values = searching.values()
    searching.report(2, 0.5)
    searching.report(2, 0.7)  # again after a resumption: the first counts
    assert searching.should_prune() is False
    queue.complete(number, 0.9)
    (attempt,) = study.attempts()
    assert (attempt.state, attempt.value, attempt.job, dict(attempt.intermediate)) == ("complete", 0.9, "a", {2: 0.5})
    assert attempt.params == values
    assert queue.finished()
    with pytest.raises(GivenAwayError):
        study.write(number, "late", 1)


def test_many_workers_at_once_take_every_job_once(storage: str, study_of: Make) -> None:
    """Threads with connections of their own stand for processes."""
    study = study_of(storage)
    runs: list[str] = []
    problems: list[BaseException] = []

    def work() -> None:
        try:
            with Study(storage, study.name, maximize=True) as own:
                queue = queue_of(own)
                while (found := queue.take()) is not None:
                    runs.append(found[0])
                    queue.complete(found[1], 1.0)
        except BaseException as error:
            problems.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert not problems
    assert Counter(runs) == dict.fromkeys(JOBS, 1)
    assert {each.job for each in study.attempts() if each.state == "complete"} == set(JOBS)
    assert all(each.state in ("complete", "void") for each in study.attempts())


def test_a_silent_worker_loses_its_job_and_a_beating_one_keeps_it(storage: str, study_of: Make, space: Space) -> None:
    study = study_of(storage)
    clock = Clock()
    watch = Pulse(study, grace=10.0, clock=clock)
    dead, living = (Queue(study, Pulse(study, 10.0), ["a", "b"], space=space) for _ in range(2))
    search = Search(space, "random", "none", seed=0, warmup=0, every=2, updates=6)
    lost_job, lost = taken(dead)
    drawn = study.searching(lost, search).values()
    kept_job, kept = taken(living)
    for clock.now in (0.0, 5.0, 10.0):  # the watch begins at 0, and silence for more than 10 seconds counts
        assert watch.watch() == []
        living.pulse.beat()
    clock.now = 11.0
    assert [each.number for each in watch.watch()] == [lost]
    dead.pulse.beat()
    assert dead.pulse.lost(lost)
    assert not living.pulse.lost(kept)
    with pytest.raises(GivenAwayError):
        dead.complete(lost, 1.0)
    again_job, again = taken(living)
    assert again_job == lost_job != kept_job
    assert study.searching(again, search).values() == drawn  # the same trial, run again


def test_a_worker_that_dies_before_its_first_beat_is_found(storage: str, study_of: Make) -> None:
    study = study_of(storage)
    study.begin("a", "gone:1", {}, None)
    clock = Clock()
    watch = Pulse(study, grace=10.0, clock=clock)
    for clock.now in (0.0, 5.0, 10.0):
        assert watch.watch() == []
    clock.now = 10.5
    (ended,) = watch.watch()
    assert (ended.job, ended.worker) == ("a", "gone:1")
    (attempt,) = study.attempts()
    assert (attempt.state, attempt.notes) == ("void", {"ended": "its worker showed no sign of life"})


def test_workers_that_were_stopped_together_keep_their_jobs(storage: str, study_of: Make) -> None:
    """As on a laptop that was asleep: whoever wakes first must not take the others for dead."""
    study = study_of(storage)
    clock = Clock()
    watch, sleeper = Pulse(study, grace=10.0, clock=clock), Queue(study, Pulse(study, 10.0), ["a"])
    _, number = taken(sleeper)
    for clock.now in (0.0, 2.0, 5000.0, 5002.0):
        assert watch.watch() == []
    sleeper.pulse.beat()
    assert not sleeper.pulse.lost(number)
    for clock.now in (5004.0, 5006.0, 10_000.0, 10_002.0):
        assert watch.watch() == []
    clock.now = 10_004.0
    assert [each.number for each in watch.watch()] == [number]


def test_a_job_that_is_given_back_is_free_and_a_failed_one_is_not(storage: str, study_of: Make) -> None:
    study = study_of(storage)
    queue = queue_of(study, ["a", "b"])
    job, number = taken(queue)
    queue.give_back(number, "stopped by its user")
    assert taken(queue)[0] == job
    job, number = taken(queue)
    queue.fail(number, "ValueError: no")
    assert queue.take() is None
    failed = study.attempts()[number]
    assert (failed.state, failed.notes["error"]) == ("failed", "ValueError: no")
    again = queue_of(study, ["a", "b"], retry_failed=True)
    assert again.take() is not None
    assert again.take() is None
    assert queue_of(study, ["a", "b"]).take() is None


def test_a_study_is_continued_with_the_same_options_alone(storage: str, study_of: Make) -> None:
    study = study_of(storage)
    study.agree({"train.lr": 0.1, "space": {"k_top": [1, None]}})
    with Study(storage, study.name, maximize=True) as same:
        same.agree({"train.lr": 0.1, "space": {"k_top": [1, None]}})
    with pytest.raises(ValueError, match=r"begun with other options \(train.lr: 0.1 there, 0.2 here\)"):
        study.agree({"train.lr": 0.2, "space": {"k_top": [1, None]}})


def test_a_study_that_an_older_version_began_has_the_defaults_of_options_it_lacks(
    storage: str, study_of: Make
) -> None:
    study = study_of(storage)
    study.agree({"train.lr": 0.1})
    study.agree({"train.lr": 0.1, "model.residual": False}, {"train.lr": 0.5, "model.residual": False})
    with pytest.raises(ValueError, match=r"begun with other options \(model.residual: False there, True here\)"):
        study.agree({"train.lr": 0.1, "model.residual": True}, {"model.residual": False})


def test_values_depend_on_seed_and_trial_and_not_on_the_worker(storage: str, study_of: Make, space: Space) -> None:
    drawn: list[list[object]] = []
    for _ in range(2):
        study = study_of(storage)
        search = Search(space, "random", "none", seed=3, warmup=0, every=2, updates=6)
        numbers = [study.begin(job, "worker", {}, space) for job in "abc"]
        drawn.append([study.searching(number, search).values() for number in numbers])
    assert drawn[0] == drawn[1]
    assert len({str(values) for values in drawn[0]}) == 3


@contextmanager
def dropping(seen: set[str]) -> Generator[None]:
    """A database that drops the connection at every statement that is not in `seen`, and adds it."""
    sqlalchemy = pytest.importorskip("sqlalchemy")

    def dropped(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement not in seen:
            seen.add(statement)
            raise sqlalchemy.exc.OperationalError(statement, None, ConnectionError("the server restarts"))

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", dropped)
    try:
        yield
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", dropped)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes between two questions."""
    quick = SimpleNamespace(monotonic=time.monotonic, sleep=int)
    monkeypatch.setattr(storage_module, "time", quick)
    monkeypatch.setattr(storage_module, "OPENINGS", 50)


@pytest.mark.usefixtures("impatient")
def test_a_database_that_is_away_for_a_moment_is_asked_again(tmp_path: Path, study_of: Make, space: Space) -> None:
    """Otherwise a trial that asks it then has failed for good."""
    url = f"sqlite:///{tmp_path}/studies.db"
    search = Search(space, "tpe", "median", seed=0, warmup=0, every=2, updates=6)
    study_of(url).close()  # its tables
    seen = set[str]()
    with dropping(seen):
        study = study_of(url)
        study.agree({"steps": 6})
        seen.clear()
        study.agree({"steps": 6})
        queue = Queue(study, Pulse(study, 60.0), ["a"], space=space)
        seen.clear()
        _, number = taken(queue)
        seen.clear()
        searching = study.searching(number, search)
        seen.clear()
        values = searching.values()
        seen.clear()
        searching.report(2, 0.5)
        seen.clear()
        assert searching.should_prune() is False
        seen.clear()
        queue.complete(number, 0.9)
    (attempt,) = study.attempts()
    assert (attempt.state, attempt.value, dict(attempt.intermediate)) == ("complete", 0.9, {2: 0.5})
    assert attempt.params == values


@pytest.mark.usefixtures("impatient")
def test_a_database_that_stays_away_is_no_fault_of_a_trial(
    tmp_path: Path, study_of: Make, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An OSError, with which the trial is given back, as at a full disk."""
    study = study_of(f"sqlite:///{tmp_path}/studies.db")
    _, number = taken(Queue(study, Pulse(study, 60.0), ["a"], space=space))
    searching = study.searching(number, Search(space, "tpe", "median", seed=0, warmup=0, every=2, updates=6))
    monkeypatch.setattr(storage_module, "PATIENCE", -1.0)
    with dropping(set()), pytest.raises(OSError, match="storage: no answer for"):
        searching.report(2, 0.5)


def test_an_unreachable_storage_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(ValueError, match=r"storage: postgresql://me@127\.0\.0\.1:1/none cannot be opened") as caught:
        Study("postgresql://me:secret@127.0.0.1:1/none", "study", maximize=True)
    assert "secret" not in str(caught.value)


def test_an_address_of_no_known_database_is_refused() -> None:
    with pytest.raises(ValueError, match="storage: nothing://here cannot be opened"):
        Study("nothing://here", "study", maximize=True)


def test_importance_tells_the_option_that_matters(space: Space, tmp_path: Path, study_of: Make) -> None:
    study = study_of(str(tmp_path / "journal.log"))
    search = Search(space, "random", "none", seed=0, warmup=0, every=2, updates=6)
    for number in range(30):
        study.begin(f"{number}", "worker", {}, space)
        rate = study.searching(number, search).values()["lr"]
        assert isinstance(rate, float)
        study.end(number, "complete", rate)
    shares = importance(rebuilt(study.attempts(), space, maximize=True))
    assert shares is not None
    assert max(shares, key=lambda name: shares[name]) == "lr"
    assert shares["lr"] > 0.8
    assert importance(rebuilt(study.attempts()[:1], space, maximize=True)) is None
