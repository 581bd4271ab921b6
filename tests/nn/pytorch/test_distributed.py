"""DistributedDataParallel and FSDP1 on gloo: every rank receives the gradient of all rows.

Shapes: T time, B batch, H hidden.
"""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# torch and lightning annotate their callback parameters only partly.

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed import FileStore  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.multiprocessing import spawn  # pyright: ignore[reportPrivateImportUsage]
from torch.nn.parallel import DistributedDataParallel

from reminding import SAB
from tests.nn.samples import BUILT, assert_same_gradients, draw, make

RANKS = 2
OPTIONS: dict[str, Any] = {"k_top": 2, "k_att": 2, "k_trunc": 4}
LAYERS: dict[str, dict[str, Any]] = {
    **({"cpu": {"backend": "cpu"}} if "cpu" in BUILT else {}),
    "replay": {"backend": "reference", "engine": "replay"},
    "reference": {"backend": "reference", "engine": "autograd"},
    "two layers": {"num_layers": 2},
}
WRAPS: dict[str, tuple[dict[str, Any], int]] = {
    "plain, one step at a time": ({}, 1),
    "static_graph": ({"static_graph": True}, 3),
    "find_unused": ({"find_unused_parameters": True}, 1),
}
"""Arguments of DistributedDataParallel, and the number of steps per chunk."""


def layer_of(name: str) -> SAB:
    options = OPTIONS | LAYERS[name]
    return make(3, 4, options.pop("num_layers", 1), **options)


def rows_of(rank: int) -> Tensor:
    return draw(12, 2 * RANKS, 3)[:, 2 * rank : 2 * rank + 2]


def losses(module: nn.Module, x: Tensor, of_state: bool, size: int = 3) -> dict[str, Tensor]:
    """The gradients of a stream in chunks, each with a backward pass of its outputs or of its last states only."""
    module.zero_grad()
    state: Any = None
    for start in range(0, len(x), size):
        output, state = module(x[start : start + size], state)
        ((state.h if of_state else output).pow(2).sum() + 0.0).backward()
    return {
        name.removeprefix("module."): torch.zeros_like(parameter)
        if parameter.grad is None
        else parameter.grad.clone()
        for name, parameter in module.named_parameters()
    }


def work(rank: int, folder: str) -> None:
    store = FileStore(f"{folder}/store", RANKS)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    found: dict[str, Any] = {}
    for name in LAYERS:
        for wrap, (options, size) in WRAPS.items():
            for of_state in (False, True):
                key = f"{name}, {wrap}, {'state' if of_state else 'output'}"
                model = DistributedDataParallel(layer_of(name), **options)
                try:
                    found[key] = losses(model, rows_of(rank), of_state, size)
                except RuntimeError as error:
                    found[key] = f"{type(error).__name__}: {error}"
    torch.save(found, f"{folder}/{rank}")
    distributed.barrier()
    os._exit(0)  # shutting down gloo's threads while the other process exits may abort this one


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    spawn(work, (str(folder),), nprocs=RANKS)
    return [torch.load(folder / str(rank)) for rank in range(RANKS)]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("of", ["output", "state"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_rank_gets_the_mean_over_ranks(found: list[dict[str, Any]], name: str, of: str, wrap: str) -> None:
    """With chunks of one step, the first chunk has no memory to score."""
    _, size = WRAPS[wrap]
    plain = name if name == "two layers" else "reference"
    parts = [losses(layer_of(plain), rows_of(rank), of == "state", size) for rank in range(RANKS)]
    want = {key: (parts[0][key] + parts[1][key]) / RANKS for key in parts[0]}
    for rank in range(RANKS):
        got = found[rank][f"{name}, {wrap}, {of}"]
        assert isinstance(got, dict), got
        assert_same_gradients(got, want)


@pytest.mark.filterwarnings("ignore:FSDP is switching to use `NO_SHARD`:UserWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_fsdp1_takes_the_gradient_of_the_layer(name: str, tmp_path: Path) -> None:
    want = losses(layer_of(name), rows_of(0), of_state=False)
    distributed.init_process_group("gloo", store=FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        sharded = FullyShardedDataParallel(layer_of(name), device_id=torch.device("cpu"))
        got = losses(sharded, rows_of(0), of_state=False)
    finally:
        distributed.destroy_process_group()
    flat = torch.cat([gradient.flatten() for gradient in want.values()])
    assert_same_gradients({"flat": next(iter(got.values()))}, {"flat": flat})
