"""All figures of one run: at each size memory first, then the time of the contestants within the limits."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from reminding.lab.bench.contestants import Problem, TrainingStep, build
from reminding.lab.bench.meter import Cost, Lap, Tell, Trial, cost_in_own_process, interleaved
from reminding.lab.bench.options import BenchOptions, Loss, Name, Size
from reminding.lab.bench.process import Refusal

LEAST_GROWTH = {"T": 1.0, "B": 0.0, "H": 0.0}
"""The least power of each size that a cost grows with: a few rows or units cost about as much as one."""


@dataclass(frozen=True)
class Figures:
    """One contestant at one size.

    Args:
        laps: one per repetition, or none where only the memory was measured. The n-th laps of all contestants at a
            size belong to the same repetition.
        full_laps: laps under a loss everywhere, where `laps` has the loss at the end; empty otherwise.
        peak_bytes: None where the system does not report it.
    """

    laps: list[Lap]
    full_laps: list[Lap]
    peak_bytes: int | None


@dataclass(frozen=True)
class Point:
    """The figures at one size.

    Args:
        skipped: contestant -> why it was not timed. Its memory is known only if it is also in `measured`.
        load: the machine's load average over the last minute, in threads; above `threads` if other processes ran.
            None where the system does not report it.
    """

    size: Size
    measured: dict[Name, Figures]
    skipped: dict[Name, str]
    load: float | None


@dataclass
class History:
    """The cost of a contestant at the sizes so far, along the axis that varies."""

    values: list[int] = field(default_factory=list[int])
    costs: list[Cost] = field(default_factory=list[Cost])
    stopped: str | None = None

    def forecast(self, value: int, axis: str) -> Cost:
        """The expected cost at the next size, from the growth between the last two; 0 before the first."""
        if not self.costs:
            return Cost(None, 0.0)
        seconds = [cost.seconds for cost in self.costs]
        peaks = [cost.peak_bytes for cost in self.costs if cost.peak_bytes is not None]
        return Cost(
            int(_extended(self.values, peaks, value, axis)) if len(peaks) == len(seconds) else None,
            _extended(self.values, seconds, value, axis),
        )


def _extended(values: list[int], costs: list[float] | list[int], value: int, axis: str) -> float:
    """The power law through the last two points, or the law of least growth through one."""
    power = LEAST_GROWTH[axis]
    if len(costs) > 1 and min(costs[-2:]) > 0:
        power = max(power, math.log(costs[-1] / costs[-2]) / math.log(values[-1] / values[-2]))
    return costs[-1] * (value / values[-1]) ** power


def measure(options: BenchOptions, tell: Tell) -> Iterator[Point]:
    """Take all figures, size by size; sets PyTorch's number of threads."""
    torch.set_num_threads(options.threads)
    histories: dict[Name, History] = {name: History() for name in options.contestants}
    for size in options.sizes():
        yield _measure_size(size, options, histories, tell)


def _measure_size(size: Size, options: BenchOptions, histories: dict[Name, History], tell: Tell) -> Point:
    costs: dict[Name, Cost] = {}
    skipped: dict[Name, str] = {}
    for name, history in histories.items():
        tell(f"{size}: memory of {name}")
        cost, refusal = _admit(name, size, options, history)
        if cost is not None:
            costs[name] = cost
        if refusal is not None:
            skipped[name] = refusal.reason
    laps = _timed(
        [name for name in costs if name not in skipped], size, options, lambda text: tell(f"{size}: {text}")
    )
    measured: dict[Name, Figures] = {}
    for name, cost in costs.items():
        full = laps.get((name, "everywhere"), []) if options.loss != "everywhere" else []
        measured[name] = Figures(laps.get((name, options.loss), []), full, cost.peak_bytes)
    return Point(size, measured, skipped, os.getloadavg()[0] if hasattr(os, "getloadavg") else None)


def _admit(name: Name, size: Size, options: BenchOptions, history: History) -> tuple[Cost | None, Refusal | None]:
    """The cost of one step of a contestant, if it was measured; and why the contestant must not be timed, if so."""
    if history.stopped is not None:
        return None, Refusal(f"left out, as at {history.stopped}")
    try:
        build(name, size, options)
    except ValueError as error:
        return None, Refusal(str(error))
    value = getattr(size, options.axis)
    forecast = history.forecast(value, options.axis)
    outcome = _beyond(forecast, options, "predicted") or cost_in_own_process(name, size, options)
    if isinstance(outcome, Refusal):
        cost, refusal = None, outcome
    else:
        cost, refusal = outcome, _beyond(outcome, options, "measured")
        history.values.append(value)
        history.costs.append(cost)
    if refusal is not None:
        history.stopped = f"{options.axis}={value}"
    return cost, refusal


def _beyond(cost: Cost, options: BenchOptions, how: str) -> Refusal | None:
    """The limit that a cost exceeds, if any."""
    gigabytes = (cost.peak_bytes or 0) / 1e9
    if gigabytes > options.max_gigabytes:
        return Refusal(f"{how} {gigabytes:.1f} GB, over the limit of {options.max_gigabytes:g} GB")
    steps = (1 + options.repetitions) * (1 if options.loss == "everywhere" else 2)
    seconds = steps * cost.seconds
    if seconds > options.max_seconds:
        return Refusal(f"{how} {seconds:.0f} s for {steps} steps, over the limit of {options.max_seconds:g} s")
    return None


def _timed(names: Sequence[Name], size: Size, options: BenchOptions, tell: Tell) -> dict[Trial, list[Lap]]:
    """The times of all contestants at a size, under the chosen loss and under a loss everywhere."""
    if not names:  # the input alone may be too large
        return {}
    problem = Problem.random(size, options)
    losses: dict[Loss, None] = dict.fromkeys((options.loss, "everywhere"))
    steps: dict[Trial, TrainingStep] = {}
    for name in names:
        module = build(name, size, options)
        for loss in losses:
            steps[name, loss] = TrainingStep(module, problem, loss)
    return interleaved(steps, options.repetitions, tell)
