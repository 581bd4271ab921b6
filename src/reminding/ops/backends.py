"""Which code computes a layer: the table of backends, and the choice among them.

A backend is a folder with an able.py, where it says what it can run, and its `layer` and `differentiate_past`, whose
arguments and results ops/contract.py holds. Its entry in `BACKENDS` is all that the rest of the package knows of it.

Shapes: as in ops/contract.py and ops/past_layout.py.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from torch import Tensor

from reminding.ops.contract import Demand, LayerInput, OpRule, PastGradients, PastReads, PastSteps, Recalled
from reminding.ops.past_layout import PastLayout, PastMemories, PastRows, PastRuns, PastSegments
from reminding.ops.serving import Server

logger = logging.getLogger("reminding")

REFERENCE = "reference"
"""Plain PyTorch, which runs everything."""


class Op(Protocol):
    """What a backend's folder offers."""

    def obstacle(self, demand: Demand) -> str | None:
        """Why it cannot run a layer, or None where it can."""
        ...

    def passed_over(self) -> str | None:
        """Why "auto" does not take it even where it can run a layer, or None."""
        ...

    def lowers(self) -> bool:
        """Whether autocast makes it compute cells in the lower precision; else they stay in the parameters' type."""
        ...

    def credits_past(self, k_top: int | None) -> bool:
        """Whether `differentiate_past` serves for a layer that it can run."""
        ...

    def drops_state(self) -> bool:
        """Whether it runs recurrent dropout, in past calls too."""
        ...

    def searches(self, rule: OpRule, memories: int) -> bool:
        """Whether it may pass over some of so many memories of a row by a bound on their scores."""
        ...

    def in_range(self, key: Tensor, query: Tensor) -> bool:
        """Whether a clamped score is exact, where |W1 m| and |W2 h_hat| come up to `key` and `query`, () each."""
        ...

    def takes_lengths(self, tensors: Iterable[Tensor]) -> bool:
        """Whether `layer` serves for rows of different lengths, `LayerInput.lengths`, with such tensors."""
        ...

    def layer(
        self,
        given: LayerInput,
        rule: OpRule,
        *,
        replay: bool = False,
        milestones: tuple[int, int] | None = None,
    ) -> Recalled:
        """Run all steps of a layer; differentiable."""
        ...

    def replay_past(
        self, reads: PastReads, parameters: Sequence[Tensor | None], rule: OpRule
    ) -> PastSteps | str | None:
        """Steps of past calls, run again; None: plain PyTorch has to; a str: why it would not be exact."""
        ...

    def differentiate_past(
        self, d: PastGradients, parameters: Sequence[Tensor | None], steps: PastSteps, rule: OpRule, need_x: bool
    ) -> list[Tensor | None]:
        """The gradients of x and of the parameters, from those that arrive at steps of past calls."""
        ...

    def list_past(self, runs: PastRuns) -> tuple[Tensor, ...]:
        """The segments of single rows in runs of past calls: `cpu_op.list_past` says how."""
        ...

    def reach_past(self, segments: PastSegments, memories: PastMemories, arrived: Tensor, rule: OpRule) -> Tensor:
        """How many steps of each segment of past calls credit can have come to."""
        ...

    def lay_out_past(
        self, segments: PastSegments, memories: PastMemories, count: Tensor, cut_at: Tensor | None, rule: OpRule
    ) -> PastLayout:
        """The first steps of segments of past calls, so many of each, laid out in time."""
        ...

    def gather_past(self, parts: Sequence[Tensor], rows: PastRows, layout: PastLayout) -> Tensor:
        """Rows of some tensors, laid out as the steps of segments are; zeros elsewhere."""
        ...


@dataclass(frozen=True)
class Backend:
    """An entry of the table: a backend's name, and its folder in `ops`, imported when it is asked for.

    Attributes:
        serves: whether the folder has a serving.py, which keeps the memories of streams from call to call.
    """

    name: str
    folder: str
    serves: bool = False

    @functools.cached_property
    def op(self) -> Op:
        """The backend's folder."""
        return cast("Op", importlib.import_module(f"reminding.ops.{self.folder}"))

    @property
    def server(self) -> Server | None:
        """What it offers for streams that are served; None where it offers nothing."""
        if not self.serves:
            return None
        return cast("Server", importlib.import_module(f"reminding.ops.{self.folder}.serving"))


BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (Backend("cuda", "cuda_op"), Backend("cpu", "cpu_op", serves=True))
}
"""The compiled backends, the fastest first."""


def names() -> tuple[str, ...]:
    """The values of `backend` other than "auto", the fastest first."""
    return (*BACKENDS, REFERENCE)


def obstacles(demand: Demand, automatic: bool) -> dict[str, str | None]:
    """Why each compiled backend cannot run a layer, or under "auto" does not; None where it can."""
    found: dict[str, str | None] = {}
    for name, backend in BACKENDS.items():
        op = backend.op
        found[name] = op.obstacle(demand) or (op.passed_over() if automatic else None)
    return found


def choose_backend(requested: str, obstacles: Mapping[str, str | None]) -> str:
    """The backend that will run: the one asked for, or under "auto" the first of the table that can.

    Args:
        requested: "auto", "reference", "cpu" or "cuda".
        obstacles: why each compiled backend cannot run the layer; None where it can.

    Raises:
        ValueError: the name is unknown, or the backend asked for cannot run here; the message says why.
    """
    if requested not in ("auto", *names()):
        raise ValueError(f"backend must be one of {['auto', *names()]}, got {requested!r}")
    if requested == "auto":
        able = next(name for name in names() if obstacles.get(name) is None)
        passed = names()[: names().index(able)]
        _log_choice(able, "; ".join(f"{name}: {obstacles[name]}" for name in passed))
        return able
    reason = obstacles.get(requested)
    if reason is not None:
        raise ValueError(f"backend={requested!r} cannot run: {reason}; backend='auto' takes one that can")
    return requested


def leave(name: str, what: str, automatic: bool) -> None:
    """Let plain PyTorch run what a backend would not compute exactly, and say so once; or refuse it.

    Args:
        name: of the backend; what: it would have run, for the message.
        automatic: whether the backend was chosen under "auto", and not asked for by name.

    Raises:
        ValueError: it was asked for by name.
    """
    reason = "W1 m and W2 h_hat of its scores are beyond the op's range"
    if not automatic:
        raise ValueError(f"backend={name!r} cannot run {what}: {reason}; backend='auto' takes one that can")
    _log_leaving(name, what, reason)


@functools.cache
def _log_leaving(name: str, what: str, reason: str) -> None:
    logger.info("backend %r leaves %s to plain PyTorch (%s)", name, what, reason)


@functools.cache
def _log_choice(name: str, reasons: str) -> None:
    """Say which backend "auto" took, and why not a faster one: once for each different answer."""
    logger.info("backend 'auto' takes %r (%s)", name, reasons or "the fastest there is")
