"""How long runs will take, from a few updates of each on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import torch

from reminding.lab.runs.config import ModelOptions, RunConfig
from reminding.lab.runs.model import SequenceModel

UPDATES = 3
"""Measured updates of a run, after one that is not counted."""


def seconds(runs: Sequence[RunConfig]) -> float | None:
    """The time that runs take one after another on one core, without evaluations; None if their data is missing.

    Runs that differ in their seed, their learning rate or their initial biases take equally long, and one of them is
    measured.
    """
    costs: dict[tuple[object, ModelOptions, int], float] = {}
    total = 0.0
    for run in runs:
        if run.train.max_seconds is not None:
            total += run.train.max_seconds
            continue
        key = (run.task, replace(run.model, forget_bias=None), run.train.batch_size)
        if key not in costs:
            try:
                costs[key] = seconds_per_update(run)
            except (OSError, ValueError):  # the data set is not here
                return None
        total += run.train.steps * costs[key]
    return total


def seconds_per_update(run: RunConfig) -> float:
    """The median time of an update on one thread: forward, backward and Adam's step."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = SequenceModel(run.task, run.model)
        optimizer = torch.optim.Adam(model.parameters(), lr=run.train.lr)
        batches = run.task.train_batches(run.train.batch_size, run.train.seed)
        state, times = None, list[float]()
        for _ in range(1 + UPDATES):
            batch = next(batches)
            began = time.perf_counter()
            optimizer.zero_grad()
            prediction, state = model.read(batch, state)
            run.task.loss(prediction, batch).backward()
            optimizer.step()
            times.append(time.perf_counter() - began)
        return median(times[1:])
    finally:
        torch.set_num_threads(threads)


def told(seconds: float | None, jobs: int) -> str:
    """The time of so many seconds of work for a reader."""
    if seconds is None:
        return "the time cannot be estimated: the data set is not here"
    hours = seconds / jobs / 3600
    shown = f"{60 * hours:.0f} minutes" if hours < 2 else f"{hours:.1f} hours"
    return f"about {shown} with --jobs {jobs}, by {UPDATES} updates of each kind of run, without evaluations"
