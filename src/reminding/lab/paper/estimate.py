"""How long runs will take, from a few updates of each on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from reminding.lab.runs.config import ModelOptions, RunConfig
from reminding.lab.runs.machine import conditions_of_training
from reminding.lab.train.run import Run
from reminding.lab.train.trainer import learn
from reminding.nn import SAB

UPDATES = 20
"""The most updates measured of a run, after those that are not counted."""
ENOUGH = 2.0
"""Seconds after which the measuring of a run ends."""
FILLING = 10.0
"""Seconds after which updates are counted, even where the memory of a stream is not full yet."""


def seconds(runs: Sequence[RunConfig]) -> float | None:
    """The time that runs take one after another on one core, without evaluations; None if their data is missing.

    Runs that differ in their seed, their learning rate or their start take equally long, and one of them is
    measured.
    """
    costs: dict[tuple[object, ModelOptions, int], float] = {}
    total = 0.0
    for run in runs:
        if run.train.max_seconds is not None:
            total += run.train.max_seconds
            continue
        key = (run.task, replace(run.model, forget_bias=None, min_radius=0.0), run.train.batch_size)
        if key not in costs:
            if not _has_data(run.task):
                return None
            costs[key] = seconds_per_update(run.essential())
        total += run.train.steps * costs[key]
    return total


def _has_data(task: Any) -> bool:
    try:
        next(task.train_batches(1, 0))
    except (OSError, ValueError):  # the latter without a data_dir
        return False
    return True


@conditions_of_training()
def seconds_per_update(run: RunConfig) -> float:
    """The mean time of some updates of a training run on one thread, with the making of their batches.

    The mean, since the updates of a stream differ: only some of them hold an answer, or send credit into the past.
    The more memories a stream has, the longer an update takes; so its memory is filled first.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        begun = Run.prepare(run, Path("never written"))
        batches = run.task.train_batches(run.train.batch_size, run.train.seed)
        began, steps, full = time.perf_counter(), 0, _steps_until_full(begun)
        while steps == 0 or (steps < full and time.perf_counter() - began < FILLING):
            batch = next(batches)
            learn(begun, batch)
            steps += len(batch.input)
        began, done = time.perf_counter(), 0
        while done < UPDATES and time.perf_counter() - began < ENOUGH:
            learn(begun, next(batches))
            done += 1
        return (time.perf_counter() - began) / done
    finally:
        torch.set_num_threads(threads)


def _steps_until_full(run: Run) -> int:
    """Steps of a stream after which the layer has as many memories as it keeps; 0 where a sequence begins anew."""
    layer = run.model.layer
    if not run.config.task.streamed or not isinstance(layer, SAB) or layer.rule.capacity is None:
        return 0
    return layer.rule.capacity * layer.k_att


def told(seconds: float | None, jobs: int) -> str:
    """The time of so many seconds of work for a reader."""
    if seconds is None:
        return "the time cannot be estimated: the data set is not here"
    hours = seconds / jobs / 3600
    shown = f"{60 * hours:.0f} minutes" if hours < 2 else f"{hours:.1f} hours"
    return f"about {shown} with --jobs {jobs}, by some updates of each kind of run, without evaluations"
