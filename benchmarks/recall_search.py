"""What a step costs among a growing number of memories: all of them scored, and found through a tree of bounds.

    make run && python benchmarks/recall_search.py runs/demo/copying-sab

A trained copying model reads copying sequences of 2,000 steps as one stream of one row, and keeps all its memories.
At each number of memories a stepper takes 200 steps, after 60 that do not count, first with search="auto", then with
search="scan", from the same state. Time is wall-clock time of one thread, median and 90th percentile. The outputs
must be equal bit by bit. Writes measured.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import quantiles
from typing import Any

import torch
from torch import Tensor

from reminding.disk.records import write_json
from reminding.lab.runs.checkpoint import load_run
from reminding.lab.runs.machine import environment
from reminding.nn import SAB, SABState
from reminding.tasks import Copying

LENGTH = 2000
"""Blanks of a copying sequence in the stream."""
SEQUENCES = 250
STEPS_AT_ONCE = 50_000
UNCOUNTED, COUNTED = 60, 200


def stream_of(task: Copying) -> Tensor:
    """Test sequences one behind the other, (T, 1)."""
    batch = next(iter(replace(task, T=LENGTH).eval_batches("test", SEQUENCES, SEQUENCES)))
    return batch.input.t().reshape(-1, 1)


def grown(layer: SAB, stream: Tensor, state: SABState | None, memories: int) -> SABState:
    """The state after the stream has gone on until a row has so many memories; the stream begins anew at its end."""
    while True:
        done = 0 if state is None else int(state.step[0])
        missing = memories * layer.k_att - done
        if missing <= 0 and state is not None:
            return state
        at = done % (len(stream) - STEPS_AT_ONCE)
        with torch.no_grad():
            _, state = layer(stream[at : at + min(missing, STEPS_AT_ONCE)], state)


def steps(layer: SAB, stream: Tensor, state: SABState, search: str) -> tuple[dict[str, float], Tensor]:
    """Microseconds a step, and the outputs."""
    usual = layer.rule
    layer.rule = replace(usual, search=search)
    step = layer.stepper(state)
    times: list[float] = []
    outputs: list[Tensor] = []
    for x in stream[: UNCOUNTED + COUNTED]:
        began = time.perf_counter()
        outputs.append(step(x))
        times.append(1e6 * (time.perf_counter() - began))
    layer.rule = usual
    tenths = quantiles(times[UNCOUNTED:], n=10)
    return {"median": tenths[4], "p90": tenths[8]}, torch.cat(outputs)


def measure(run: Path, sizes: list[int]) -> list[dict[str, Any]]:
    """A row for each number of memories.

    Raises:
        ValueError: both ways do not compute the same.
    """
    config, model = load_run(run)
    layer, stream = model.eval().layer, stream_of(config.task)
    assert isinstance(layer, SAB), "the run must be of SAB"
    state: SABState | None = None
    rows: list[dict[str, Any]] = []
    for memories in sizes:
        state = grown(layer, stream, state, memories)
        (tree, found), (scan, wanted) = (steps(layer, stream, state, search) for search in ("auto", "scan"))
        if not torch.equal(found, wanted):
            raise ValueError(f"among {memories} memories, the tree and the scan do not find the same")
        rows.append({"memories": memories, "auto": tree, "scan": scan})
        print(
            f"{memories:>9,} memories: auto {tree['median']:.0f} us (p90 {tree['p90']:.0f}), "
            f"scan {scan['median']:.0f} us (p90 {scan['p90']:.0f})",
            flush=True,
        )
    return rows


def main(arguments: list[str]) -> None:
    """Measure, and write measured.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a trained copying run of SAB")
    parser.add_argument("--memories", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--out", type=Path, default=Path("runs/recall-search"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = measure(options.run, sorted(options.memories))
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"command": " ".join(["python", *sys.argv]), "run": str(options.run), "rows": rows, **environment()}
    write_json(options.out / "measured.json", content)


if __name__ == "__main__":
    main(sys.argv[1:])
