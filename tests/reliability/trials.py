"""Trials on runs: training in forked processes, which start at once, and comparison with an uninterrupted run."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

from reminding.cli import main
from reminding.lab.report.check import check_run
from tests.lab.stream_runs import assert_same_run
from tests.reliability.faults import Fault, faulty

STEPS = 9
PATIENCE = 60.0
"""Seconds after which a process counts as hung."""
OPTIONS = [
    *("--lag", "7", "--gap", "3", "--chunk", "6", "--noise", "0.2", "--hidden-size", "8", "--k-trunc", "3"),
    *("--k-top", "2", "--capacity", "4", "--batch-size", "3", "--eval-every", "3", "--eval-sequences", "4"),
    *("--test-sequences", "4", "--device", "cpu", "--steps", str(STEPS)),
]


@dataclass
class Tally:
    """What came of the trials of a campaign.

    Attributes:
        right: the result was that of an uninterrupted run; refused: an error as documented came instead.
        wrong: anything else, with what it was; crashed, hung: a process that ended by a signal, or did not end.
        note: a sentence on the whole campaign.
    """

    name: str
    right: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list[str])
    crashed: list[str] = field(default_factory=list[str])
    hung: list[str] = field(default_factory=list[str])
    note: str = ""

    @staticmethod
    def of(name: str, found: Counter[str], problems: list[str]) -> Tally:
        """That of a campaign which counted its trials by verdict; rounding is right."""
        tally = Tally(name, found["right"] + found["rounding"], found["refused"])
        for kind in ("wrong", "crashed", "hung"):
            getattr(tally, kind).extend([f"{kind}; see above"] * found[kind])
        tally.wrong[: len(problems)] = problems[: len(tally.wrong)]
        return tally

    @property
    def problems(self) -> list[str]:
        """All that was not as it must be."""
        return [*self.wrong, *self.crashed, *self.hung]

    @property
    def numbers(self) -> dict[str, int]:
        """How many trials there were of each kind."""
        counts = {"right": self.right, "refused": self.refused, "wrong": len(self.wrong)}
        counts |= {"crashed": len(self.crashed), "hung": len(self.hung)}
        return {"tried": sum(counts.values()), **counts}

    @property
    def tried(self) -> int:
        """The number of trials."""
        return self.numbers["tried"]

    def line(self) -> str:
        """A row of the table of results."""
        return f"| {self.name} | {' | '.join(f'{number:,}' for number in self.numbers.values())} |"

    def judge(self, problem: str) -> None:
        """Count a trial; "" if nothing is wrong."""
        if not problem:
            self.right += 1
        else:
            (self.hung if problem.endswith(" hung") else self.wrong).append(problem)


@dataclass
class Child:
    """A process that trains.

    Attributes:
        console: the file with what it printed.
    """

    pid: int
    console: Path

    def wait(self, patience: float = PATIENCE) -> int:
        """Its exit status, negative for a signal.

        Args:
            patience: seconds after which it counts as hung.

        Raises:
            TimeoutError: it hangs; it is killed.
        """
        end = time.monotonic() + patience
        while time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise TimeoutError(f"process {self.pid} hung")

    def said(self) -> str:
        """What it printed."""
        return self.console.read_text(errors="replace")


def forked(action: Callable[[], object], console: Path) -> Child:
    """Do something in a process of its own."""
    console.touch()  # a signal may end the process before it has opened the file
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on, of threads; here they are idle
        pid = os.fork()
    if pid:
        return Child(pid, console)
    code = 70
    try:
        sys.stdout = sys.stderr = console.open("a", buffering=1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        action()
        code = 0
    except SystemExit as end:
        print(end.code)
        code = end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    except BaseException as error:
        print(f"undocumented: {error!r}")
    finally:
        os._exit(code)


def train(folder: Path, fault: Fault = "none", at: int = 0, *, resume: bool = False, lasting: bool = False) -> Child:
    """Train a run in a process of its own, with a fault at some system call."""

    def run() -> None:
        words = ["train", "cue", *OPTIONS, "--out", str(folder), *(["--resume"] if resume else [])]
        with faulty(fault, at, lasting=lasting):
            main(words)

    return forked(run, folder.with_suffix(".console"))


def started(folder: Path) -> bool:
    """Whether a run has come as far as its config.json, without which it is begun again."""
    return (folder / "config.json").exists()


def finish(folder: Path) -> str:
    """Resume a run to its end; returns what was wrong, "" if nothing."""
    child = train(folder, resume=started(folder))
    try:
        code = child.wait()
    except TimeoutError as error:
        return str(error)
    return "" if code == 0 else f"{folder.name}: the resumed run ended with {code}: {child.said()[-300:]}"


def difference(folder: Path, whole: Path) -> str:
    """How a finished run differs from the uninterrupted one, "" if it does not."""
    try:
        assert_same_run(folder, whole)
        damaged = check_run(folder).damaged
    except (AssertionError, OSError, ValueError) as error:
        return f"{folder.name}: {error!r}"[:300]
    left = [path.name for path in folder.rglob("*.part")]
    return f"{folder.name}: {damaged} {left}" if damaged or left else ""


def completed(folder: Path, whole: Path) -> str:
    """Resume a run to its end and compare it; returns what was wrong."""
    return finish(folder) or difference(folder, whole)


@contextlib.contextmanager
def timed() -> Generator[list[float]]:
    """Measure seconds."""
    began, seconds = time.monotonic(), list[float]()
    yield seconds
    seconds.append(time.monotonic() - began)
