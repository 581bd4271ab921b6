"""One stream of a million steps: does a training step's time and memory stay what it was at the beginning?

    python benchmarks/endless_stream.py FILE --steps 1000000 --num-layers 2 --out results/endless-stream/two-layers

Reads the bytes of a file, over and over where it is too short, as one unbroken stream, and trains a SAB layer to
predict the next one, chunk by chunk, with credit across the borders of chunks. Times are of the processor, so that
other work on the machine counts little. Writes measured.json, and stream.png.

Shapes: T steps of a chunk; one row.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from reminding import SAB
from reminding.lab.runs.machine import environment

BYTES = 256


def resident_bytes() -> int:
    """What this process holds in memory now (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def train(options: argparse.Namespace) -> list[dict[str, float]]:
    """One record a chunk: steps taken, seconds it took, bytes held, the state's size, bits per byte, mean |h|."""
    torch.manual_seed(options.seed)
    text = np.fromfile(options.file, dtype=np.uint8)
    embedding = nn.Embedding(BYTES, options.hidden_size)
    layer = SAB(
        options.hidden_size,
        options.hidden_size,
        options.num_layers,
        capacity=options.capacity,
        normalizer=options.normalizer,
        stored=options.stored,
        recall_scale=options.recall_scale,
        credit_every=options.credit_every,
        encoder=embedding,
    )
    readout = nn.Linear(options.hidden_size, BYTES)
    optimizer = torch.optim.Adam([*layer.parameters(), *readout.parameters()], lr=options.lr)
    state: Any = None
    records: list[dict[str, float]] = []
    for start in range(0, options.steps, options.chunk):
        piece = torch.from_numpy(text.take(range(start, start + options.chunk + 1), mode="wrap").astype(np.int64))
        began = time.process_time()
        output, state = layer(piece[:-1].unsqueeze(1), state)
        loss = F.cross_entropy(readout(output[:, 0]), piece[1:])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*layer.parameters(), *readout.parameters()], 1.0)
        optimizer.step()
        records.append(
            {
                "steps": start + options.chunk,
                "seconds": time.process_time() - began,
                "resident_bytes": resident_bytes(),
                "state_bytes": state.nbytes,
                "bits_per_byte": loss.item() / math.log(2),
                "state_norm": output.detach().norm(dim=2).mean().item(),
            }
        )
        if len(records) % 50 == 0:
            print({name: round(value, 4) for name, value in records[-1].items()}, flush=True)
    return records


def plot(records: list[dict[str, float]], path: Path) -> None:
    """Memory, time a step, bits per byte and the length of h over the stream."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    steps = np.array([record["steps"] for record in records]) / 1e6
    size = np.diff(steps, prepend=0.0) * 1e6
    column = {name: np.array([record[name] for record in records]) for name in records[0]}
    panels = (
        ("resident memory, MB", column["resident_bytes"] / 1e6),
        ("state with its record of the past, MB", column["state_bytes"] / 1e6),
        ("processor time a step, ms", 1000 * column["seconds"] / size),
        ("bits per byte", column["bits_per_byte"]),
        ("mean length of h", column["state_norm"]),
    )
    figure, axes = plt.subplots(len(panels), 1, sharex=True, figsize=(7, 9), constrained_layout=True)
    for axis, (label, values) in zip(axes, panels, strict=True):
        axis.plot(steps, values, linewidth=0.8, color="#0072B2")
        axis.set_title(label, loc="left", fontsize=10)
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("steps of the stream, millions")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("file", type=Path, help="whose bytes are the stream")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--chunk", type=int, default=1000, help="steps between two updates")
    parser.add_argument("--hidden-size", type=int, default=64)
    parser.add_argument("--num-layers", type=int, default=1)
    parser.add_argument("--capacity", type=int, default=512, help="memories")
    parser.add_argument("--normalizer", default="softmax1", help="as SAB takes it")
    parser.add_argument("--stored", default="proposal", help="as SAB takes it")
    parser.add_argument("--recall-scale", type=float, default=1.0, help="as SAB takes it")
    parser.add_argument("--credit-every", type=int, default=1, help="as SAB takes it")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="folder for measured.json and stream.png")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    records = train(options)
    command = " ".join(["python benchmarks/endless_stream.py", options.file.name, *sys.argv[2:]])
    told = {name: value for name, value in vars(options).items() if name not in ("file", "out")}
    measured = {"command": command, "options": told, "chunks": records, **environment()}
    (options.out / "measured.json").write_text(json.dumps(measured, indent=1) + "\n")
    plot(records, options.out / "stream.png")


if __name__ == "__main__":
    main()
