"""Signs of life: a worker shows its own, and finds the attempts of workers that show none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from reminding.lab.train.sweep.attempts import Attempt
from reminding.lab.train.sweep.storage import GivenAwayError, Study

BEATS = 6
"""Signs of life within the time after which a silent worker is presumed dead."""
MOST_GRACE = 10_000_000
"""Seconds, a third of a year: a system does not wait for any time."""


class Pulse:
    """A thread that beats for this worker's attempts, and gives back the jobs of workers that have fallen silent.

    Each beat raises a number in the storage. A worker is presumed dead if that number stays the same for `grace`
    seconds on the observer's own clock, so that the clocks of machines need not agree. Of the time between two looks
    at most half of `grace` counts: the observer was stopped, or the storage was away, and so perhaps the worker's.

    Args:
        study: whose attempts are watched.
        grace: seconds without a sign of life.
        clock: the observer's time, seconds.
    """

    def __init__(self, study: Study, grace: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._study, self._grace, self._clock = study, grace, clock
        self._own: dict[int, int] = {}
        self._lost: set[int] = set()
        self._seen: dict[int, tuple[int, float]] = {}
        self._looked = clock()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="pulse")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def add(self, number: int) -> None:
        """Beat for an attempt from now on."""
        with self._lock:
            self._own[number] = 0

    def remove(self, number: int) -> None:
        """Beat for an attempt no more: it has ended."""
        with self._lock:
            self._own.pop(number, None)

    def lost(self, number: int) -> bool:
        """Whether another worker has presumed this one dead and taken the job."""
        with self._lock:
            return number in self._lost

    def _run(self) -> None:
        while not self._over.wait(self._grace / BEATS):
            try:
                self.beat()
                self.watch()
            except Exception:  # a database that is away for a while must not end the thread
                continue

    def beat(self) -> None:
        """Show a sign of life for every attempt of this worker."""
        with self._lock:
            self._own = {number: beat + 1 for number, beat in self._own.items()}
            own = dict(self._own)
        for number, beat in own.items():
            try:
                self._study.write(number, "beat", beat)
            except GivenAwayError:
                with self._lock:
                    if self._own.pop(number, None) is not None:  # otherwise it ended in the meantime
                        self._lost.add(number)

    def watch(self) -> list[Attempt]:
        """Give back the jobs of workers without a sign of life.

        Returns:
            the attempts that were made void.
        """
        now = self._clock()
        passed = min(now - self._looked, self._grace / 2)
        running = [each for each in self._study.attempts() if each.state == "running"]
        with self._lock:
            others = [each for each in running if each.number not in self._own]
        self._looked = now
        ended: list[Attempt] = []
        for each in others:
            beat, silence = self._seen.get(each.number, (None, 0.0))
            silence = silence + passed if beat == each.beat else 0.0
            self._seen[each.number] = (each.beat, silence)
            if silence > self._grace and self._void(each):
                ended.append(each)
        return ended

    def _void(self, attempt: Attempt) -> bool:
        try:
            self._study.write(attempt.number, "ended", "its worker showed no sign of life")
            self._study.end(attempt.number, "void")
        except GivenAwayError:  # another worker was faster
            return False
        return True
