"""Attempts at jobs, and the rules by which workers share jobs without running one twice.

A job is a name, such as the number of a trial. A worker that begins a job writes an attempt to the storage, which
numbers all attempts in one order. The first attempt at a job that is not void owns the job; a worker whose attempt
does not own its job gives it up. An attempt becomes void when its worker dies or stops, and then the job is free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

State = Literal["running", "complete", "pruned", "failed", "void"]


@dataclass(frozen=True)
class Attempt:
    """An attempt at a job, as the storage has it.

    Args:
        number: its place in the order of all attempts of a study, from 0.
        job: the name of the job.
        state: "running"; "complete"; "pruned"; "failed", by an error that another attempt would repeat; or "void",
            when the worker died or stopped.
        worker: who made it: machine and process.
        beat: a number that the worker raises while it lives.
        params: the values of the options of a trial, by name.
        value: the result of a complete trial, or the best one so far of a pruned trial.
        intermediate: update -> the result at an evaluation.
        notes: everything else that was written with it, such as "error".
        began: the time on the worker's clock.
        ended: likewise; None while it runs.
    """

    number: int
    job: str
    state: State
    worker: str
    beat: int = 0
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    value: float | None = None
    intermediate: Mapping[int, float] = field(default_factory=dict[int, float])
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    began: datetime | None = None
    ended: datetime | None = None

    @property
    def settled(self) -> bool:
        """Whether the job needs no further attempt."""
        return self.state in ("complete", "pruned", "failed")

    @property
    def seconds(self) -> float | None:
        """The time from beginning to end; None while it runs."""
        return None if self.began is None or self.ended is None else (self.ended - self.began).total_seconds()


def owners(attempts: Sequence[Attempt]) -> dict[str, Attempt]:
    """The attempt that owns each job: the first that is not void. A job without an owner is free."""
    found: dict[str, Attempt] = {}
    for attempt in sorted(attempts, key=lambda each: each.number):
        if attempt.state != "void":
            found.setdefault(attempt.job, attempt)
    return found


def free_jobs(jobs: Sequence[str], attempts: Sequence[Attempt]) -> list[str]:
    """The jobs that nobody has taken, in their order."""
    owned = owners(attempts)
    return [job for job in jobs if job not in owned]


def all_settled(jobs: Sequence[str], attempts: Sequence[Attempt]) -> bool:
    """Whether every job has come to its end."""
    owned = owners(attempts)
    return all(job in owned and owned[job].settled for job in jobs)


def last_params(job: str, attempts: Sequence[Attempt]) -> Mapping[str, Any]:
    """The values that the last void attempt at a job had drawn; empty if it had none."""
    drawn = [each.params for each in attempts if each.job == job and each.state == "void" and each.params]
    return drawn[-1] if drawn else {}
