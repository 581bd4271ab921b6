"""Taking jobs from a study, so that each runs once however many workers there are."""

from __future__ import annotations

import os
import platform
import random
from collections.abc import Sequence

from reminding.lab.train.sweep.attempts import Attempt, all_settled, free_jobs, last_params, owners
from reminding.lab.train.sweep.pulse import Pulse
from reminding.lab.train.sweep.space import Space
from reminding.lab.train.sweep.storage import GivenAwayError, Study


def this_worker() -> str:
    """The name of this process among all workers."""
    return f"{platform.node()}:{os.getpid()}"


class Queue:
    """The jobs of a study, as one worker sees them.

    Args:
        study: shared by all workers.
        pulse: shows that this worker lives.
        jobs: the names of all jobs, in the order in which they should be run.
        space: the options that a job's values are drawn from; None: jobs have no values.
        retry_failed: whether jobs that failed before this worker began are tried again.
    """

    def __init__(
        self,
        study: Study,
        pulse: Pulse,
        jobs: Sequence[str],
        *,
        space: Space | None = None,
        retry_failed: bool = False,
    ) -> None:
        self.study, self.pulse, self.jobs = study, pulse, jobs
        self._space = space
        self._retry_before = len(study.attempts()) if retry_failed else 0

    def take(self) -> tuple[str, int] | None:
        """Take a job that nobody has.

        Returns:
            the job and the number of this worker's attempt at it; None if there is no free job.
        """
        while True:
            attempts = self._attempts()
            free = free_jobs(self.jobs, attempts)
            if not free:
                return None
            # Workers that begin together would all want the first job; alone, a worker keeps the order.
            running = sum(each.state == "running" for each in attempts)
            job = random.choice(free[: 1 + running])
            number = self.study.begin(job, this_worker(), last_params(job, attempts), self._space)
            self.pulse.add(number)
            if self._owns(job, number):
                return job, number
            self.give_back(number, "another worker was faster")

    def _attempts(self) -> list[Attempt]:
        """All attempts but the failed ones whose jobs are tried again."""
        attempts = self.study.attempts()
        return [each for each in attempts if each.state != "failed" or each.number >= self._retry_before]

    def owners(self) -> dict[str, Attempt]:
        """The attempt that owns each job that is not free."""
        return owners(self._attempts())

    def _owns(self, job: str, number: int) -> bool:
        owner = self.owners().get(job)
        return owner is not None and owner.number == number

    def give_back(self, number: int, reason: str) -> None:
        """Make an attempt void, so that any worker may take its job."""
        try:
            self.study.write(number, "ended", reason)
            self.study.end(number, "void")
        except GivenAwayError:  # others had made it void already
            pass
        finally:
            self.pulse.remove(number)

    def complete(self, number: int, value: float) -> None:
        """End an attempt with its result.

        Raises:
            GivenAwayError: the job is another worker's.
        """
        self.study.end(number, "complete", value)
        self.pulse.remove(number)

    def prune(self, number: int, value: float | None) -> None:
        """End an attempt whose results were worse than those of others; raises as `complete` does."""
        self.study.end(number, "pruned", value)
        self.pulse.remove(number)

    def fail(self, number: int, error: str) -> None:
        """End an attempt by an error that another attempt would repeat; raises as `complete` does."""
        self.study.write(number, "error", error)
        self.study.end(number, "failed")
        self.pulse.remove(number)

    def finished(self) -> bool:
        """Whether every job has come to its end, by whichever worker."""
        return all_settled(self.jobs, self._attempts())
