"""Campaigns on runs: kills, signals, full disks, several processes. Every run must end as an uninterrupted one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

from tests.reliability.faults import Fault, faulty
from tests.reliability.trials import OPTIONS, Tally, completed, difference, started, timed, train

MOST_KILLS = 3
"""Of one run."""


class Campaigns:
    """Campaigns beside one uninterrupted run.

    Args:
        place: folder for the runs; seed: of the random moments.
    """

    def __init__(self, place: Path, seed: int = 0) -> None:
        self.place, self.draws, self._count = place, random.Random(seed), 0
        self.whole = place / "whole"
        with timed() as seconds:
            assert train(self.whole).wait() == 0
        (self.seconds,) = seconds
        self.calls = self._calls()

    def _calls(self) -> list[str]:
        """The system calls of an uninterrupted run."""
        from reminding.cli import main

        with faulty() as system, (self.place / "counted.txt").open("w") as console, redirect_stdout(console):
            main(["train", "cue", *OPTIONS, "--out", str(self.place / "counted")])
        return system.calls

    def _folder(self) -> Path:
        self._count += 1
        return self.place / f"run{self._count}"

    def kills_at_random_moments(self, trials: int) -> Tally:
        """Kill a run one to three times, then let it finish."""
        tally = Tally("killed at random moments")
        for _ in range(trials):
            folder = self._folder()
            for _ in range(self.draws.randint(1, MOST_KILLS)):
                child = train(folder, resume=started(folder))
                time.sleep(self.draws.uniform(0, self.seconds))
                os.kill(child.pid, signal.SIGKILL)
                child.wait()
            self._judge(tally, folder)
        return tally

    def kills_at_operations(self, every: int) -> Tally:
        """Kill a run before each system call that changes the disk, and inside each write."""
        tally = Tally("killed before or inside a file operation")
        for fault, at in self._operations(("kill before", "kill inside"), every):
            folder = self._folder()
            if train(folder, fault, at).wait() != -signal.SIGKILL:
                tally.wrong.append(f"{fault} {at}: it was not killed")
            if self.draws.random() < 0.5:  # the resumed run is killed, too
                train(folder, fault, self.draws.randint(1, len(self.calls) // 2), resume=started(folder)).wait()
            self._judge(tally, folder)
        return tally

    def _operations(self, faults: tuple[Fault, ...], every: int) -> Iterator[tuple[Fault, int]]:
        pairs: list[tuple[Fault, int]] = [
            (fault, at)
            for at, name in enumerate(self.calls, 1)
            for fault in faults
            if fault != "kill inside" or name == "write"
        ]
        return iter(pairs[self.draws.randrange(every) :: every])

    def signals(self, trials: int) -> Tally:
        """Send SIGINT once or twice, SIGTERM or SIGHUP at random moments."""
        tally = Tally("Ctrl-C once or twice, SIGTERM, SIGHUP")
        kinds = [(signal.SIGINT,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM,), (signal.SIGHUP, signal.SIGTERM)]
        for number in range(trials):
            folder = self._folder()
            child = train(folder)
            time.sleep(self.draws.uniform(0, self.seconds))
            for kind in kinds[number % len(kinds)]:
                os.kill(child.pid, kind)
                time.sleep(self.draws.choice((0.0, 0.002, 0.02)))
            child.wait()
            if "undocumented" in child.said():
                tally.wrong.append(child.said()[-300:])
            self._judge(tally, folder)
        return tally

    def full_disk(self, every: int) -> Tally:
        """No space, or a disk that became read-only, from each system call on; then the disk is well again."""
        tally = Tally("no space or read-only at a file operation")
        for fault, at in self._operations(("no space", "read-only"), every):
            folder = self._folder()
            child = train(folder, fault, at, lasting=True)
            child.wait()
            said = child.said()
            if "Traceback" in said or "undocumented" in said:
                tally.wrong.append(f"{fault} {at}: {said[-300:]}")
            self._judge(tally, folder)
        return tally

    def small_disk(self, trials: int) -> Tally:
        """A tmpfs that is too small, then large enough; only where this user may mount one."""
        tally, place = Tally("a full tmpfs"), self.place / "tmpfs"
        place.mkdir()
        for _ in range(trials):
            size = self.draws.randint(8, 400)
            mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(place)]
            if subprocess.run(mount, capture_output=True, check=False).returncode:
                return tally
            try:
                child = train(place / "run")
                child.wait()
                subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
                if "Traceback" in child.said() or "undocumented" in child.said():
                    tally.wrong.append(f"{size} kB: {child.said()[-300:]}")
                self._judge(tally, place / "run")
            finally:
                subprocess.run(["umount", str(place)], check=True)
        return tally

    def together(self, trials: int) -> Tally:
        """Two or three processes resume one run at the same time."""
        tally = Tally("two or three processes on one run")
        for number in range(trials):
            folder = self._folder()
            child = train(folder)
            time.sleep(self.draws.uniform(0, self.seconds))
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            resume = started(folder)
            children = [train(folder, resume=resume) for _ in range(2 + number % 2)]
            codes = [each.wait() for each in children]
            said = children[0].said()
            if 0 not in codes or said.count("reminding: ") != len(codes) - codes.count(0):
                tally.wrong.append(f"{codes}: {said[-300:]}")
            tally.judge(difference(folder, self.whole))
            shutil.rmtree(folder)
        return tally

    def _judge(self, tally: Tally, folder: Path) -> None:
        tally.judge(completed(folder, self.whole))
        shutil.rmtree(folder, ignore_errors=True)
