"""What numbers too small for a normal float cost an LSTM whose gradient vanishes.

    OMP_NUM_THREADS=1 python benchmarks/subnormals.py --out results/bench/subnormal

A loss at the last of 784 steps, one feature a step, 32 rows: permuted MNIST's shapes, random input, initial weights.
Forward and backward of `nn.LSTM` (H=156) and of SAB (H=128, k_trunc = k_att = 14), with such numbers computed and
flushed to 0, in turns; medians of processor time. Writes measured.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reminding import SAB
from reminding.lab.runs.machine import environment, subnormals_flushed

STEPS, ROWS, TURNS = 784, 32, 5


def update(model: nn.Module, x: torch.Tensor) -> float:
    """Milliseconds of processor time of a forward and a backward pass."""
    began = time.process_time()
    model(x)[0][-1].square().mean().backward()
    model.zero_grad()
    return 1000 * (time.process_time() - began)


def measure() -> list[dict[str, Any]]:
    """A row for each model, with and without flushing."""
    torch.manual_seed(0)
    x = torch.rand(STEPS, ROWS, 1)
    models = {"nn.LSTM": nn.LSTM(1, 156), "SAB": SAB(1, 128, k_trunc=14, k_att=14)}
    ways = {"computed": nullcontext, "flushed": subnormals_flushed}
    times: dict[tuple[str, str], list[float]] = {(name, way): [] for name in models for way in ways}
    for turn in range(TURNS + 1):
        for (name, way), taken in times.items():
            with ways[way]():
                ms = update(models[name], x)
            if turn > 0:  # the first turn warms up
                taken.append(ms)
    return [{"model": name, "subnormal": way, "ms": statistics.median(ms)} for (name, way), ms in times.items()]


def main() -> None:
    """Measure, show, and write measured.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure()
    for row in rows:
        print(f"{row['model']}, subnormal numbers {row['subnormal']}: {row['ms']:.0f} ms")
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"command": " ".join(["python", *sys.argv]), "rows": rows, **environment()}
    (options.out / "measured.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
