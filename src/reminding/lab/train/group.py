"""The processes that train one run together. The one file that imports accelerate.

Rows are divided, never time: each process reads its own rows of every batch, and keeps the state of its own streams.
The gradients of all are added up, weighted so that the sum is the gradient of the whole batch; every process then
makes the same update. Only process 0 writes to the run's folder and to the terminal.

Shapes: B batch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from reminding.lab.runs.machine import choose_device
from reminding.lab.runs.model import StreamState
from reminding.nn import CarriedState, SABState
from reminding.nn.baselines import carried
from reminding.nn.state.merging import merge_states, own_rows
from reminding.tasks import Batch, MetricSums

Thing = TypeVar("Thing")
_UNSET = "the environment variable is not reminding's own: unset it to work in one process"
_NOTHING_CAME = "nothing came from the other processes of the group; the one that ended first says why"
_RESTARTED = (
    "the processes that were started again do not find each other: the environment of torchrun needs "
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"
)


class Group:
    """A process that trains alone; `join` gives one of several.

    Attributes:
        rank: the number of this process, from 0.
        size: the number of processes.
        device: of this process.
    """

    rank = 0
    size = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def rows(self, count: int) -> slice:
        """The rows of this process among `count`; none if there are too few."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def part(self, batch: Batch) -> Batch:
        """The rows of this process in a batch."""
        return batch if self.size == 1 else batch.rows(self.rows(batch.input.shape[1]))

    def share(self, task: Any, whole: Batch, part: Batch) -> float:
        """The weight of this process's mean loss in that of the whole batch."""
        return 1.0 if self.size == 1 else task.count_targets(part) / max(task.count_targets(whole), 1)

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """The sum of each number over all processes, the same in each."""
        return [float(number) for number in numbers]

    def totals(self, metrics: MetricSums, *numbers: float) -> tuple[Any, ...]:
        """The sums over all processes of metrics, whose names are the same in each, and of some numbers."""
        flat = [each for sums in metrics.values() for each in sums]
        total = self.sums([*flat, *numbers])
        pairs = zip(total[: len(flat) : 2], total[1 : len(flat) : 2], strict=True)
        return dict(zip(metrics, pairs, strict=True)), *total[len(flat) :]

    def any(self, flag: bool) -> bool:
        """Whether a flag is set in any process."""
        return self.sums([float(flag)])[0] > 0

    def first(self, number: float) -> float:
        """The number that process 0 has."""
        return self.sums([number if self.rank == 0 else 0.0])[0]

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes."""

    def gathered(self, thing: Thing) -> list[Thing]:
        """The things of all processes, in each, by rank."""
        return [thing]

    def collected(self, thing: Thing) -> list[Thing]:
        """The things of all processes by rank, in process 0; in the others an empty list."""
        return [thing]

    def wait(self) -> None:
        """Wait for all processes."""

    def leave(self) -> None:
        """End the work together."""


class Several(Group):
    """One of several processes, which `torchrun` or `accelerate launch` started.

    Where another one has ended, each exchange raises a `GroupEndedError`.
    """

    def __init__(self, state: Any) -> None:
        super().__init__(state.device)
        self.rank, self.size = int(state.process_index), int(state.num_processes)

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """The sum of each number over all processes, in float64."""
        total = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        with _exchanging():
            distributed.all_reduce(total)
        return [float(number) for number in total]

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes, in one exchange for each type of number.

        A parameter without a gradient here, such as that of a score without memories, counts as 0; it keeps none if
        it has none anywhere.
        """
        trained = list(parameters)
        has = self.sums([float(each.grad is not None) for each in trained])
        kinds: dict[torch.dtype, list[nn.Parameter]] = {}
        for each, count in zip(trained, has, strict=True):
            if count:
                kinds.setdefault(each.dtype, []).append(each)
        for group in kinds.values():
            parts = [torch.zeros_like(each) if each.grad is None else each.grad for each in group]
            flat = torch.cat([part.flatten() for part in parts])
            with _exchanging():
                distributed.all_reduce(flat)
            parts = torch.split(flat, [each.numel() for each in group])
            for each, total in zip(group, parts, strict=True):
                each.grad = total.view_as(each).clone()

    def gathered(self, thing: Thing) -> list[Thing]:
        """The things of all processes, in each, by rank."""
        found: list[Any] = [None] * self.size
        with _exchanging():
            distributed.all_gather_object(found, thing)
        return found

    def collected(self, thing: Thing) -> list[Thing]:
        """The things of all processes by rank, in process 0; in the others an empty list."""
        found: list[Any] | None = [None] * self.size if self.rank == 0 else None
        with _exchanging():
            distributed.gather_object(thing, found)
        return found or []

    def wait(self) -> None:
        """Wait for all processes."""
        self.sums([0.0])

    def leave(self) -> None:
        """Wait for all processes, and end the work together."""
        self.wait()
        distributed.destroy_process_group()


class GroupEndedError(OSError):
    """An exchange failed, as it does where another process of the group has ended, which says why itself."""


@contextmanager
def _exchanging(told: str = _NOTHING_CAME) -> Generator[None]:
    """Make a `GroupEndedError` of what PyTorch says of its sockets where an exchange fails.

    Args:
        told: begins the message.
    """
    try:
        yield
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
        raise GroupEndedError(f"{told} ({reason:.200})") from error


def started() -> int:
    """The number of processes that were started together.

    Raises:
        ValueError: the environment says something else.
    """
    given = os.environ.get("WORLD_SIZE") or "1"
    if not given.isdecimal() or int(given) < 1:
        raise ValueError(f"WORLD_SIZE must be the number of processes, at least 1, got {given!r}; {_UNSET}")
    return int(given)


def check_alone(verb: str) -> None:
    """Refuse to do in each of several processes what is to be done once.

    Raises:
        ValueError: several processes were started.
    """
    if (number := started()) > 1:
        told = f"{verb} runs in one process, and train alone in several"
        raise ValueError(f"WORLD_SIZE must be 1, got {number}: {told}; {_UNSET}")


def is_first() -> bool:
    """Whether this process was started alone, or as the first of several: the one that writes and speaks."""
    return started() < 2 or os.environ.get("RANK") == "0"


def end_process(status: int) -> None:
    """End a process that was started with others, whose work is done and written.

    In an ordinary exit, gloo's threads abort the process if another one has ended a moment before.
    """
    if started() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def check_divides(batch_size: int) -> None:
    """Refuse a batch that cannot be divided, in each process before it waits for the others.

    Raises:
        ValueError: the processes would have unequal numbers of rows.
    """
    if batch_size % started():
        raise ValueError(f"batch_size must be divisible by {started()}, the number of processes, got {batch_size}")


def join(device: str) -> Group:
    """The group that this process was started in, or this process alone.

    Args:
        device: the option of a run. With "auto" each process of a machine has a GPU of its own, if there are GPUs.

    Raises:
        ValueError: there is no such device here, several processes are given the same GPU, or the environment lacks
            what they need to find each other.
        GroupEndedError: they do not find each other.
        ImportError: several processes were started, and accelerate is missing.
    """
    if started() < 2:
        return Group(choose_device(device))
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]:
        raise ValueError(
            f"WORLD_SIZE must be 1 without {', '.join(missing)}, got {started()}: torchrun and accelerate launch set "
            f"them all; {_UNSET}"
        )
    try:
        from accelerate import PartialState
    except ImportError as error:
        needed = 'training in several processes needs accelerate: pip install "reminding[distributed]"'
        raise ImportError(needed) from error
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda for several processes, got {device}")
    cpu = choose_device(device).type == "cpu"
    restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    with _exchanging(_RESTARTED if restarted else _NOTHING_CAME):
        return Several(PartialState(cpu=cpu))


def apart(state: StreamState, group: Group, batch_size: int) -> StreamState:
    """The state of a process's own streams, from that of all; the number of processes may be another than before."""
    rows = group.rows(batch_size)
    if isinstance(state, SABState):
        return own_rows(state, rows, ended=group.rank == 0)
    return state.rows(rows)


def joined(states: Sequence[StreamState | None]) -> StreamState | None:
    """The state of all streams, from those of the processes by rank; None if there are no streams."""
    if len(states) == 1:
        return states[0]
    if isinstance(states[0], SABState):
        return merge_states([each for each in states if isinstance(each, SABState)])
    parts = [each for each in states if isinstance(each, CarriedState)]
    return carried.join_rows(parts) if parts else None
