"""Processes that train the runs of an experiment or test them: some at a time, and none outlives its starter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from reminding.disk.writing import naming
from reminding.lab.paper.tied import TIED
from reminding.lab.runs.config import RunConfig
from reminding.lab.show.terminal import say

POLL_SECONDS = 0.2
CONSOLE_SUFFIX = ".console.txt"
HEADING = "\n$ reminding "
"""Stands before each command in the file that takes its output: a run that is gone on with has several."""


@dataclass(frozen=True)
class Job:
    """A command that trains a run or tests one.

    Args:
        title: for the terminal.
        folder: of the run.
        words: the arguments after `reminding`.
        state: "done", "begun" (the command continues it) or "new".
    """

    title: str
    folder: Path
    words: Sequence[str]
    state: Literal["done", "begun", "new"]
    config: RunConfig | None = None


def run_jobs(jobs: Sequence[Job], at_once: int) -> list[str]:
    """Run the jobs that are not done; a failed job does not stop the others.

    If jobs run one at a time, their output goes to the terminal; otherwise each has a file beside its folder.

    Returns:
        the failed jobs, with their errors.

    Raises:
        KeyboardInterrupt: Ctrl-C, after the running jobs have saved their state.
    """
    waiting = [job for job in jobs if job.state != "done"]
    total, started = len(waiting), 0
    running: dict[subprocess.Popen[bytes], Job] = {}
    failed: list[str] = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                started += 1
                say(f"[{started}/{total}] {job.title}: reminding {' '.join(job.words)}")
                running[start(job, shown=at_once == 1)] = job
            for process in [each for each in running if ended(each)]:
                job = running.pop(process)
                if process.returncode:
                    failed.append(f"{job.title}: {failure(process.returncode, job, shown=at_once == 1)}")
                    say(f"failed: {failed[-1]}")
                elif at_once > 1:
                    say(f"done: {job.title}")
            time.sleep(POLL_SECONDS)
    finally:
        stop(running)
    return failed


def start(job: Job, shown: bool) -> subprocess.Popen[bytes]:
    """Start the process of a job, which stops, as at SIGTERM, when this process ends in any way.

    Args:
        shown: whether its output goes to the terminal; otherwise to a file beside its folder.

    Raises:
        CannotWriteError: this file cannot be written, as on a full disk.
    """
    # Files in the present folder, such as a user's random.py, are modules only where they are to this process.
    apart = [] if {"", os.getcwd()} & {*sys.path} else ["-P"]
    arguments = [sys.executable, *apart, "-m", "reminding", *job.words]
    with nullcontext() if shown else _opened(_console(job), f"{HEADING}{' '.join(job.words)}\n") as file:
        return subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=None if shown else subprocess.STDOUT,
            env={**os.environ, TIED: "yes"},
            start_new_session=True,  # the terminal's Ctrl-C reaches this process alone, which then ends the other
        )


def ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process of `start` has ended; its standard input is closed then."""
    if process.poll() is None:
        return False
    if process.stdin is not None:
        process.stdin.close()
    return True


def stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Let processes of `start` stop as at SIGTERM, and wait until they have saved their states."""
    asked = list(processes)
    for process in asked:
        if process.stdin is not None:
            process.stdin.close()
    for process in asked:
        process.wait()


def failure(status: int, job: Job, shown: bool) -> str:
    """How a job failed: its exit status or signal and the last line that it wrote, unless that is on the terminal."""
    names = {each.value: each.name for each in signal.Signals}  # of real-time signals, the first and last alone
    how = f"exit status {status}" if status > 0 else f"ended by {names.get(-status, f'signal {-status}')}"
    return how if shown else f"{how}{_last_words(_console(job))}"


def _last_words(console: Path) -> str:
    """The last line that the present command has written to its file; if there is none, whether one can be."""
    try:
        _, _, said = console.read_text(errors="replace").rpartition(HEADING)[2].partition("\n")
        if lines := said.strip().splitlines():
            return f": {lines[-1]}"
        _opened(console, "it ended without a word\n").close()
    except OSError as error:
        return f": what it said is lost ({error})"
    return ""


def _opened(console: Path, text: str) -> BinaryIO:
    """The file that takes the output of a job, opened to append, after a text."""
    with naming(console):
        console.parent.mkdir(parents=True, exist_ok=True)
        file = console.open("ab", buffering=0)
        try:
            file.write(text.encode(errors="replace"))
        except BaseException:
            file.close()
            raise
        return file


def _console(job: Job) -> Path:
    return job.folder.with_name(job.folder.name + CONSOLE_SUFFIX)
