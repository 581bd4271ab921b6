"""All figures of one run on a GPU. Each contestant and size has its own process: a failure costs one row."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from reminding.lab.bench.contestants import Problem, TrainingStep, build_sab
from reminding.lab.bench.floor import (
    Ceilings,
    Work,
    elapsed_seconds,
    lstm_work,
    measure_ceilings,
    properties,
    sab_work,
)
from reminding.lab.bench.meter import Tell
from reminding.lab.bench.options import GpuName, GpuOptions, Size
from reminding.lab.bench.process import Refusal, in_own_process

OUTGROWN = ("stopped", "it failed: OutOfMemoryError")
"""The beginnings of a refusal that a larger size would only repeat."""


@dataclass(frozen=True)
class Row:
    """The cost of one contestant at one size, or the reason why it was not measured.

    Args:
        forward_ms, backward_ms: times of each repetition, milliseconds on the device's clock.
        peak_bytes: peak memory of a training step, above that of the parameters and the input.
        skipped: the reason.
    """

    name: GpuName
    size: Size
    forward_ms: tuple[float, ...] = ()
    backward_ms: tuple[float, ...] = ()
    peak_bytes: int | None = None
    skipped: str | None = None


def require_device(options: GpuOptions) -> None:
    """Raise a ValueError unless the device exists."""
    if not torch.cuda.is_available():
        raise ValueError(
            f"--device {options.device} needs a CUDA device, and PyTorch {torch.__version__} finds none here; "
            "--device cpu measures on the CPU"
        )
    index = torch.device(options.device).index or 0
    if index >= torch.cuda.device_count():
        raise ValueError(f"there is no device {options.device!r}, only {torch.cuda.device_count()} CUDA devices")


def about(device: torch.device) -> dict[str, Any]:
    """The device, and the settings of its libraries that figures depend on."""
    known = properties(device)
    return {
        "name": known.name,
        "capability": f"{known.major}.{known.minor}",
        "multiprocessors": known.multi_processor_count,
        "bytes": known.total_memory,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }


def ceilings_of(options: GpuOptions) -> Ceilings | Refusal:
    """The device's ceilings, measured in a process of their own."""
    device = torch.device(options.device)
    return in_own_process(partial(measure_ceilings, device, options.dtype), options.max_seconds)


def measure(options: GpuOptions, tell: Tell) -> Iterator[Row]:
    """Take all figures, size by size."""
    outgrown: list[tuple[GpuName, Size]] = []
    for size in options.sizes():
        for name in options.contestants:
            tell(f"{size}: {name}")
            smaller = next((s for n, s in outgrown if n == name and s.T <= size.T and s.H <= size.H), None)
            if smaller is not None:
                yield Row(name, size, skipped=f"left out, as at {smaller}")
                continue
            outcome = in_own_process(partial(measure_row, name, size, options), 2 * options.max_seconds)
            if isinstance(outcome, Row):
                yield outcome
                continue
            if outcome.reason.startswith(OUTGROWN):
                outgrown.append((name, size))
            yield Row(name, size, skipped=outcome.reason)


def measure_row(name: GpuName, size: Size, options: GpuOptions, device: torch.device | None = None) -> Row:
    """Warm up, which compiles the kernels; then measure peak memory and time.

    There are fewer repetitions where all of them would exceed `max_seconds`.

    Args:
        device: in place of the one that the options name.
    """
    device = torch.device(options.device) if device is None else device
    step = TrainingStep(build(name, size, options, device), Problem.random(size, options, device))
    step.run()
    peak = _peak_bytes(step, device)
    first = _lap(step, device)
    most = int(min(options.repetitions, options.max_seconds / max(sum(first) / 1000, 1e-9)))
    laps = [first, *(_lap(step, device) for _ in range(most - 1))]
    return Row(name, size, tuple(lap[0] for lap in laps), tuple(lap[1] for lap in laps), peak)


def build(name: GpuName, size: Size, options: GpuOptions, device: torch.device) -> nn.Module:
    """A contestant's module, its parameters drawn from the seed.

    Raises:
        ValueError: the contestant cannot run here; the message says why.
    """
    torch.manual_seed(options.seed)
    if name == "lstm":
        return nn.LSTM(size.I, size.H, device=device, dtype=getattr(torch, options.dtype))
    backend = "reference" if name == "sab-reference" else "cuda"
    engine = "autograd" if name == "sab-cuda" else "replay"
    memory: dict[str, Any] = {"score": options.score, "capacity": options.capacity, "horizon": 0}
    return build_sab(size, options, **memory, backend=backend, engine=engine, device=device)


def work_of(name: GpuName, size: Size, options: GpuOptions) -> Work:
    """The work of a contestant's training step."""
    return lstm_work(size, options.dtype) if name == "lstm" else sab_work(size, options)


def _lap(step: TrainingStep, device: torch.device) -> tuple[float, float]:
    """Milliseconds of the forward and of the backward pass."""
    step.clear()
    outputs: list[Tensor] = []

    def forward() -> None:
        outputs.append(step.forward())

    def backward() -> None:
        step.backward(outputs.pop())

    return 1000 * elapsed_seconds(forward, device), 1000 * elapsed_seconds(backward, device)


def _peak_bytes(step: TrainingStep, device: torch.device) -> int | None:
    """The rise of allocated memory during one training step; None on a CPU."""
    step.clear()
    gc.collect()
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    step.run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before
