"""What training on a stream costs, chunk by chunk with the state carried, beside `nn.LSTM` doing the same.

Shapes: B batch, T steps of a chunk, I input, H hidden.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast, get_args

import torch
from torch import Tensor, nn

from reminding.checks import at_least, one_or_more, require
from reminding.lab.bench.contestants import build_sab
from reminding.lab.bench.measurement import Measurement, shown
from reminding.lab.bench.meter import Tell
from reminding.lab.bench.options import BASE, Normalizer, Size, StepOptions, in_order
from reminding.lab.runs.machine import processor
from reminding.lab.show.tables import Table
from reminding.nn import SABState
from reminding.nn.tbptt import detached

StreamName = Literal["lstm", "sab", "sab-within"]
STREAM_NAMES: tuple[StreamName, ...] = get_args(StreamName)
LABELS: dict[StreamName, str] = {
    "lstm": "nn.LSTM",
    "sab": "SAB, credit into earlier chunks",
    "sab-within": "SAB, credit within the chunk",
}


@dataclass(frozen=True)
class StreamOptions(StepOptions):
    """What to measure: training on a stream, one backward pass a chunk.

    Args:
        T: steps of a chunk.
        layers: numbers of stacked layers.
        credit_every: every how many chunks credit is sent into earlier ones; each value is a contestant.
        models: contestants. lstm: nn.LSTM, its state detached between chunks, always measured; sab: SAB whose credit
            crosses the borders of chunks; sab-within: SAB with horizon 0.
        capacity: memories per row.
        repetitions: of each time; a repetition is as many chunks as the values of credit_every have in common.
        threads: CPU threads. Ratios are of CPU time with one thread, of wall time with more.
    """

    names: ClassVar[tuple[str, ...]] = STREAM_NAMES
    counts: ClassVar[tuple[str, ...]] = ("T", "B", "H", *StepOptions.counts, "capacity", "threads")

    T: int = 100
    B: int = 8
    H: int = 64
    I: int = 64  # noqa: E741
    k_att: int = 10
    k_trunc: int = 10
    normalizer: Normalizer = "softmax1"
    dtype: Literal["float32", "float64"] = "float32"
    models: tuple[StreamName, ...] = STREAM_NAMES
    layers: tuple[int, ...] = (1, 2, 3)
    credit_every: tuple[int, ...] = (1, 10)
    capacity: int = 64
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse options that cannot be measured; see `StepOptions`."""
        super().__post_init__()
        for name in ("layers", "credit_every"):
            one_or_more(name, cast("tuple[int, ...]", getattr(self, name)))
        at_least("capacity", self.capacity, self.k_top)
        require(self.device == "cpu", "device", "be 'cpu'", self.device)

    @property
    def block(self) -> int:
        """Chunks of a repetition: each value of credit_every sends credit on as often as it should."""
        return math.lcm(*self.credit_every)

    @property
    def warm_up(self) -> int:
        """Chunks before the first that is timed: a full memory, and a whole block more."""
        full = -(-self.capacity * self.k_att // self.T)
        return -(-full // self.block) * self.block + self.block

    def contestants(self) -> list[Trial]:
        """Who takes part."""
        chosen = in_order(STREAM_NAMES, self.models)
        every = {"lstm": (None,), "sab": self.credit_every, "sab-within": (None,)}
        return [Trial(name, each) for name in chosen for each in every[name]]


@dataclass(frozen=True)
class Trial:
    """A contestant, and every how many chunks its credit is sent on; None where none is."""

    name: StreamName
    credit_every: int | None

    def __str__(self) -> str:
        return LABELS[self.name] + ("" if self.credit_every is None else f", every {self.credit_every}")


class Stream:
    """A contestant on its stream: the module, and the state that it carries from chunk to chunk."""

    def __init__(self, trial: Trial, layers: int, options: StreamOptions) -> None:
        torch.manual_seed(options.seed)
        self.module = _build(trial, layers, options)
        self.state: Any = None

    def learn(self, input: Tensor, d_output: Tensor) -> None:
        """Forward and backward pass over a chunk; no optimizer."""
        self.module.zero_grad(set_to_none=True)
        output, state = self.module(input, self.state)
        output.backward(d_output)
        self.state = state if isinstance(state, SABState) else detached(state)


def _build(trial: Trial, layers: int, options: StreamOptions) -> nn.Module:
    if trial.name == "lstm":
        return nn.LSTM(options.I, options.H, layers, dtype=getattr(torch, options.dtype))
    size = Size(options.T, options.B, options.I, options.H)
    horizon = 0 if trial.name == "sab-within" else None
    every = trial.credit_every or 1
    return build_sab(
        size,
        options,
        num_layers=layers,
        capacity=options.capacity,
        horizon=horizon,
        credit_every=every,
        backend="cpu",
    )


@dataclass(frozen=True)
class StreamRow:
    """The cost of one contestant.

    Args:
        ms: milliseconds of a chunk, of each repetition.
        ratios: to nn.LSTM's in the same repetition.
        state_bytes: what its state takes at the end, its past included; None for nn.LSTM.
        skipped: why it was not measured.
    """

    trial: Trial
    layers: int
    ms: tuple[float, ...] = ()
    ratios: tuple[float, ...] = ()
    state_bytes: int | None = None
    skipped: str | None = None


def in_words(layers: int) -> str:
    """A number of layers."""
    return f"{layers} layer{'s' * (layers > 1)}"


def measure(options: StreamOptions, tell: Tell) -> Iterator[StreamRow]:
    """Take all figures, one number of layers after the other; the contestants take turns."""
    torch.set_num_threads(options.threads)
    for layers in options.layers:
        yield from _measure_layers(layers, options, tell)


def _measure_layers(layers: int, options: StreamOptions, tell: Tell) -> Iterator[StreamRow]:
    streams: dict[Trial, Stream] = {}
    for trial in options.contestants():
        try:
            streams[trial] = Stream(trial, layers, options)
        except ValueError as error:
            yield StreamRow(trial, layers, skipped=str(error))
    generator = torch.Generator().manual_seed(options.seed)
    shape = (options.T, options.B, options.I)
    kind: dict[str, Any] = {"generator": generator, "dtype": getattr(torch, options.dtype)}
    inputs = [torch.randn(shape, **kind) for _ in range(options.block)]
    d_output = torch.randn(options.T, options.B, options.H, **kind)
    blocks = options.warm_up // options.block
    taken: dict[Trial, list[float]] = {trial: [] for trial in streams}
    for number in range(-blocks, options.repetitions):
        for trial, stream in streams.items():
            tell(f"{in_words(layers)}, repetition {max(number + 1, 0)} of {options.repetitions}: {trial}")
            seconds = _time_block(stream, inputs, d_output, options.threads)
            if number >= 0:
                taken[trial].append(1000 * seconds / options.block)
    base = next(taken[trial] for trial in streams if trial.name == BASE)
    for trial, stream in streams.items():
        ratios = tuple(mine / its for mine, its in zip(taken[trial], base, strict=True))
        held = stream.state.nbytes if isinstance(stream.state, SABState) else None
        yield StreamRow(trial, layers, tuple(taken[trial]), ratios, held)


def _time_block(stream: Stream, inputs: Sequence[Tensor], d_output: Tensor, threads: int) -> float:
    """Seconds of a block of chunks."""
    clock = time.process_time if threads == 1 else time.perf_counter
    began = clock()
    for input in inputs:
        stream.learn(input, d_output)
    return clock() - began


@dataclass(frozen=True)
class StreamMeasurement(Measurement):
    """The figures of one run."""

    heading: ClassVar[str] = "Training on a stream beside `nn.LSTM`"

    options: StreamOptions
    rows: Sequence[StreamRow]

    def setting(self) -> list[str]:
        """What all figures have in common, and the processor."""
        options = self.options
        names = ("T", "B", "I", "H", "k_top", "k_att", "k_trunc", "capacity", "normalizer", "dtype", "threads")
        blocks = f"medians of {options.repetitions} repetitions of {options.block} chunks"
        return [f"{', '.join([*options.described(names), blocks])}; {processor()}."]

    def tables(self) -> list[Table]:
        """One table for all numbers of layers: milliseconds of a chunk and their ratio, and the state's size."""
        clock = "CPU" if self.options.threads == 1 else "Wall-clock"
        columns = ["", *map(in_words, self.options.layers)]
        notes = [
            f"{row.trial}, {in_words(row.layers)}: {row.skipped}" for row in self.rows if row.skipped is not None
        ]
        time = Table(f"{clock} time of a chunk, ms (ratio to nn.LSTM)", columns, self._cells(_time_shown), notes)
        return [time, Table("The state with its past, MB", columns, self._cells(_size_shown))]

    def _cells(self, cell: Any) -> list[list[str]]:
        found = {(row.trial, row.layers): cell(row) for row in self.rows}
        return [
            [str(trial), *(found.get((trial, layers), "-") for layers in self.options.layers)]
            for trial in self.options.contestants()
        ]

    def results(self) -> dict[str, Any]:
        """Every repetition of each row, and the processor."""
        rows = [dataclasses.asdict(row) for row in self.rows]
        return {"kind": "stream", "rows": rows, "processor": processor()}


def _time_shown(row: StreamRow) -> str:
    if not row.ms:
        return "-"
    return f"{shown(statistics.median(row.ms))} ({shown(statistics.median(row.ratios))})"


def _size_shown(row: StreamRow) -> str:
    return shown(None if row.state_bytes is None else row.state_bytes / 1e6)
