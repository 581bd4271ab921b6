"""What one training step costs beside `nn.LSTM` with full BPTT: CPU time, in one run, interleaved, as ratios.

    python benchmarks/training_step.py --T 100 400 --out results/training-step

Prints the table and writes measured.json. Forward and backward, a loss at every step, the input needs no gradient;
the ratio is the median over repetitions of SAB's CPU time over nn.LSTM's in the same repetition.

Shapes: B batch, T time, I input, H hidden.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reminding import SAB
from reminding.lab.trainer import environment

Step = Callable[[], None]


def training_step(module: nn.Module, x: Tensor, direction: Tensor) -> Step:
    """Forward, a loss at every step, backward."""

    def step() -> None:
        module.zero_grad(set_to_none=True)
        (module(x)[0] * direction).sum().backward()

    return step


def cpu_seconds(step: Step) -> float:
    """CPU time of one call, all threads together."""
    began = time.process_time()
    step()
    return time.process_time() - began


def compare(steps: dict[str, Step], repetitions: int) -> dict[str, list[float]]:
    """CPU seconds of each step, taken in turn so that a busy moment falls on all of them."""
    for step in steps.values():
        step()
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repetitions):
        for name, step in steps.items():
            taken[name].append(cpu_seconds(step))
    return taken


def contestants(options: argparse.Namespace, steps: int) -> dict[str, Step]:
    """The training steps to compare, "nn.LSTM" first."""
    torch.manual_seed(0)
    x = torch.randn(steps, options.B, options.I)
    direction = torch.randn(steps, options.B, options.H)
    size = (options.I, options.H)
    segments: dict[str, Any] = {"k_top": 5, "k_att": 2, "k_trunc": 5, "normalizer": options.normalizer}
    modules: dict[str, nn.Module] = {"nn.LSTM": nn.LSTM(*size)}
    for score in ("additive", "dot", "separable"):
        modules[score] = SAB(*size, score=score, engine="autograd", **segments)
    modules["additive, replay"] = SAB(*size, engine="replay", **segments)
    if steps <= options.reference_to:
        modules["additive, reference"] = SAB(*size, backend="reference", **segments)
    return {name: training_step(module, x, direction) for name, module in modules.items()}


def measure(options: argparse.Namespace, steps: int) -> dict[str, float]:
    """Median ratio to nn.LSTM of each contestant, and nn.LSTM's own milliseconds."""
    taken = compare(contestants(options, steps), options.repetitions)
    base = taken.pop("nn.LSTM")
    ratios = {
        name: statistics.median(one / other for one, other in zip(mine, base, strict=True))
        for name, mine in taken.items()
    }
    return {"nn.LSTM, ms": 1000 * statistics.median(base), **ratios}


def table(results: dict[int, dict[str, float]]) -> str:
    """Rows of contestants, columns of lengths."""
    names = list(dict.fromkeys(name for result in results.values() for name in result))
    lines = ["| | " + " | ".join(f"T={steps}" for steps in results) + " |", "|---" * (len(results) + 1) + "|"]
    for name in names:
        cells = [f"{result[name]:.2f}" if name in result else "-" for result in results.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--T", type=int, nargs="+", default=[100, 400], help="lengths, steps")
    parser.add_argument("--B", type=int, default=64, help="batch size")
    parser.add_argument("--H", type=int, default=128, help="hidden size")
    parser.add_argument("--I", type=int, default=128, help="input features")
    parser.add_argument("--normalizer", default="threshold")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--reference-to", type=int, default=100, help="longest T for the plain autograd loop, steps")
    parser.add_argument("--out", type=Path, default=None, help="folder for measured.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = {steps: measure(options, steps) for steps in options.T}
    print(table(results))
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        command = " ".join(["python", *sys.argv])
        record = {"command": command, "results": results, "options": {**vars(options), "out": None}, **environment()}
        (options.out / "measured.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
