"""The jobs of an experiment, shared by workers on any number of machines.

A job is the training of one method with one seed, with the further tests of its model. The storage also takes the
small files of every finished run, so that each worker can choose by the tuning runs of the others and write the
report.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from reminding.disk.lock import holder
from reminding.disk.writing import write_text
from reminding.lab.paper import jobs as processes
from reminding.lab.paper.jobs import Job
from reminding.lab.paper.reproduce import ReproduceOptions, train_job
from reminding.lab.runs import checkpoint
from reminding.lab.runs.machine import without_password
from reminding.lab.show.terminal import say
from reminding.lab.train.sweep.attempts import Attempt
from reminding.lab.train.sweep.pulse import Pulse
from reminding.lab.train.sweep.queue import Queue
from reminding.lab.train.sweep.storage import GivenAwayError, Study

PIECE = 40_000
"""Characters of a note in the storage: MySQL's texts have at most 65,535 bytes."""
WAIT_SECONDS = 1.0
"""Between looks at a storage that has no free job."""
COLLECTED = (".json", ".jsonl")
"""Suffixes of the files of a run that the storage takes. The weights stay on the machine that trained them."""


@dataclass
class Shared:
    """A run and its further tests, which one worker does one after the other.

    Args:
        key: the name of the job for all workers: its folder, and a digest of the options that are not at their
            defaults.
        commands: the training, then the tests.
    """

    key: str
    commands: Sequence[Job]

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self.commands[0].folder


@dataclass
class _Running:
    """A job of this worker: the number of its attempt, the commands left, and the process of the present one."""

    job: Shared
    number: int
    left: list[Job]
    process: subprocess.Popen[bytes] | None = None


def shared_jobs(training: Sequence[Job], testing: Sequence[Job], out: Path) -> list[Shared]:
    """The jobs of an experiment's runs, each with the tests of its model."""
    return [
        Shared(_key(job, out), [job, *(test for test in testing if test.folder == job.folder)]) for job in training
    ]


def _key(job: Job, out: Path) -> str:
    assert job.config is not None
    places = job.config.places()  # files may be in other places on other machines
    # Not all settings: the workers of a storage may be of several versions, and a later one has more options.
    changed = {name: value for name, value in job.config.changed().items() if name not in places}
    digest = sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:12]
    return f"{job.folder.relative_to(out).as_posix()} {digest}"


def run_shared(name: str, jobs: Sequence[Shared], options: ReproduceOptions) -> list[str]:
    """Take jobs until all are done, by whichever worker, and collect the files of the runs of other machines.

    Returns:
        the failed jobs, with their errors.

    Raises:
        KeyboardInterrupt: Ctrl-C, after the running jobs have saved their state and have been given back.
    """
    if not jobs:
        return []
    assert options.storage is not None
    with (
        Study(options.storage, f"reproduce-{name}", maximize=True) as study,
        Pulse(study, options.grace) as pulse,
    ):
        say(f"{len(jobs)} jobs, shared in {without_password(options.storage)}")
        queue = Queue(study, pulse, [job.key for job in jobs], retry_failed=True)
        _Worker(queue, jobs, options.jobs).run()
        return _collected(queue.owners(), jobs)


class _Worker:
    """Runs jobs of a queue in processes, some at a time."""

    def __init__(self, queue: Queue, jobs: Sequence[Shared], at_once: int) -> None:
        self._queue, self._at_once = queue, at_once
        self._jobs = {job.key: job for job in jobs}
        self._running: list[_Running] = []

    def run(self) -> None:
        """Take and run jobs until all are done, by whichever worker."""
        try:
            while self._running or not self._queue.finished():
                self._begin()
                for each in list(self._running):
                    self._look_at(each)
                time.sleep(processes.POLL_SECONDS if self._running else WAIT_SECONDS)
        finally:
            processes.stop(each.process for each in self._running if each.process is not None)
            for each in self._running:
                self._queue.give_back(each.number, "stopped by its user")

    def _begin(self) -> None:
        while len(self._running) < self._at_once and (taken := self._queue.take()) is not None:
            job = self._jobs[taken[0]]
            self._running.append(_Running(job, taken[1], list(job.commands)))
            if (other := holder(job.folder)) is not None:
                say(f"{job.commands[0].title} waits: {job.folder} is in use by {other}")

    def _start(self, command: Job) -> subprocess.Popen[bytes]:
        say(f"{command.title}: reminding {' '.join(command.words)}")
        return processes.start(command, shown=self._at_once == 1)

    def _look_at(self, each: _Running) -> None:
        """Go on with a job whose process has ended, and leave one that was given to another worker."""
        try:
            if self._queue.pulse.lost(each.number):
                raise GivenAwayError
            if each.process is not None and not processes.ended(each.process):
                return
            if each.process is not None and each.process.returncode:
                job, status = each.job.commands[0], each.process.returncode
                self._end(each, processes.failure(status, job, shown=self._at_once == 1))
            elif holder(each.job.folder) is not None:
                return  # the run of a worker that was presumed dead goes on until that worker learns of it
            elif (command := _next(each.left)) is not None:
                each.process = self._start(command)
            else:
                self._end(each, None)
        except GivenAwayError:
            say(f"{each.job.key} was given to another worker, which presumed this one dead")
            processes.stop([] if each.process is None else [each.process])
            self._queue.pulse.remove(each.number)
            self._running.remove(each)

    def _end(self, each: _Running, error: str | None) -> None:
        if error is None:
            for place, piece in enumerate(packed(each.job.folder)):
                self._queue.study.write(each.number, f"files {place}", piece)
            self._queue.complete(each.number, 0.0)
            say(f"done: {each.job.commands[0].title}")
        else:
            self._queue.fail(each.number, error)
            say(f"failed: {each.job.commands[0].title}: {error}")
        self._running.remove(each)


def _next(left: list[Job]) -> Job | None:
    """The next command that is not done, which is taken from those that are left."""
    while left:
        command = left.pop(0) if left[0].config is None else _reread(left.pop(0))
        if command.state != "done":
            return command
    return None


def _reread(job: Job) -> Job:
    """The command that trains a run as it lies here now: another worker may have begun it."""
    assert job.config is not None
    return train_job(job.title, job.folder, job.config)


def _collected(owned: Mapping[str, Attempt], jobs: Sequence[Shared]) -> list[str]:
    """Write the files of runs whose end is not here; return the failed jobs, with their errors."""
    failed: list[str] = []
    for job in jobs:
        attempt, config = owned[job.key], job.commands[0].config
        if attempt.state == "failed":
            failed.append(f"{job.commands[0].title}: {attempt.notes['error']}")
        elif config is not None and not checkpoint.is_finished(job.folder, config):  # perhaps begun here
            unpack(attempt.notes, job.folder)
            try:
                _reread(job.commands[0])
            except ValueError as error:  # of a version with other defaults
                failed.append(f"{job.commands[0].title}: {error}")
    return failed


def packed(folder: Path) -> list[str]:
    """The small files of a run as texts of limited length."""
    files = {path.name: path.read_text("utf-8") for path in sorted(folder.iterdir()) if path.suffix in COLLECTED}
    text = base64.b64encode(zlib.compress(json.dumps(files, allow_nan=False).encode(), 9)).decode()
    return [text[place : place + PIECE] for place in range(0, len(text), PIECE)]


def unpack(notes: Mapping[str, str], folder: Path) -> None:
    """Write the files of a run on another machine, which `packed` gave."""
    pieces = [notes[name] for place in range(len(notes)) if (name := f"files {place}") in notes]
    files: dict[str, str] = json.loads(zlib.decompress(base64.b64decode("".join(pieces))))
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if Path(name).name == name and Path(name).suffix in COLLECTED:  # nothing outside the folder
            write_text(folder / name, text)
