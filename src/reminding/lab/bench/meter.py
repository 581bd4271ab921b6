"""How one figure is taken: the time of a training step, and the most memory it held.

Time is taken in this process, contestants in turn, so that a busy moment of the machine falls on all of them.

Memory is taken in a fresh process a contestant: the largest resident set during one training step, less the resident
set just before it. Counted is what the step allocates: outputs, what is kept for the backward pass, the loops' own
scratch, gradients of parameters. Not counted are parameters and input, which were there before, nor library buffers,
which a step on the first few time steps has set up.
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
"""Gets a line on what is being measured, whenever that changes."""

WARM_UP_STEPS = 8
"""Time steps of the training step that sets up library buffers before memory is taken."""


@dataclass(frozen=True)
class Lap:
    """Seconds of one training step, of the clock and of the processor, all threads together."""

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
    """Time each step once a repetition, in turn, after each has run once."""
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
    """What one training step took in a process of its own: peak bytes (None: the system does not tell), seconds."""

    peak_bytes: int | None
    seconds: float


def peak_bytes(action: Callable[[], object]) -> int | None:
    """How far the process's resident set rises above its present level while `action` runs, in bytes.

    Linux forgets its high-water mark on request (proc(5), clear_refs), so that this is exact to a few pages a core.
    Elsewhere the mark of the whole process serves, and memory that was once used and freed before hides as much.

    Returns:
        None where the system does not tell.
    """
    gc.collect()
    _give_back_freed()
    read = _high_water if _forget_high_water() else peak_resident_bytes
    before = read()
    action()
    after = read()
    return None if before is None or after is None else after - before


def _forget_high_water() -> bool:
    """Set VmHWM to the present resident set; False where there is no such thing."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _high_water() -> int:
    return _status("VmHWM")


def _status(name: str) -> int:
    """A figure of this process in bytes, as Linux keeps it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _give_back_freed() -> None:
    """Return freed memory to the system: what stays with the process would serve the step and not be seen."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None  # glibc has it
    if trim is not None:
        trim(0)


def cost_in_own_process(name: Name, size: Size, options: BenchOptions) -> Cost | Refusal:
    """Run one training step in a fresh process and say what it took.

    Returns:
        a Refusal where it would take more than options.max_gigabytes, takes more than options.max_seconds, or fails.
    """
    return in_own_process(partial(_cost, name, size, options), options.max_seconds)


def _cost(name: Name, size: Size, options: BenchOptions) -> Cost | Refusal:
    """The fresh process: one short step, then the one that is measured."""
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
    """Let this process allocate so much more and no further: beyond it PyTorch raises instead of filling the machine.

    Does nothing where the system has no such limit.
    """
    try:
        import resource

        room = _status("VmData") + int(gigabytes * 1e9)
    except (ImportError, OSError):
        return
    resource.setrlimit(resource.RLIMIT_DATA, (room, resource.getrlimit(resource.RLIMIT_DATA)[1]))
