"""What one step a call costs without gradient, in streams that hold all the memories they may.

Shapes: B batch, I input, H hidden.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import nn

from reminding.checks import one_or_more, require
from reminding.lab.bench.contestants import build_sab
from reminding.lab.bench.measurement import Measurement, shown
from reminding.lab.bench.meter import Tell
from reminding.lab.bench.options import BASE, Normalizer, Size, StepOptions, in_order
from reminding.lab.runs.machine import processor
from reminding.lab.show.tables import Table

ServeName = Literal["lstm", "sab-additive", "sab-dot", "sab-separable", "sab-additive-call"]
SERVE_NAMES: tuple[ServeName, ...] = get_args(ServeName)
LABELS: dict[str, str] = {
    "lstm": "nn.LSTM",
    "sab-additive": "SAB additive, stepper",
    "sab-dot": "SAB dot, stepper",
    "sab-separable": "SAB separable, stepper",
    "sab-additive-call": "SAB additive, calls",
}
WARM_UP_CALLS = 20
Call = Callable[[], object]


@dataclass(frozen=True)
class ServeOptions(StepOptions):
    """What to measure with --kind serve.

    Args:
        kind: serve: one step a call, without gradient.
        B: batch sizes, streams.
        H: hidden size, features.
        memories: memories that each row holds; it is the capacity.
        calls: calls that are timed together, a lap.
        models: contestants. lstm: nn.LSTM called with one step, always measured; sab-SCORE: SAB by its stepper;
            sab-additive-call: SAB called with one step and the last call's state.
        repetitions: laps of each contestant; they take turns, and medians are reported.
        threads: CPU threads. Ratios are of CPU time with one thread, of wall time with more.
    """

    names: ClassVar[tuple[str, ...]] = SERVE_NAMES
    counts: ClassVar[tuple[str, ...]] = (*StepOptions.counts, "H", "memories", "calls", "threads")

    kind: Literal["serve"] = "serve"
    B: tuple[int, ...] = (1, 32)
    H: int = 64
    I: int = 64  # noqa: E741
    k_att: int = 10
    k_trunc: int = 10
    normalizer: Normalizer = "softmax1"
    dtype: Literal["float32", "float64"] = "float32"
    models: tuple[ServeName, ...] = SERVE_NAMES
    repetitions: int = 21
    memories: int = 512
    calls: int = 100
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse options that cannot be measured; see `StepOptions`."""
        super().__post_init__()
        one_or_more("B", self.B)
        require(self.device == "cpu", "device", "be 'cpu'", self.device)

    @property
    def contestants(self) -> tuple[ServeName, ...]:
        """The chosen contestants and `lstm`."""
        return in_order(SERVE_NAMES, self.models)


@dataclass(frozen=True)
class CallCost:
    """The time of a call, microseconds: one figure a lap.

    Args:
        cpu_us: CPU time of all threads; wall_us: wall time.
    """

    cpu_us: list[float]
    wall_us: list[float]


@dataclass(frozen=True)
class ServePoint:
    """The figures of one batch size.

    Args:
        skipped: contestant -> why it was not measured.
    """

    rows: int
    measured: dict[str, CallCost]
    skipped: dict[str, str] = field(default_factory=dict[str, str])


def measure(options: ServeOptions, tell: Tell) -> Iterator[ServePoint]:
    """Take all figures, batch size by batch size; sets PyTorch's number of threads."""
    torch.set_num_threads(options.threads)
    for rows in options.B:
        tell(f"B={rows}: filling the memories")
        calls: dict[str, Call] = {}
        skipped: dict[str, str] = {}
        with torch.no_grad():
            for name in options.contestants:
                try:
                    calls[name] = prepared(name, rows, options)
                except ValueError as error:
                    skipped[name] = str(error)
            costs = _timed(calls, options, lambda text, rows=rows: tell(f"B={rows}: {text}"))
        yield ServePoint(rows, costs, skipped)


def prepared(name: str, rows: int, options: ServeOptions) -> Call:
    """One step of streams whose memories are full.

    Raises:
        ValueError: the contestant cannot run here; the message says why.
    """
    torch.manual_seed(options.seed)
    kind: Any = getattr(torch, options.dtype)
    x = torch.randn(1, rows, options.I, dtype=kind)
    if name == BASE:
        return _carried(nn.LSTM(options.I, options.H, dtype=kind), x, None)
    score = name.split("-")[1]
    size = Size(1, rows, options.I, options.H)
    layer: Any = build_sab(size, options, score=score, capacity=options.memories, backend="cpu")
    state: Any = None
    for _ in range(options.memories):
        _, state = layer(torch.randn(options.k_att, rows, options.I, dtype=kind), state)
    if name.endswith("-call"):
        return _carried(layer, x, state)
    stepper, x_t = layer.stepper(state), x[0]
    return lambda: stepper(x_t)


def _carried(layer: Any, x: torch.Tensor, state: Any) -> Call:
    """A call with the state that the last one returned."""

    def call() -> None:
        nonlocal state
        _, state = layer(x, state)

    return call


def _timed(calls: dict[str, Call], options: ServeOptions, tell: Tell) -> dict[str, CallCost]:
    """Laps of all contestants, in turn."""
    costs = {name: CallCost([], []) for name in calls}
    for call in calls.values():
        for _ in range(WARM_UP_CALLS):
            call()
    for number in range(1, options.repetitions + 1):
        for name, call in calls.items():
            tell(f"repetition {number} of {options.repetitions}, {name}")
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(options.calls):
                call()
            end, end_cpu = time.perf_counter(), time.process_time()
            costs[name].cpu_us.append(1e6 * (end_cpu - cpu) / options.calls)
            costs[name].wall_us.append(1e6 * (end - wall) / options.calls)
    return costs


@dataclass(frozen=True)
class ServeMeasurement(Measurement):
    """The figures of one run, one point for each batch size."""

    heading: ClassVar[str] = "One step a call beside `nn.LSTM`"

    options: ServeOptions
    points: list[ServePoint]

    @property
    def clock(self) -> str:
        """The clock that is reported: with one thread CPU time, which other processes disturb less."""
        return "cpu_us" if self.options.threads == 1 else "wall_us"

    def setting(self) -> list[str]:
        """What all figures have in common, and the processor."""
        names = ("H", "I", "memories", "k_top", "k_att", "k_trunc", "normalizer", "dtype", "threads", "repetitions")
        return [f"{', '.join(self.options.described(names))}, {self.options.calls} calls each; {processor()}."]

    def tables(self) -> list[Table]:
        """Time of a call, and its ratio."""
        clock = {"cpu_us": "CPU", "wall_us": "Wall-clock"}[self.clock]
        rows = [
            [LABELS[name], *(self._cell(point, name) for point in self.points)] for name in self.options.contestants
        ]
        columns = ["", *(f"B={point.rows}" for point in self.points)]
        return [Table(f"{clock} time of a call with one step, us (ratio to nn.LSTM)", columns, rows)]

    def left_out(self) -> list[str]:
        """A line for each contestant that was not measured."""
        return [
            f"{LABELS[name]}, B={point.rows}: {reason}"
            for point in self.points
            for name, reason in point.skipped.items()
        ]

    def _cell(self, point: ServePoint, name: str) -> str:
        if name in point.skipped:
            return "-"
        laps: list[float] = getattr(point.measured[name], self.clock)
        return f"{shown(statistics.median(laps))} ({self.ratio(point, name):.2f})"

    def ratio(self, point: ServePoint, name: str) -> float:
        """The median, over repetitions, of a call's time to nn.LSTM's."""
        laps, base = (getattr(point.measured[each], self.clock) for each in (name, BASE))
        return statistics.median(a / b for a, b in zip(laps, base, strict=True))

    def results(self) -> dict[str, Any]:
        """The microseconds of each lap, and the ratios."""
        points = [
            {**asdict(point), "ratio": {name: self.ratio(point, name) for name in point.measured}}
            for point in self.points
        ]
        return {"serve": points, "processor": processor()}
