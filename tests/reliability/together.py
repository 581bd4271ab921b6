"""One layer in many hands: eight threads, forked and spawned processes, states through a queue, and processes of DDP.

    python -m tests.reliability.together --trials 50

Each stream must give what it gives alone: the same outputs, state and gradients.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, distributed
from torch.distributed import FileStore  # pyright: ignore[reportPrivateImportUsage]
from torch.nn.parallel import DistributedDataParallel

from reminding import SAB, SABState
from tests.nn.samples import BUILT, draw, make

THREADS = 8
RANKS = 2
PATIENCE_SECONDS = 120.0
Found = dict[str, Tensor]


def options_of(choose: random.Random) -> dict[str, Any]:
    """Settings that take different ways through a layer; halved summaries keep every stream in the op's range."""
    return {
        "recall_scale": 0.5,
        "cell": choose.choice(("lstm", "gru", "rnn")),
        "k_top": choose.choice((0, 2, 3)),
        "k_att": choose.choice((1, 2)),
        "k_trunc": choose.choice((3, 4, None)),
        "num_layers": choose.choice((1, 2)),
        "capacity": choose.choice((None, 3)),
        "backend": choose.choice(BUILT),
        "engine": choose.choice(("autograd", "replay")),
    }


def layer_of(options: dict[str, Any]) -> SAB:
    """A layer with weights that are the same every time."""
    further = dict(options)
    return make(3, 4, further.pop("num_layers"), **further)


def trained(layer: SAB, seed: int, state: SABState | None = None) -> tuple[Found, SABState]:
    """A stream in three chunks: its outputs, last state, and the sum of its gradients, which no parameter keeps."""
    parameters = dict(layer.named_parameters())
    total = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    found: Found = {}
    for call in range(3):
        output, state = layer(draw(4, 2, 3, seed=10 * seed + call), state)
        found[f"output {call}"] = output.detach()
        for name, d in zip(total, torch.autograd.grad(output.pow(2).sum(), list(parameters.values())), strict=True):
            total[name] = total[name] + d
    assert state is not None
    return {**found, **total, "h": state.h.detach(), "memory": state.memory.detach()}, state


def stepped(layer: SAB, seed: int) -> Found:
    """A stream of its own, a step a call."""
    step = layer.stepper()
    return {f"step {t}": step(x) for t, x in enumerate(draw(20, 2, 3, seed=seed))}


def differ(got: Found, want: Found) -> str:
    """The first result that is not the same; "" if all are."""
    for name, tensor in want.items():
        if name not in got or not torch.allclose(got[name], tensor, rtol=1e-9, atol=1e-12):
            return name
    return ""


def threads(choose: random.Random) -> str:
    """Eight threads on one layer, each with a stream of its own, some of them trained and some a step a call."""
    options = options_of(choose)
    layer, alone = layer_of(options), layer_of(options)
    barrier = threading.Barrier(THREADS)

    def work(seed: int) -> Found:
        barrier.wait(PATIENCE_SECONDS)
        return stepped(layer, seed) if seed % 3 == 2 else trained(layer, seed)[0]

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(work, range(THREADS)))
    want = [stepped(alone, seed) if seed % 3 == 2 else trained(alone, seed)[0] for seed in range(THREADS)]
    return "; ".join(filter(None, map(differ, found, want)))


def _in_process(options: dict[str, Any], queue: Any, answers: Any) -> None:
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    seed, state = queue.get()
    found, _ = trained(layer_of(options), seed, state)
    answers.put({name: tensor.numpy() for name, tensor in found.items()})


def processes(method: str, choose: random.Random) -> str:
    """A state goes through a queue to another process, whose stream goes on as it does here."""
    options, seed = options_of(choose), choose.randrange(100)
    layer = layer_of(options)
    _, state = trained(layer, seed)
    want, _ = trained(layer, seed + 1, state)
    context: Any = multiprocessing.get_context(method)
    queue, answers = context.Queue(), context.Queue()
    process = context.Process(target=_in_process, args=(options, queue, answers))
    process.start()
    queue.put((seed + 1, state.without_graph()))
    try:
        found = answers.get(timeout=PATIENCE_SECONDS)
    finally:
        process.join(PATIENCE_SECONDS)
        if process.is_alive():
            process.kill()
    if process.exitcode:
        return f"{method}: the process ended with {process.exitcode}"
    return differ({name: torch.from_numpy(array) for name, array in found.items()}, want)


def _rank(rank: int, options: dict[str, Any], seed: int, steps: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = FileStore(f"{folder}/store", RANKS)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    model = DistributedDataParallel(layer_of(options))
    torch.save(_chunks(model, cast("SAB", model.module), seed + rank, steps), f"{folder}/{rank}")
    distributed.barrier()
    os._exit(0)  # shutting down gloo's threads while the other process exits may abort this one


def _chunks(model: Any, layer: SAB, seed: int, steps: int) -> Found:
    """The gradients of chunks that may be shorter than a segment; the first has no memory to score."""
    state: Any = None
    for start in range(0, 4 * steps, steps):
        output, state = model(draw(4 * steps, 2, 3, seed=seed)[start : start + steps], state)
        output.sum().backward()
    return {name: parameter.grad for name, parameter in layer.named_parameters() if parameter.grad is not None}


def data_parallel(choose: random.Random) -> str:
    """Two processes of DistributedDataParallel without find_unused_parameters: each has the mean of the gradients."""
    options, seed, steps = options_of(choose), choose.randrange(100), choose.choice((1, 2, 5))
    with tempfile.TemporaryDirectory() as folder:
        context: Any = multiprocessing.get_context("spawn")
        ranks = [context.Process(target=_rank, args=(rank, options, seed, steps, folder)) for rank in range(RANKS)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(PATIENCE_SECONDS)
            if process.is_alive():
                process.kill()
                return "hung"
        if any(process.exitcode for process in ranks):
            return f"ended with {[process.exitcode for process in ranks]}"
        found: list[Found] = [torch.load(Path(folder) / str(rank)) for rank in range(RANKS)]
    layers = [layer_of(options) for _ in range(RANKS)]
    alone = [_chunks(layer, layer, seed + rank, steps) for rank, layer in enumerate(layers)]
    want = {name: torch.stack([each[name] for each in alone]).mean(0) for name in alone[0]}
    return "; ".join(filter(None, (differ(got, want) for got in found)))


WAYS: dict[str, Callable[[random.Random], str]] = {
    "8 threads": threads,
    "fork": partial(processes, "fork"),
    "spawn": partial(processes, "spawn"),
    "forkserver": partial(processes, "forkserver"),
    "DDP of two": data_parallel,
}


def run(way: str, trials: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Make trials of one way; how many were right, and what was wrong."""
    found: Counter[str] = Counter()
    problems: list[str] = []
    for trial in range(trials):
        problem = WAYS[way](random.Random(f"{seed} {way} {trial}"))
        found["wrong" if problem else "right"] += 1
        problems += [f"{way}, trial {trial}: {problem}"] if problem else []
    found["tried"] = trials
    return found, problems


def main() -> int:
    """Run the campaign and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50, help="of each way")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    wrong = 0
    for way in WAYS:
        found, problems = run(way, options.trials, options.seed)
        print(way, " ".join(f"{kind} {found[kind]}" for kind in ("tried", "right", "wrong")), *problems, sep="\n  ")
        wrong += found["wrong"]
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
