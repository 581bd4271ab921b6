"""How deep does credit hop? What sweeping all segments side by side would save of a backward pass, counted.

    python benchmarks/credit_levels.py --layers 1024 --runs runs/paper/copying/T100/sab-seed0

Segments depend on each other through memory credit alone: one can be swept once all those are that recalled a memory
of its. So segments at which chains of recalls of the same length end are of one level and could be swept at the same
time; a backward pass would take (levels x k_trunc) steps one after the other in the place of T. Levels are counted of
layers with their initial weights (normal input, k_top 5, k_att 4, k_trunc 16, hidden size 128), with a loss at every
step and at the last, and of trained models on their own task. Writes measured.json.

Shapes: T time, B batch, K recalled memories.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reminding.disk.records import write_json
from reminding.lab.runs.checkpoint import load_run
from reminding.lab.runs.machine import environment
from reminding.lab.train.effort import recalls, steps_with_loss
from reminding.nn import SAB

ROWS = 8
"""Sequences that a count is a mean over."""
SEED = 0


def levels_of(
    step: NDArray[np.int64], lent: NDArray[np.bool_], wanted: NDArray[np.bool_], k_trunc: int
) -> dict[str, float]:
    """How the backward pass hangs together, means over rows.

    Args:
        step: the step that each recalled memory was stored at, counted from 1, (T, B, K); lent: whether the gradient
            goes to it, (T, B, K); wanted: whether a step has a loss, (T, B).

    Returns:
        "segments" of a row; how many of them the gradient "reached"; "levels" they can be swept in, one after the
        other; "sweeps", how many times segments would be swept if none waited for its credit to be complete: all
        at once, then those again that received some, until none did.
    """
    T, B = wanted.shape
    counts = np.array([_row(step[:, row], lent[:, row], wanted[:, row], k_trunc) for row in range(B)])
    reached, levels, sweeps = counts.mean(0)
    return {"segments": float(-(-T // k_trunc)), "reached": reached, "levels": levels, "sweeps": sweeps}


def _row(
    step: NDArray[np.int64], lent: NDArray[np.bool_], wanted: NDArray[np.bool_], k_trunc: int
) -> tuple[int, int, int]:
    """Segments reached, their levels and sweeps, of one row."""
    hops: list[set[int]] = [{0} if asked else set() for asked in wanted]  # of the chains that come to a step
    for t in range(len(hops) - 1, -1, -1):
        first = t - t % k_trunc
        if t > first:
            hops[t - 1] |= hops[t]
        for memory in step[t, lent[t]] - 1:
            hops[memory] |= hops[t] if memory >= first else {number + 1 for number in hops[t]}
    swept = [found for found in hops[::k_trunc] if found]  # all that comes to a segment comes to its first step
    return len(swept), max((max(found) + 1 for found in swept), default=0), sum(map(len, swept))


def of_layer(T: int, last: bool) -> dict[str, Any]:
    """A layer with its initial weights."""
    torch.manual_seed(SEED)
    layer = SAB(128, 128, k_top=5, k_att=4, k_trunc=16)
    with torch.no_grad():
        recall = layer(torch.randn(T, ROWS, 128), return_recall=True)[2]
    wanted = np.ones((T, ROWS), dtype=bool)
    wanted[: T - 1] = not last
    found = levels_of(recall.step.numpy(), (recall.weight > 0).numpy(), wanted, 16)
    return {
        "what": f"initial weights, loss at {'the last' if last else 'every'} step",
        "T": T,
        "k_trunc": 16,
        **found,
    }


def of_run(folder: Path) -> dict[str, Any]:
    """A trained model on its task's test sequences."""
    run, model = load_run(folder)
    layer = model.layer
    if not isinstance(layer, SAB) or layer.k_trunc is None:
        raise ValueError(f"--runs: {folder} is not of SAB with its gradient cut")
    with torch.no_grad():
        step, lent, batch = recalls(model, run.task)
    wanted = steps_with_loss(run.task, batch)
    if len(step) != len(wanted):
        raise ValueError(f"--runs: {folder} reads streams; whole sequences are counted")
    found = levels_of(step, lent, wanted, layer.k_trunc)
    return {"what": f"{folder.name}, {run.task.name}", "T": len(wanted), "k_trunc": layer.k_trunc, **found}


def main(arguments: Sequence[str] | None = None) -> None:
    """Count, print, and write."""
    parser = argparse.ArgumentParser(description="how deep credit hops")
    parser.add_argument("--layers", type=int, nargs="*", default=[], help="lengths for layers with initial weights")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="folders of trained runs")
    parser.add_argument("--out", type=Path, default=Path("credit-levels"))
    options = parser.parse_args(arguments)
    rows = [of_layer(T, last) for T in options.layers for last in (False, True)] + [
        of_run(run) for run in options.runs
    ]
    print(f"{'':48}{'segments':>9}{'reached':>9}{'levels':>9}{'sweeps':>9}")
    for row in rows:
        counts = "".join(f"{row[name]:9.1f}" for name in ("segments", "reached", "levels", "sweeps"))
        print(f"{row['what'] + ', T=' + str(row['T']):48}{counts}")
    options.out.mkdir(parents=True, exist_ok=True)
    command = f"python benchmarks/credit_levels.py {' '.join(arguments or sys.argv[1:])}"
    content = {"command": command, "seed": SEED, **environment(torch.device("cpu")), "counts": rows}
    write_json(options.out / "measured.json", content)


if __name__ == "__main__":
    main()
