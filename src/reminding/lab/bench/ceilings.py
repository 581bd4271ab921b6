"""The highest rates of a device, measured: the ceilings from which `floor` computes the least times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from reminding.lab.bench.floor import Ceilings

COPIED = 2**29
"""Elements of the copy that measures DRAM: 2 GiB, many times the size of any cache."""
SIDE = 4096
"""Rows and columns of the matrices whose product measures arithmetic."""
BUFFER = 2**18
"""Elements of the buffer that measures L2: 1 MiB, more than a multiprocessor's own cache and less than L2."""
READERS = 4096
"""How many times the buffer is read at once."""
REPETITIONS = 10


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
