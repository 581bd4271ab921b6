"""A stream of a million steps in two layers, with credit into past calls, killed every 50,000 steps on average.

    python -m tests.reliability.million --steps 1000000

The kills are a Poisson process in steps of the stream, given their number: each falls due at a step drawn from all of
them, and comes after a delay of less than the time between two checkpoints, so at any moment of an update, an
evaluation or a write. Resumed after each kill, the run must end as the uninterrupted one does: the same weights,
optimizer, state of the stream, log and results, in every number.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from ctypes import c_int64
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from reminding.cli import main as command
from reminding.lab.runs import checkpoint
from reminding.lab.train import trainer
from reminding.nn.state.storage import load_tensors
from tests.lab.stream_runs import last
from tests.reliability.trials import Child, Tally, difference, forked, started

CHUNK, EVERY = 100, 50_000
"""Steps of an update, and between two kills on average."""
EVALUATED = 100
"""Updates from one checkpoint to the next."""
PATIENCE_SECONDS = 3600.0
OPTIONS = [
    *("--lag", "40", "--gap", "10", "--chunk", str(CHUNK), "--hidden-size", "8", "--num-layers", "2"),
    *("--k-trunc", "10", "--k-top", "2", "--capacity", "6", "--credit-every", "5", "--batch-size", "1"),
    *("--eval-every", str(EVALUATED), "--eval-sequences", "1", "--test-sequences", "1", "--device", "cpu"),
]


def begin(folder: Path, steps: int, done: Any = None) -> Child:
    """Train in a process of its own, on from the last checkpoint if there is one.

    Args:
        done: shared with that process, which keeps there the number of steps that it has learned from.
    """
    resume = ["--resume"] if started(folder) else []
    words = ["train", "cue", *OPTIONS, "--steps", str(steps // CHUNK), "--out", str(folder), *resume]
    learn = trainer.learn

    def counted(run: Any, batch: Any) -> Any:
        update = learn(run, batch)
        done.value = run.standing.step * CHUNK
        return update

    def trained() -> None:
        with mock.patch.object(trainer, "learn", learn if done is None else counted):
            command(words)

    return forked(trained, folder.with_suffix(".console"))


def waited(child: Child, seconds: float = PATIENCE_SECONDS) -> int | None:
    """The exit status of a process, negative for a signal; None if it lives on after these seconds."""
    end = time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.002)


def killed(child: Child, done: Any, due: int, delay: float) -> int | None:
    """Kill a process some seconds after it has learned from a step; its exit status."""
    end = time.monotonic() + PATIENCE_SECONDS
    code = None
    while code is None and done.value <= due and time.monotonic() < end:
        code = waited(child, 0)
        time.sleep(0.002)
    code = waited(child, delay) if code is None else code
    if code is None:
        os.kill(child.pid, signal.SIGKILL)
        code = waited(child)
    return code


def moments(steps: int, every: int, draws: random.Random) -> list[int]:
    """The steps after which kills fall due. There is one more than it takes, since a run may end before the last."""
    latest = max(steps - EVALUATED * CHUNK, 1)
    return sorted(draws.randrange(latest) for _ in range(-(-steps // every) + 1))


def interrupted(folder: Path, steps: int, due: list[int], delays: list[float]) -> int:
    """Train a run to its end, killed at these moments; returns how often."""
    kills, done = 0, RawValue(c_int64)
    for step, delay in zip(due, delays, strict=True):
        done.value = 0
        child = begin(folder, steps, done)
        code = killed(child, done, step, delay)
        if code == 0:
            return kills
        if code != -signal.SIGKILL:
            raise RuntimeError(f"the run ended with {code}: {child.said()[-500:]}")
        kills += 1
    child = begin(folder, steps)
    if (code := waited(child)) != 0:
        raise RuntimeError(f"the run ended with {code}: {child.said()[-500:]}")
    return kills


def same_training(one: Path, other: Path) -> str:
    """How the last checkpoints differ in a tensor of model, optimizer or random numbers; "" if in none."""
    mine, theirs = (load_tensors(last(folder) / checkpoint.TRAINING_NAME)[0] for folder in (one, other))
    unlike = [name for name in theirs if name not in mine or not torch.equal(mine[name], theirs[name])]
    return ", ".join([*unlike, *(mine.keys() - theirs.keys())])


def run(steps: int, place: Path, seed: int = 0, every: int = EVERY) -> Tally:
    """Train a run to its end twice, once without an interruption; the verdict, and how often it was killed.

    Args:
        every: steps between two kills on average.
    """
    tally, whole, folder = Tally("a stream of two layers, killed and resumed"), place / "long", place / "killed"
    began, draws = time.monotonic(), random.Random(seed)
    child = begin(whole, steps)
    if waited(child) != 0:
        raise RuntimeError(f"the uninterrupted run failed: {child.said()[-500:]}")
    between = (time.monotonic() - began) * EVALUATED * CHUNK / steps
    due = moments(steps, every, draws)
    kills = interrupted(folder, steps, due, [draws.uniform(0, between) for _ in due])
    tally.judge(same_training(folder, whole) or difference(folder, whole))
    between_kills = f"one in {round(steps / kills, -2):,.0f} steps" if kills else "none"
    tally.note = f"{steps:,} steps, {kills} kills at random moments, {between_kills}"
    return tally


def main() -> int:
    """Run the campaign and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        tally = run(options.steps, Path(place), options.seed)
    print(tally.line(), tally.note, *tally.problems, sep="\n")
    return int(bool(tally.problems))


if __name__ == "__main__":
    raise SystemExit(main())
