"""Which code runs a call, and how its backward pass is done: what was asked for, and what can be had."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from reminding.nn.forward.reference import autocast_type
from reminding.nn.parts.rule import Rule
from reminding.ops.backends import BACKENDS, REFERENCE, choose_backend, obstacles
from reminding.ops.contract import Demand

REPLAY_FROM = 512
"""Steps from which engine="auto" runs segments again in the backward pass instead of keeping what they computed."""


@dataclass(frozen=True)
class Plan:
    """What would run an input.

    Attributes:
        backend: "cuda", "cpu", "reference", or "torch", PyTorch's own kernels.
        engine: "autograd" or "replay".
        why: the reasons for the choice of both.
        search: "scan", every memory is scored at every step; "tree", groups of memories are passed over by a bound on
            their scores; "auto", the tree where it computes few of the scores, found out as the call proceeds.
    """

    backend: str
    engine: str
    why: str
    search: str = "scan"


@dataclass(frozen=True)
class Choice:
    """The choice of code for the calls of a layer as it is now.

    Attributes:
        backend, engine: as they were asked for.
        demand: what is asked of a backend; how many memories a step may find is said later.
        watched: whether backward passes are watched, which only a replay in plain PyTorch allows.

    Raises:
        ValueError: a replay is asked for under a transform that it does not run under.
    """

    backend: str
    engine: str
    rule: Rule
    demand: Demand
    watched: bool

    def __post_init__(self) -> None:
        if self.demand.transform is not None and (self.engine == "replay" or self.watched):
            asked = "engine='replay'" if self.engine == "replay" else "credit()"
            raise ValueError(
                f"{asked} cannot run under {self.demand.transform}; backend='reference' with engine='autograd' does"
            )

    @property
    def may_fall_back(self) -> bool:
        """Whether another backend may run what the chosen one cannot."""
        return self.backend == "auto"

    @property
    def may_fuse(self) -> bool:
        """Whether PyTorch's own recurrent kernels may run a layer that recalls nothing; they keep their graph.

        PyTorch's LSTM for float32 on a CPU has no forward-mode derivative.
        """
        return self.backend == "auto" and self.engine != "replay" and self.demand.transform is None

    def backend_for(self, memories: int) -> str:
        """The backend of a call whose steps find so many memories at most.

        Raises:
            ValueError: the one asked for cannot run it; the message says why.
        """
        return choose_backend(self.backend, self._obstacles(memories))

    def precision(self, backend: str) -> torch.dtype | None:
        """The lower precision that a backend runs cells in under the present autocast; None: the parameters' type."""
        lowers = backend == REFERENCE or BACKENDS[backend].op.lowers()
        return autocast_type(self.demand.device.type) if lowers else None

    def replays(self, steps: int) -> bool:
        """Whether a call of `steps` steps is replayed in the backward pass."""
        if self.demand.transform is not None:
            return False
        return self.engine == "replay" or self.watched or (self.engine == "auto" and steps >= REPLAY_FROM)

    def plan(self, steps: int, memories: int) -> Plan:
        """What would run a call of so many steps that find so many memories at most."""
        backend = self.backend_for(memories)
        plain = self.demand.cell is not None and not self.demand.recurrent_dropout
        fuses = not self.rule.remembers and self.rule.forget_scale == 1 and plain
        if fuses and self.may_fuse:
            return Plan("torch", "autograd", "nothing is recalled: PyTorch's own kernels, segment by segment")
        why = f"engine={self.engine!r}" + (f", which replays {REPLAY_FROM} steps or more" * (self.engine == "auto"))
        passed = [f"{name}: {reason}" for name, reason in self._obstacles(memories).items() if reason is not None]
        why += f"; backend={self.backend!r}" + f" ({'; '.join(passed)})" * (self.backend == "auto" and bool(passed))
        return Plan(backend, "replay" if self.replays(steps) else "autograd", why, self._search(backend, memories))

    def _search(self, backend: str, memories: int) -> str:
        """How the memories that a step recalls are found."""
        cell, score, k_top = self.demand.cell, self.demand.score, self.rule.k_top
        if backend not in BACKENDS or cell is None or score is None or k_top is None:
            return "scan"
        searches = BACKENDS[backend].op.searches(self.rule.for_op(cell, score, k_top), memories)
        return self.rule.search if searches else "scan"

    def _obstacles(self, memories: int) -> dict[str, str | None]:
        same = memories == self.demand.memories
        demand = self.demand if same else replace(self.demand, memories=memories)
        return obstacles(demand, automatic=self.backend == "auto")
