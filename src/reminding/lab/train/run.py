"""A run in progress: everything that its updates change, when that may be saved, and how."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from reminding.lab.runs import checkpoint
from reminding.lab.runs.checkpoint import Saved, Standing
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.machine import choose_device
from reminding.lab.runs.model import SequenceModel, StreamState
from reminding.lab.runs.runlog import RunLog
from reminding.lab.runs.saved.training import random_state, set_random_state
from reminding.lab.runs.watch import Watch
from reminding.lab.show.terminal import say
from reminding.lab.train.clip import GradientClipper


@dataclass
class Run:
    """A run in progress.

    Attributes:
        state: of the streams, if the task has streams.
        best: the content of model.safetensors, once there is any.
        random: the states of the random number generators when the run was last consistent.
        consistent: whether everything is as an update or an evaluation has left it, and may be saved. It is not in
            the middle of one: a run that is interrupted there goes on from its last checkpoint.
        saved: the step of the last whole checkpoint.
    """

    config: RunConfig
    folder: Path
    device: torch.device
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

    @staticmethod
    def prepare(config: RunConfig, folder: Path) -> Run:
        """Build everything from the options, and leave the folder alone.

        Raises:
            ValueError: an option is out of range.
        """
        torch.manual_seed(config.train.seed)
        device = choose_device(config.train.device)
        model = SequenceModel(config.task, config.model).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=config.train.lr)
        clipper = GradientClipper(config.train.clip, config.train.clip_kind == "adaptive")
        watch = Watch(config.model, config.train)
        return Run(config, folder, device, model, optimizer, clipper, watch, random=random_state(device))

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
            ValueError: the checkpoints are damaged, or of another model.
        """
        saved, damaged = checkpoint.load_checkpoint(self.folder, self.model, self.optimizer, self.device)
        if saved is None:
            return
        for error in damaged:
            say(f"{error}; the run goes on from the checkpoint before, of update {saved.standing.step}")
        self.clipper.mean, self.standing, self.state = saved.clip_mean, saved.standing, saved.state
        self.best, self.saved = saved.best, saved.step
        self.random = saved.random
        set_random_state(saved.random, self.device)
        checkpoint.publish_weights(self.folder, saved.best)

    def save(self, log: RunLog) -> None:
        """Write a checkpoint, unless there is one of this update already.

        Raises:
            CannotWriteError: the disk is full or read-only; the last checkpoint is as it was.
        """
        step = self.standing.step
        if step == self.saved:
            return
        if self.best is None or self.standing.best is None:
            self.best = checkpoint.packed_weights(self.model, step)
        log.sync()  # the log must not end before the checkpoint
        mean, standing = self.clipper.mean, self.standing
        saved = Saved(self.model, self.optimizer, mean, standing, self.random, self.best, self.state)
        checkpoint.save_checkpoint(self.folder, saved, self.saved)
        self.saved = step
