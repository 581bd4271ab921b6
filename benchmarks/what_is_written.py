"""What should a memory hold? The recipe's small copying task, with other things written to memory than h.

    python benchmarks/what_is_written.py --seeds 5 --out results/ablation/written

The layer writes h = h_hat + s, the state with what was just recalled in it, and nothing else. Here its equations are
a plain loop that autograd differentiates, over the layer's own parameters, which may write h_hat, the provisional
state, or c, the cell's own memory, instead. Everything else is as in `reminding reproduce ablation`, line "recipe".
Before training, the loop that writes h is held to the layer: the same loss and gradient norms. Writes measured.json.

Shapes: T time, B batch, I input, H hidden, M memories so far.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reminding.disk.records import write_json
from reminding.lab.paper import experiments as paper
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.machine import environment
from reminding.lab.runs.model import SequenceModel
from reminding.lab.train.clip import GradientClipper
from reminding.lab.train.evaluate import evaluate, state_norms
from reminding.nn import SAB, Recall
from reminding.tasks import Batch

WRITTEN = ("h", "h_hat", "c")
ALIKE = 3
"""Updates over which the loop that writes h is held to the layer."""


class Loop(nn.Module):
    """A SAB layer's equations, step by step: LSTM cell, additive scores, softmax over the k_top best.

    Args:
        layer: whose parameters and constants these are.
        written: what goes to memory: "h", "h_hat" or "c".
    """

    def __init__(self, layer: SAB, written: str) -> None:
        super().__init__()
        self.layer, self.written = layer, written

    def forward(self, tokens: Tensor, _: Any = None, **__: Any) -> tuple[Tensor, None, Recall]:
        """(T, B) to outputs (T, B, H); of what was recalled only the summaries."""
        layer, named = self.layer, dict(self.layer.named_parameters())
        weights = [named[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        w1, w2, w3 = (named[f"score_{name}_l0"] for name in ("memory", "query", "out"))
        inputs = cast("nn.Module", layer.encoder)(tokens)
        h = c = inputs.new_zeros(tokens.shape[1], layer.hidden_size)
        memory: list[Tensor] = []
        outputs: list[Tensor] = []
        summaries: list[Tensor] = []
        for step, x in enumerate(inputs, 1):
            if step > 1 and (step - 1) % cast("int", layer.k_trunc) == 0:
                h, c = h.detach(), c.detach()
            h_hat, c = torch.lstm_cell(x, (h, c), *weights)
            s = recalled(memory, h_hat, w1, w2, w3, cast("int", layer.k_top))
            h = h_hat + s
            if step % layer.k_att == 0:
                memory.append({"h": h, "h_hat": h_hat, "c": c}[self.written])
            outputs.append(h)
            summaries.append(s)
        none = torch.zeros(*tokens.shape, 0)
        return torch.stack(outputs), None, Recall(torch.stack(summaries), none.long(), none)


def recalled(memory: list[Tensor], h_hat: Tensor, w1: Tensor, w2: Tensor, w3: Tensor, k_top: int) -> Tensor:
    """The summary of the k_top best memories, (B, H)."""
    if not memory:
        return torch.zeros_like(h_hat)
    stored = torch.stack(memory, 1)  # (B, M, H)
    scores = torch.tanh(F.linear(stored, w1) + F.linear(h_hat, w2).unsqueeze(1)) @ w3  # (B, M)
    best, places = scores.topk(min(k_top, len(memory)))
    chosen = stored.gather(1, places.unsqueeze(2).expand(-1, -1, stored.shape[2]))
    return (best.softmax(1).unsqueeze(2) * chosen).sum(1)


def built(run: RunConfig, written: str | None) -> SequenceModel:
    """The run's model at its beginning; with a loop in its layer's place, unless None."""
    torch.manual_seed(run.train.seed)
    model = SequenceModel(run.task, run.model)
    if written is not None:
        model.layer = cast("Any", Loop(cast("SAB", model.layer), written))
    return model


def updated(model: SequenceModel, run: RunConfig, updates: int) -> list[tuple[float, float]]:
    """Train as `reminding train` does; loss and gradient norm of each update."""
    options = run.train
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    clipper = GradientClipper(options.clip, adaptive=options.clip_kind == "adaptive")
    trace: list[tuple[float, float]] = []
    batches: Iterator[Batch] = run.task.train_batches(options.batch_size, options.seed)
    for number, batch in enumerate(islice(batches, updates)):
        for group in optimizer.param_groups:
            group["lr"] = options.lr * min(1.0, (1 - number / options.steps) / options.anneal)
        optimizer.zero_grad()
        loss = run.task.loss(model.read(batch)[0], batch)
        loss.backward()
        trace.append((float(loss.detach()), clipper(model.parameters())))
        optimizer.step()
    return trace


def check(run: RunConfig) -> None:
    """The loop that writes h is the layer: refuse to go on where it is not."""
    ours, theirs = (updated(built(run, written), run, ALIKE) for written in ("h", None))
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=1e-3, atol=1e-5)


def trained(run: RunConfig, written: str) -> dict[str, Any]:
    """Train, test, and say what came of it."""
    began = time.perf_counter()
    model = built(run, written)
    updated(model, run, run.train.steps)
    with state_norms(model) as norms:
        found = evaluate(model, run.task, "test", batch_size=100)
    seconds = time.perf_counter() - began
    return {"written": written, "seed": run.train.seed, **found, "state_norm": norms[-1], "seconds": seconds}


def main(arguments: list[str] | None = None) -> None:
    """Train all, and write what was found after each."""
    parser = argparse.ArgumentParser(description="what a memory should hold")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--lr", type=float, default=paper.COPYING.lr)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=Path("written"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    base = paper.parts(options.lr).runs["recipe"]
    runs = [
        RunConfig(base.task, base.model, replace(base.train, seed=seed, steps=options.steps))
        for seed in range(options.seeds)
    ]
    check(runs[0])
    options.out.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    for run in runs:
        for written in WRITTEN:
            records.append(trained(run, written))
            command = f"python benchmarks/what_is_written.py {' '.join(arguments or sys.argv[1:])}"
            content = {"command": command, **environment(torch.device("cpu")), "runs": records}
            write_json(options.out / "measured.json", content)
            print(f"seed {run.train.seed}, {written}: {records[-1]['accuracy']:.4f}", flush=True)
    for written in WRITTEN:
        found = [record["accuracy"] for record in records if record["written"] == written]
        print(f"{written:6} {statistics.fmean(found):.4f}, worst {min(found):.4f}")


if __name__ == "__main__":
    main()
