"""The floor of a training step: the least time for its work at the rates that the device was measured to reach.

The work is that of one step forward and backward, by the algorithm as it runs: the LSTM's weights stay on chip, while
SAB's are read again at each step by one program per row. A time above the floor is thus the cost of a kernel, and a
floor above nn.LSTM's the cost of the algorithm. The rates are the ceilings, and are measured here.

Shapes: B batch, T time, I input, H hidden; the score's width D is H; M memories that a step scores, on average.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reminding.lab.bench.options import GpuOptions, Size

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
GATES = 4
"""Gates of an LSTM, each H wide."""
COPIED = 2**29
"""Elements of the copy that measures DRAM: 2 GiB, many times the size of any cache."""
SIDE = 4096
"""Rows and columns of the matrices whose product measures arithmetic."""
BUFFER = 2**18
"""Elements of the buffer that measures L2: 1 MiB, more than a multiprocessor's own cache and less than L2."""
READERS = 4096
"""How many times the buffer is read at once."""
REPETITIONS = 10


@dataclass(frozen=True)
class Work:
    """The work of a training step.

    Args:
        flops: operations; a multiply-add counts as two, a tanh as one.
        kind: PyTorch's name of the type that they are done in.
        dram_bytes: inputs, outputs and tensors kept for the backward pass, each written and read once.
        l2_bytes: weights and keys, counted each time they are read; 0 where they stay on chip.
    """

    flops: float
    kind: str
    dram_bytes: float
    l2_bytes: float


@dataclass(frozen=True)
class Ceilings:
    """The rates that the device was measured to reach, per second.

    Args:
        flops: operations of a large matrix product, by their type.
        dram_bytes: bytes read and written by a large copy.
        l2_bytes: bytes read by all multiprocessors together from a buffer that fits L2 and no smaller cache.
        multiprocessors: number of multiprocessors.
    """

    flops: dict[str, float]
    dram_bytes: float
    l2_bytes: float
    multiprocessors: int


@dataclass(frozen=True)
class Floor:
    """The time that each part of the work takes at its ceiling, milliseconds."""

    flops_ms: float
    dram_ms: float
    l2_ms: float

    @property
    def ms(self) -> float:
        """The time of the slowest part: at best all parts overlap."""
        return max(self.flops_ms, self.dram_ms, self.l2_ms)

    @property
    def bound(self) -> str:
        """The name of the slowest part."""
        parts = {"flops": self.flops_ms, "DRAM": self.dram_ms, "L2": self.l2_ms}
        return max(parts, key=lambda name: parts[name])


def floor(work: Work, ceilings: Ceilings, rows: int) -> Floor:
    """The least time of some work. A row runs on one multiprocessor: few rows get a share of L2's rate."""
    share = min(1.0, rows / ceilings.multiprocessors)
    return Floor(
        flops_ms=1000 * work.flops / ceilings.flops[work.kind],
        dram_ms=1000 * work.dram_bytes / ceilings.dram_bytes,
        l2_ms=1000 * work.l2_bytes / (ceilings.l2_bytes * share),
    )


def memories_scored(steps: int, k_att: int, capacity: int | None) -> float:
    """Memories that a step scores, on average over the first steps of a stream."""
    most = steps if capacity is None else capacity
    return sum(min((step - 1) // k_att, most) for step in range(1, steps + 1)) / steps


def lstm_work(size: Size, dtype: str) -> Work:
    """The work of nn.LSTM with full BPTT; its input needs no gradient."""
    steps, H = size.T * size.B, size.H
    width = BYTES[dtype]
    saved = (1 + GATES + 1) * H  # output, gates, c
    return Work(
        flops=steps * _cell_flops(size),
        kind=dtype,
        dram_bytes=steps * width * (2 * size.I + 2 * saved + H),
        l2_bytes=0.0,
    )


def _cell_flops(size: Size) -> float:
    """The products of one step: forward, back to h, and for the gradients of both weights."""
    both, recurrent = GATES * size.H * (size.I + size.H), GATES * size.H * size.H
    return 2 * (both + recurrent + both)


def sab_work(size: Size, options: GpuOptions) -> Work:
    """The work of SAB on the Triton kernels, one program per row. In half precision score and state are float32."""
    steps, H, K = size.T * size.B, size.H, options.k_top
    D = 0 if options.score == "separable" else H
    scored = memories_scored(size.T, options.k_att, options.capacity)
    kind = "float64" if options.dtype == "float64" else "float32"
    state, weight = BYTES[kind], BYTES[options.dtype]
    projections = D * H * (1 + 1 / options.k_att)  # a query for each step, a key for each stored state
    scoring = scored * {"additive": 4 * H, "dot": 2 * H, "separable": 3 * H}[options.score]
    recall = 3 * 2 * projections + scoring + 2 * K * H + K * (4 * H + 6 * max(D, 1))
    saved = (1 + 1 + 1 + GATES) * H + D + 2 * K  # output, summary, c, gates, query, slots and weights
    d_saved = GATES * H + D  # gradients of gates and queries, for the products at the end
    matrices = GATES * H * H + projections  # read once forward and once backward
    return Work(
        flops=steps * (_cell_flops(size) + recall),
        kind=kind,
        dram_bytes=steps * (state * (2 * saved + 2 * d_saved + H) + weight * 2 * size.I),
        l2_bytes=steps * (2 * weight * matrices + state * scored * H),
    )


def elapsed_seconds(action: Callable[[], object], device: torch.device) -> float:
    """Seconds that an action takes, by the clock of a CUDA device or by the wall clock."""
    if device.type != "cuda":
        begun = time.perf_counter()
        action()
        return time.perf_counter() - begun
    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        action()
        end.record()
        torch.cuda.synchronize(device)
    return start.elapsed_time(end) / 1000


def measure_ceilings(device: torch.device, dtype: str, scale: float = 1.0) -> Ceilings:
    """Measure the rates of a device; a scale below 1 shrinks the tensors."""
    kinds = dict.fromkeys((dtype, "float64" if dtype == "float64" else "float32"))
    side = max(int(SIDE * scale), 16)
    flops = {kind: 2 * side**3 / _best(_product(side, getattr(torch, kind), device), device) for kind in kinds}
    source = torch.zeros(max(int(COPIED * scale), 16), device=device)
    target = torch.empty_like(source)
    copy = _best(lambda: target.copy_(source), device)
    repeated = torch.ones(BUFFER, device=device).expand(max(int(READERS * scale), 1), BUFFER)
    read = _best(lambda: repeated.sum(1), device)
    count = int(properties(device).multi_processor_count) if device.type == "cuda" else 1
    return Ceilings(flops, 2 * 4 * source.numel() / copy, 4 * repeated.numel() / read, count)


def properties(device: torch.device) -> Any:
    """PyTorch's record of a CUDA device."""
    cuda: Any = torch.cuda
    return cuda.get_device_properties(device)


def _product(side: int, kind: torch.dtype, device: torch.device) -> Callable[[], Tensor]:
    a, b = (torch.ones(side, side, dtype=kind, device=device) for _ in range(2))
    return lambda: a @ b


def _best(action: Callable[[], object], device: torch.device) -> float:
    """The median time of an action, seconds. The least would be a rate that is reached by chance only."""
    action()
    return statistics.median(elapsed_seconds(action, device) for _ in range(REPETITIONS))
