"""A stream of a million steps in two layers, with credit into past calls, killed every 50,000 steps on average.

    python -m tests.reliability.million --steps 1000000

Resumed after each kill, it must end as the uninterrupted run does: the same weights, optimizer, state of the stream,
log and results, in every number.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import torch

from reminding.cli import main as command
from reminding.lab.runs import checkpoint
from reminding.nn.state.storage import load_tensors
from tests.lab.stream_runs import last
from tests.reliability.trials import Child, Tally, difference, forked, started

CHUNK, EVERY = 100, 50_000
"""Steps of an update, and between two kills on average."""
PATIENCE_SECONDS = 3600.0
OPTIONS = [
    *("--lag", "40", "--gap", "10", "--chunk", str(CHUNK), "--hidden-size", "8", "--num-layers", "2"),
    *("--k-trunc", "10", "--k-top", "2", "--capacity", "6", "--credit-every", "5", "--batch-size", "1"),
    *("--eval-every", "100", "--eval-sequences", "1", "--test-sequences", "1", "--device", "cpu"),
]


def begin(folder: Path, steps: int) -> Child:
    """Train in a process of its own, on from the last checkpoint if there is one."""
    resume = ["--resume"] if started(folder) else []
    words = ["train", "cue", *OPTIONS, "--steps", str(steps // CHUNK), "--out", str(folder), *resume]
    return forked(lambda: command(words), folder.with_suffix(".console"))


def waited(child: Child, seconds: float) -> int | None:
    """The exit status of a process, negative for a signal; None if it lives on after these seconds."""
    end = time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.02)


def interrupted(folder: Path, steps: int, seconds: float, draws: random.Random) -> int:
    """Train a run to its end, killed at random moments; returns how often.

    Args:
        seconds: between two kills on average.
    """
    kills = 0
    while True:
        child = begin(folder, steps)
        code = waited(child, draws.expovariate(1 / seconds))
        if code is None:
            os.kill(child.pid, signal.SIGKILL)
            code = waited(child, PATIENCE_SECONDS)
        if code == 0:
            return kills
        if code != -signal.SIGKILL:
            raise RuntimeError(f"the run ended with {code}: {child.said()[-500:]}")
        kills += 1


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
    began = time.monotonic()
    child = begin(whole, steps)
    if waited(child, PATIENCE_SECONDS) != 0:
        raise RuntimeError(f"the uninterrupted run failed: {child.said()[-500:]}")
    seconds = (time.monotonic() - began) * every / steps
    kills = interrupted(folder, steps, seconds, random.Random(seed))
    tally.judge(same_training(folder, whole) or difference(folder, whole))
    tally.note = f"{steps:,} steps, {kills} kills"
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
