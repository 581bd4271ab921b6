"""A run in progress: everything that its updates change, when that may be saved, and how."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reminding.lab.runs import checkpoint
from reminding.lab.runs.checkpoint import Saved
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.model import SequenceModel, StreamState
from reminding.lab.runs.runlog import LogSize, RunLog
from reminding.lab.runs.saved.training import Standing, of_process, of_processes, random_state, set_random_state
from reminding.lab.runs.watch import Watch
from reminding.lab.show.terminal import say
from reminding.lab.train.clip import GradientClipper
from reminding.lab.train.group import Group, apart, check_divides, join, joined

Judge = Callable[[int, float], str | None]
"""Called with an update and the main metric on the validation split; returns a reason to end the run, or None."""


@dataclass
class Run:
    """A run in progress.

    Attributes:
        state: of the streams, if the task has streams.
        best: the content of model.safetensors, once there is any.
        random: the states of the random number generators when the run was last consistent.
        consistent: whether everything is as an update or an evaluation has left it, and may be saved. It is not in
            the middle of one: a run that is interrupted there goes on from its last checkpoint.
        saved: the step of the last whole checkpoint; logged: the size of log.jsonl then, of a resumed run.
        group: the processes that train together, of which this one has its own rows of batch and state.
        judge: may end the run after an evaluation.
        again: the command that goes on with the run, for a reader.
        signal: the name of the signal that ended it; "": none did, or another process had it.
        clock: the reading of `time.perf_counter` up to which time is counted.
    """

    config: RunConfig
    folder: Path
    group: Group
    model: SequenceModel
    optimizer: torch.optim.Optimizer
    clipper: GradientClipper
    watch: Watch
    standing: Standing = field(default_factory=Standing)
    state: StreamState | None = None
    best: bytes | None = None
    random: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    consistent: bool = True
    saved: int | None = None
    logged: LogSize | None = None
    judge: Judge | None = None
    again: str = "the same command with --resume"
    signal: str = ""
    clock: float = 0.0

    @staticmethod
    def prepare(config: RunConfig, folder: Path) -> Run:
        """Build everything from the options, and leave the folder alone.

        Raises:
            ValueError: an option is out of range.
        """
        config.check_read()
        check_divides(config.train.batch_size)
        group = join(config.train.device)
        torch.manual_seed(config.train.seed)
        model = SequenceModel(config.task, config.model).to(group.device)
        optimizer = _optimizer(model, config.train.lr, config.train.weight_decay)
        clipper = GradientClipper(config.train.clip, config.train.clip_kind == "adaptive")
        watch = Watch(config.model, config.train)
        run = Run(config, folder, group, model, optimizer, clipper, watch)
        run._draw_apart()
        run.random = random_state(group.device)
        return run

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self.group.device

    def _draw_apart(self) -> None:
        """Let every process but the first draw random numbers of its own, for dropout, from here on."""
        if self.group.rank > 0:
            torch.manual_seed(hash((self.config.train.seed, self.standing.step, self.group.rank)) % 2**63)

    def since(self, began: float) -> float:
        """The seconds since a reading of `time.perf_counter`; those of process 0 if a decision depends on them."""
        seconds = time.perf_counter() - began
        return seconds if self.config.train.max_seconds is None else self.group.first(seconds)

    def count_time(self) -> None:
        """Add the time since it was counted last to that of the run."""
        seconds = self.since(self.clock)
        self.clock += seconds
        self.standing.seconds += seconds

    @contextmanager
    def changing(self) -> Generator[None]:
        """A stretch that must be gone through as a whole; if it is not, nothing may be saved afterwards."""
        self.consistent = False
        yield
        self.random = random_state(self.device)
        self.consistent = True

    def resume(self) -> None:
        """Go on from the last whole checkpoint, if there is one.

        Raises:
            ValueError: the checkpoints are damaged, of another model, or not the same in every process.
        """
        saved, damaged = checkpoint.load_checkpoint(self.folder, self.model, self.optimizer, self.device)
        self._check_alike(saved)  # nobody writes before all have read
        if saved is None:
            return
        self.clipper.mean, self.standing = saved.clip_mean, saved.standing
        self.best, self.saved, self.logged = saved.best, saved.step, saved.log
        if self.standing.stopped is not None:  # perhaps by a target or a patience that is another now
            self.standing.stopped = self.reason(self.standing.best)
        self.state = saved.state
        if saved.state is not None and self.group.size > 1:
            self.state = apart(saved.state, self.group, self.config.train.batch_size)
        self._draw_apart()  # unless this process was there when the checkpoint was written
        own = of_process(saved.random, self.group.rank)
        set_random_state({**random_state(self.device), **own}, self.device)
        self.random = random_state(self.device)
        if self.group.rank == 0:
            for error in damaged:
                say(f"{error}; the run goes on from the checkpoint before, of update {saved.standing.step}")
            checkpoint.publish_weights(self.folder, saved.best)
            self._tell_end()

    def _check_alike(self, saved: Saved | None) -> None:
        """Wait for all processes, and refuse to go on unless all have read the same checkpoint, or none."""
        steps = self.group.gathered(None if saved is None else saved.standing.step)
        if (other := next((rank for rank, step in enumerate(steps) if step != steps[0]), None)) is not None:
            found = ["none" if step is None else f"that of update {step}" for step in (steps[0], steps[other])]
            raise ValueError(
                f"resume: the processes do not find the same checkpoint in {self.folder}: {found[0]} in process 0 "
                f"and {found[1]} in process {other}; all machines must see the run's folder"
            )

    def _tell_end(self) -> None:
        """Say that no time is left, where another number of updates or a target says nothing of it."""
        spent, limit = self.standing.seconds, self.config.train.max_seconds
        going = self.standing.stopped is None and self.standing.step < self.config.train.steps
        if going and limit is not None and spent >= limit:
            say(
                f"max_seconds: {self.folder} has trained for {spent:.0f} s before, and the limit of {limit:g} s is "
                "on the time of the whole run: no more updates are made; give a larger limit for more"
            )

    def reason(self, value: float | None) -> str | None:
        """The reason to stop after an evaluation with this main metric: "target", "patience" or None.

        Limits of updates and time are none, since they may be raised.
        """
        target, patience = self.config.train.target, self.config.train.patience
        if target is not None and value is not None and not better(target, value, self.config.task.maximize):
            return "target"
        return "patience" if patience is not None and self.standing.stale >= patience else None

    def save(self, log: RunLog, *, evaluated: bool = False) -> None:
        """Write a checkpoint, unless there is one of this update already.

        Args:
            evaluated: whether an evaluation has followed the update, which a checkpoint from before it lacks.

        Raises:
            CannotWriteError: the disk is full or read-only; the last checkpoint is as it was.
        """
        step = self.standing.step
        if step == self.saved and not evaluated:
            return
        if self.best is None or self.standing.best is None:
            self.best = checkpoint.packed_weights(self.model, step)
        logged = log.sync()  # the log must not end before the checkpoint
        states, randoms = self.group.collected(self.state), self.group.collected(self.random)
        if self.group.rank == 0:
            state, random = joined(states), of_processes(randoms)
            saved = Saved(self.model, self.optimizer, self.clipper.mean, self.standing, random, self.best, state)
            checkpoint.save_checkpoint(self.folder, replace(saved, log=logged), self.saved)
        self.group.wait()  # a process that ends before the first has written makes its launcher end that one, too
        self.saved = step


def better(value: float, other: float, maximize: bool) -> bool:
    """Whether a value is better than another. One that is not finite is worse than all that are."""
    if not (math.isfinite(value) and math.isfinite(other)):
        return math.isfinite(value)
    return value > other if maximize else value < other


def _optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Adam, or AdamW if weights decay; biases and other vectors never do."""
    if not weight_decay:
        return torch.optim.Adam(model.parameters(), lr=lr)
    matrices = [each for each in model.parameters() if each.dim() > 1]
    others = [each for each in model.parameters() if each.dim() <= 1]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay)
