"""A training step on one long sequence, where memories are found through bounds and where all are scored.

    reminding reproduce copying --settings T100 --methods sab
    python benchmarks/long_sequences.py runs/paper/copying/T100/sab-seed0

Forward and backward pass of a layer on copying sequences of T steps, with a random gradient at every step and all
memories kept, beside `nn.LSTM` with as many hidden units behind an embedding of the same size. The layer has its
trained weights, and random ones; its search is "auto", and "scan". CPU time of one thread, medians of repetitions in
which all take turns. Outputs and gradients of both searches must be equal bit by bit. Writes measured.json.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from reminding.disk.records import write_json
from reminding.lab.runs.checkpoint import load_run
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.machine import environment, subnormals_flushed
from reminding.lab.runs.model import build_encoder, build_layer
from reminding.nn import SAB
from reminding.tasks import Copying

SEED = 0
WARM = 200
"""Steps of the first calls, which do not count."""


class Embedded(nn.Module):
    """`nn.LSTM` behind an embedding."""

    def __init__(self, symbols: int, features: int, hidden: int) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(symbols, features), nn.LSTM(features, hidden)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Any]:
        """The output and the state."""
        return self.lstm(self.embedding(tokens))


def input_of(task: Copying, T: int, rows: int) -> Tensor:
    """Test sequences of T steps in all, (T, B)."""
    return next(iter(replace(task, T=T - 2 * task.symbols).eval_batches("test", rows, rows))).input


def step(module: nn.Module, tokens: Tensor, d_output: Tensor) -> tuple[float, list[Tensor]]:
    """Seconds of CPU time of a training step, and the output and the gradients."""
    module.zero_grad(set_to_none=True)
    began = time.process_time()
    output = module(tokens)[0]
    output.backward(d_output)
    seconds = time.process_time() - began
    return seconds, [output.detach(), *(each.grad for each in module.parameters() if each.grad is not None)]


def contestants(config: RunConfig, trained: SAB) -> dict[str, tuple[nn.Module, str | None]]:
    """Modules with the search that each is to use; None: it has none."""
    torch.manual_seed(SEED)
    task, options = config.task, config.model
    features = options.embedding_size or task.input_size
    fresh = build_layer(options, features, build_encoder(task, options.embedding_size))
    lstm = Embedded(task.vocabulary, features, trained.hidden_size)
    return {
        "nn.LSTM": (lstm, None),
        "trained, auto": (trained, "auto"),
        "trained, scan": (trained, "scan"),
        "random, auto": (fresh, "auto"),
        "random, scan": (fresh, "scan"),
    }


@subnormals_flushed()
def measure(run: Path, T: int, rows: int, repetitions: int) -> dict[str, dict[str, float]]:
    """Medians of CPU seconds and of the ratios to `nn.LSTM` in the same repetition, by contestant.

    Raises:
        ValueError: both searches do not compute the same.
    """
    config, model = load_run(run)
    model.train()
    assert isinstance(config.task, Copying), "the run must be of copying"
    assert isinstance(model.layer, SAB), "the run must be of SAB"
    tokens = input_of(config.task, T, rows)
    d_output = torch.randn(T, rows, model.layer.hidden_size, generator=torch.Generator().manual_seed(SEED))
    entered = contestants(config, model.layer)
    for module, _ in entered.values():  # a first call packs weights and fills caches
        step(module, tokens[:WARM], d_output[:WARM])
    seconds: dict[str, list[float]] = {name: [] for name in entered}
    for _ in range(repetitions):
        results: dict[str, list[Tensor]] = {}
        for name, (module, search) in entered.items():
            if isinstance(module, SAB):
                module.rule = replace(module.rule, search=search)
            took, results[name] = step(module, tokens, d_output)
            seconds[name].append(took)
        same(results)
    lstm = seconds["nn.LSTM"]
    ratios = {name: [own / other for own, other in zip(took, lstm, strict=True)] for name, took in seconds.items()}
    return {name: {"seconds": median(seconds[name]), "ratio": median(ratios[name])} for name in entered}


def same(results: Mapping[str, list[Tensor]]) -> None:
    """Check that both searches computed the same."""
    for weights in ("trained", "random"):
        pairs = zip(results[f"{weights}, auto"], results[f"{weights}, scan"], strict=True)
        if not all(torch.equal(auto, scan) for auto, scan in pairs):
            raise ValueError(f"with {weights} weights, the searches do not compute the same")


def main(arguments: list[str]) -> None:
    """Measure, print, and write measured.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a trained copying run of SAB")
    parser.add_argument("--T", type=int, default=20_000, help="steps")
    parser.add_argument("--B", type=int, default=8, help="sequences")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/long-sequences"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = measure(options.run, options.T, options.B, options.repetitions)
    for name, row in rows.items():
        print(f"{name}: {row['seconds']:.2f} s, {row['ratio']:.2f} of nn.LSTM")
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"command": " ".join(["python", *sys.argv]), "run": str(options.run), "T": options.T, "B": options.B}
    write_json(options.out / "measured.json", {**content, "rows": rows, **environment()})


if __name__ == "__main__":
    main(sys.argv[1:])
