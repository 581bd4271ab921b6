"""How one figure is taken: the time of a training step, and its peak memory.

Times are taken in this process. Contestants take turns, so that other load on the machine falls on all of them.

Memory is measured in a fresh process per contestant: the largest resident set during one training step, minus the
resident set just before. This counts what the step allocates: outputs, tensors kept for the backward pass, scratch
space, and the parameters' gradients. It does not count parameters and input, which exist before, nor the buffers of
libraries, which a short step sets up beforehand.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from reminding.lab.bench.contestants import Problem, TrainingStep, build
from reminding.lab.bench.options import BenchOptions, Loss, Name, Size
from reminding.lab.bench.process import Refusal, in_own_process
from reminding.lab.runs.machine import peak_resident_bytes

Trial = tuple[Name, Loss]
Tell = Callable[[str], None]
"""Called with a line about what is being measured, whenever that changes."""

NO_LIMIT = 1e9
"""Gigabytes from which a limit is none: the system counts bytes in 63 bits."""
WARM_UP_STEPS = 8
"""Time steps of the short training step that sets up the buffers of libraries."""


@dataclass(frozen=True)
class Lap:
    """The time of one training step: wall time and CPU time of all threads together, seconds."""

    forward_wall: float
    backward_wall: float
    forward_cpu: float
    backward_cpu: float


def lap(step: TrainingStep) -> Lap:
    """Time one training step."""
    step.clear()
    wall, cpu = time.perf_counter(), time.process_time()
    output = step.forward()
    half_wall, half_cpu = time.perf_counter(), time.process_time()
    step.backward(output)
    end_wall, end_cpu = time.perf_counter(), time.process_time()
    return Lap(half_wall - wall, end_wall - half_wall, half_cpu - cpu, end_cpu - half_cpu)


def interleaved(steps: Mapping[Trial, TrainingStep], repetitions: int, tell: Tell) -> dict[Trial, list[Lap]]:
    """Time every step once per repetition, in turn. Each runs once before, to warm up."""
    for (name, loss), step in steps.items():
        tell(f"warming up {name}, loss {loss}")
        step.run()
    laps: dict[Trial, list[Lap]] = {trial: [] for trial in steps}
    for number in range(1, repetitions + 1):
        for (name, loss), step in steps.items():
            tell(f"repetition {number} of {repetitions}, {name}, loss {loss}")
            laps[name, loss].append(lap(step))
    return laps


@dataclass(frozen=True)
class Cost:
    """The cost of one training step in a process of its own: peak bytes (None: not reported), and seconds."""

    peak_bytes: int | None
    seconds: float


def peak_bytes(action: Callable[[], object]) -> int | None:
    """The rise of the process's resident set while `action` runs, bytes.

    Linux resets its high-water mark on request (proc(5), clear_refs), so that the figure is exact to a few pages per
    core. Other systems only know the mark of the whole process, which hides a rise up to an earlier peak.

    Returns:
        None where the system reports no peak.
    """
    gc.collect()
    _release_freed()
    read = _high_water if _reset_high_water() else peak_resident_bytes
    before = read()
    action()
    after = read()
    return None if before is None or after is None else after - before


def _reset_high_water() -> bool:
    """Set VmHWM to the present resident set; False if the system has no such mark."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _high_water() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    """A figure of this process from /proc/self/status, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _release_freed() -> None:
    """Return freed memory to the system. The step could reuse memory that the process still holds, without a rise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None  # glibc has it
    if trim is not None:
        trim(0)


def cost_in_own_process(name: Name, size: Size, options: BenchOptions) -> Cost | Refusal:
    """Run one training step in a fresh process and measure it.

    Returns:
        a Refusal if the step needs more than options.max_gigabytes or options.max_seconds, or fails.
    """
    return in_own_process(partial(_cost, name, size, options), options.max_seconds)


def _cost(name: Name, size: Size, options: BenchOptions) -> Cost | Refusal:
    """Runs in the fresh process: one short step, then the measured one."""
    torch.set_num_threads(options.threads)
    problem = Problem.random(size, options)
    module = build(name, size, options)
    TrainingStep(module, problem.beginning(WARM_UP_STEPS), "everywhere").run()
    module.zero_grad(set_to_none=True)
    step = TrainingStep(module, problem, options.loss)
    laps: list[Lap] = []
    limit_memory(options.max_gigabytes)
    try:
        peak = peak_bytes(lambda: laps.append(lap(step)))
    except (RuntimeError, MemoryError) as error:
        return Refusal(_reason(error, options))
    return Cost(peak, laps[0].forward_wall + laps[0].backward_wall)


def _reason(error: Exception, options: BenchOptions) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, MemoryError) or "alloc" in text:
        return f"it needs more than {options.max_gigabytes:g} GB"
    return f"it failed: {text}"


def limit_memory(gigabytes: float) -> None:
    """Limit how much more memory this process may allocate; beyond the limit PyTorch raises an error.

    Does nothing where the system has no such limit, or the limit is more than any machine has.
    """
    if gigabytes >= NO_LIMIT:
        return
    try:
        import resource

        most = _status("VmData") + int(gigabytes * 1e9)
    except (ImportError, OSError):
        return
    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))
