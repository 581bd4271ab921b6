"""Where a run ends: the limits that a resumed run may have, and whether it has reached them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from reminding.disk.errors import DamagedFileError
from reminding.lab.runs.saved.training import standing_of


class Limits(Protocol):
    """The options of training that may end it."""

    @property
    def steps(self) -> int:
        """Greatest number of updates."""
        ...

    @property
    def max_seconds(self) -> float | None:
        """Limit on the training time."""
        ...

    @property
    def target(self) -> float | None:
        """The main metric that ends the run."""
        ...

    @property
    def patience(self) -> int | None:
        """Evaluations without a better main metric that end the run."""
        ...


def has_ended(summary: Mapping[str, Any], saved: Limits, wanted: Limits) -> bool:
    """Whether a run has reached its number of updates, its time, its target or its patience.

    Args:
        summary: of the run; empty if it has none.
        saved: the options with which it ran.
        wanted: those with which it may go on.
    """
    stopped = summary.get("stopped")
    if stopped in ("target", "patience"):
        return (wanted.target, wanted.patience) == (saved.target, saved.patience)
    if stopped in ("steps", "time"):
        late = wanted.max_seconds is not None and summary["seconds"] >= wanted.max_seconds
        return late or summary["steps"] >= wanted.steps
    return False


def check_limits(saved: Limits, wanted: Limits, folder: Path, training: Path) -> None:
    """Refuse to resume a run up to an update or a time that lies behind it.

    A time that is not below that with which it ran is no reason: a run goes a little beyond its time.

    Args:
        saved: the options with which it ran.
        wanted: those with which it shall go on.
        folder: of the run, for messages.
        training: the file of its last checkpoint, in the folder with the number of its update.

    Raises:
        ValueError: names the limit, and how far the run has come.
    """
    if wanted.steps < (done := int(training.parent.name)):
        raise ValueError(
            f"steps: {folder} has made {done} updates, and {wanted.steps} are asked for; --resume goes on from "
            f"update {done}, so give at least that many, or begin a run in another folder"
        )
    limit = wanted.max_seconds
    if limit is None or (saved.max_seconds is not None and saved.max_seconds <= limit):
        return
    with contextlib.suppress(DamagedFileError, FileNotFoundError):  # which is told when the run is restored
        if (spent := standing_of(training).seconds) > limit:
            raise ValueError(
                f"max_seconds: {folder} has trained for {spent:.4g} s, and {limit:g} s are asked for; the limit is "
                "on the time of the whole run, before and after --resume, so give more, or leave it out"
            )
