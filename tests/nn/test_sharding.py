"""Layers with parameters sharded among processes by FSDP1 and FSDP2, with credit into past calls.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from reminding import SAB

PROCESSES = 2
Gradients = dict[str, Tensor]


class Score(nn.Module):
    """A user's score."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(8))

    def keys(self, memory: Tensor) -> Tensor:
        return memory * self.scale

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        return (keys * query.unsqueeze(1)).sum(2)


class Network(nn.Module):
    def __init__(self, engine: str, own: bool, horizon: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        options: dict[str, Any] = {"k_top": 2, "k_att": 2, "k_trunc": 5, "engine": engine, "horizon": horizon}
        options["dtype"] = torch.float64
        if own:
            cells = [nn.LSTMCell(3, 8), nn.LSTMCell(8, 8)]
            encoder = nn.Linear(4, 3, dtype=torch.float64)
            self.layer = SAB(3, 8, 2, cell=cells, score=[Score(), Score()], encoder=encoder, **options)
        else:
            self.layer = SAB(4, 8, 2, **options)
        self.out = nn.Linear(8, 3, dtype=torch.float64)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        output, state = self.layer(x.detach().requires_grad_(), state)  # as behind an embedding
        return self.out(output), state


def by_chunks(network: Callable[..., Any], x: Tensor) -> None:
    state: Any = None
    for part in x.chunk(4):
        output, state = network(part, state)
        output.pow(2).sum().backward()


def second(network: Network) -> tuple[Any, Callable[[], Gradients]]:
    """A model under FSDP2, and the function that gathers its gradients."""
    from torch.distributed.fsdp import fully_shard

    fully_shard(network.layer)
    sharded: Any = fully_shard(network)

    def gathered() -> Gradients:
        found: Any = network.named_parameters()
        return {name: parameter.grad.full_tensor() for name, parameter in found}

    return sharded, gathered


def first(network: Network, use_orig_params: bool) -> tuple[Any, Callable[[], Gradients]]:
    """FSDP1. Without use_orig_params, its only parameter is the concatenation of all of the network's."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    sharded = FullyShardedDataParallel(network, use_orig_params=use_orig_params, device_id=torch.device("cpu"))

    def gathered() -> Gradients:
        with FullyShardedDataParallel.summon_full_params(sharded, with_grads=use_orig_params):
            if use_orig_params:
                found: Any = sharded.named_parameters()
                return {name.replace("_fsdp_wrapped_module.", ""): p.grad.clone() for name, p in found}
        (flat,) = sharded.parameters()
        assert flat.grad is not None
        parts = [torch.empty_like(flat.grad) for _ in range(PROCESSES)]
        distributed.all_gather(parts, flat.grad)
        return {"flat": torch.cat(parts)}

    return sharded, gathered


def begin(rank: int, meeting: Path) -> None:
    """Join the other process."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=meeting.as_uri(), rank=rank, world_size=PROCESSES)


def work(rank: int, kind: str, engine: str, own: bool, meeting: Path) -> None:
    """Run one process on its rows of the batch, and compare with one process that has all rows."""
    begin(rank, meeting)
    torch.manual_seed(1)
    x = torch.randn(20, 4, 4, dtype=torch.float64)
    plain = Network(engine, own)
    (plain(x)[0].pow(2).sum() / PROCESSES).backward()
    want = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
    network = Network(engine, own)
    sharded, gathered = second(network) if kind == "FSDP2" else first(network, kind == "FSDP1, original")
    by_chunks(sharded, x[:, 2 * rank : 2 * rank + 2])
    got = gathered()
    if "flat" in got:
        want = {"flat": torch.cat([gradient.flatten() for gradient in want.values()])}
        got["flat"] = got["flat"][: len(want["flat"])]  # padded
    assert set(got) == set(want)
    for name, gradient in want.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-9, atol=1e-9)
    distributed.barrier()
    os._exit(0)  # shutting down gloo's threads while the other process exits may abort this one


needs_streams = pytest.mark.skipif(torch.__version__.startswith("2.6."), reason="PyTorch 2.6's FSDP2 needs a GPU")


@pytest.mark.skipif(not distributed.is_available(), reason="this PyTorch has no torch.distributed")
@pytest.mark.parametrize(
    ("kind", "engine", "own"),
    [
        pytest.param("FSDP2", "replay", False, marks=needs_streams, id="FSDP2-replay-built in"),
        ("FSDP1, flat", "replay", True),
        *(
            pytest.param(*way, marks=[needs_streams, pytest.mark.slow] if way[0] == "FSDP2" else pytest.mark.slow)
            for way in product(["FSDP2", "FSDP1, flat", "FSDP1, original"], ["replay", "autograd"], [False, True])
            if way not in [("FSDP2", "replay", False), ("FSDP1, flat", "replay", True)]
        ),
    ],
)
def test_two_processes_find_the_mean_of_their_gradients(kind: str, engine: str, own: bool, tmp_path: Path) -> None:
    processes: Any = multiprocessing
    processes.spawn(work, (kind, engine, own, tmp_path / "meeting"), nprocs=PROCESSES)


def work_deferred(rank: int, kind: str, meeting: Path) -> None:
    """Run one process of a layer whose credit waits: settling is refused, and the last chunk sends it on."""
    begin(rank, meeting)
    torch.manual_seed(1)
    x = torch.randn(20, 4, 4, dtype=torch.float64)
    plain = Network("replay", own=False)
    (plain(x)[0].pow(2).sum() / PROCESSES).backward()
    network = Network("replay", own=False)
    network.layer.credit_every = 9
    sharded, gathered = second(network) if kind == "FSDP2" else first(network, kind == "FSDP1, original")
    state: Any = None
    parts = x[:, 2 * rank : 2 * rank + 2].chunk(4)
    for part in parts[:-1]:
        output, state = sharded(part, state)
        output.pow(2).sum().backward()
    with pytest.raises(ValueError, match=r"FSDP divides the layer's parameters.*set layer\.credit_every = 1"):
        network.layer.settle(state)
    network.layer.credit_every = 1
    sharded(parts[-1], state)[0].pow(2).sum().backward()
    got = gathered()
    want = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
    if "flat" in got:
        want = {"flat": torch.cat([gradient.flatten() for gradient in want.values()])}
        got["flat"] = got["flat"][: len(want["flat"])]  # padded
    for name, gradient in want.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-9, atol=1e-9)
    distributed.barrier()
    os._exit(0)


@pytest.mark.skipif(not distributed.is_available(), reason="this PyTorch has no torch.distributed")
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("FSDP2", marks=[needs_streams, pytest.mark.slow]),
        "FSDP1, flat",
        pytest.param("FSDP1, original", marks=pytest.mark.slow),
    ],
)
def test_credit_that_waits_is_sent_on_by_the_last_chunk(kind: str, tmp_path: Path) -> None:
    processes: Any = multiprocessing
    processes.spawn(work_deferred, (kind, tmp_path / "meeting"), nprocs=PROCESSES)


class Around(nn.Module):
    """A module around the network that hands the state on, as docs/howto/pytorch.md says."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network("replay", own=False)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return self.network(x.detach().requires_grad_(), None if state is None else state.without_graph())


def work_around(rank: int, meeting: Path) -> None:
    """Run one process of which the network is wrapped and the layer is not."""
    from torch.distributed.fsdp import fully_shard

    begin(rank, meeting)
    torch.manual_seed(1)
    x = torch.randn(20, 4, 4, dtype=torch.float64)
    around = Around()
    (around(x)[0].pow(2).sum() / PROCESSES).backward()
    want = {name: p.grad for name, p in around.named_parameters() if p.grad is not None}
    around.zero_grad()
    fully_shard(around.network)
    sharded: Any = fully_shard(around)
    by_chunks(sharded, x[:, 2 * rank : 2 * rank + 2])
    found: Any = around.named_parameters()
    for name, parameter in found:
        torch.testing.assert_close(parameter.grad.full_tensor(), want[name], rtol=1e-9, atol=1e-9)
    distributed.barrier()
    os._exit(0)


@needs_streams
@pytest.mark.skipif(not distributed.is_available(), reason="this PyTorch has no torch.distributed")
def test_a_wrapped_module_around_the_layer_takes_a_state_without_its_graph(tmp_path: Path) -> None:
    processes: Any = multiprocessing
    processes.spawn(work_around, (tmp_path / "meeting",), nprocs=PROCESSES)


def parts_of(network: Network, inner: str) -> list[nn.Module]:
    """Which modules of a network are wrapped by themselves."""
    layer: Any = network.layer
    found: dict[str, list[nn.Module]] = {"layer and readout": [layer, network.out], "encoder": [layer.encoder]}
    return found[inner] if inner in found else list(getattr(layer, inner))


def wrapped(network: Network, inner: str, kind: str) -> tuple[Any, Callable[[], Gradients]]:
    """A network of which some modules are wrapped by themselves, and what gathers its weights."""
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    parts = parts_of(network, inner)
    if kind == "FSDP2":
        for part in parts:
            fully_shard(part)
        found: Any = network.named_parameters
        return fully_shard(network), lambda: {name: p.detach().full_tensor().clone() for name, p in found()}

    def policy(module: nn.Module, recurse: bool, **_: Any) -> bool:
        return recurse or any(module is part for part in parts)

    options: dict[str, Any] = {"use_orig_params": kind == "FSDP1, original", "auto_wrap_policy": policy}
    sharded = FullyShardedDataParallel(network, device_id=torch.device("cpu"), **options)

    def gathered() -> Gradients:
        with FullyShardedDataParallel.summon_full_params(sharded):
            weights: Any = sharded.named_parameters()
            return {name.replace("_fsdp_wrapped_module.", ""): p.detach().clone() for name, p in weights}

    return sharded, gathered


def train_wrapped(rank: int, kind: str, engine: str, own: bool, inner: str, horizon: int | None) -> None:
    """Compare one step of descent with that of one process; without a horizon in one call, else in chunks."""
    torch.manual_seed(1)
    x = torch.randn(20, 4, 4, dtype=torch.float64)
    plain, network = Network(engine, own, horizon), Network(engine, own, horizon)
    mine = x[:, 2 * rank : 2 * rank + 2]
    sharded, weights = wrapped(network, inner, kind)
    before = weights()
    if horizon == 0:
        sharded(mine)[0].pow(2).sum().backward()
    else:
        by_chunks(sharded, mine)
    torch.optim.SGD(sharded.parameters(), lr=1.0).step()
    after = weights()
    (plain(x)[0].pow(2).sum() / PROCESSES).backward()
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(before[name] - after[name], parameter.grad, rtol=1e-9, atol=1e-9)


def work_on_inner(rank: int, kind: str, meeting: Path) -> None:
    """Run one process: wrap each part that can be wrapped, and require that the others are refused."""
    begin(rank, meeting)
    for engine in ("replay", "autograd"):
        for own in (False, True):
            train_wrapped(rank, kind, engine, own, "layer and readout", None)
    train_wrapped(rank, kind, "autograd", True, "encoder", 0)
    for inner, engine, says in (
        ("cells", "autograd", "in the layer's cell: wrap the whole layer"),
        ("scorers", "autograd", "in the layer's score: wrap the whole layer"),
        ("encoder", "autograd", "in the layer's encoder, which a replay or credit to earlier calls would run again"),
    ):
        with pytest.raises(ValueError, match=says):
            train_wrapped(rank, kind, engine, True, inner, None)
    distributed.barrier()
    os._exit(0)


@pytest.mark.skipif(not distributed.is_available(), reason="this PyTorch has no torch.distributed")
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("FSDP2", marks=needs_streams),
        pytest.param("FSDP1, flat", marks=pytest.mark.slow),
        pytest.param("FSDP1, original", marks=pytest.mark.slow),
    ],
)
def test_modules_wrapped_by_themselves_find_the_mean_or_are_refused(kind: str, tmp_path: Path) -> None:
    processes: Any = multiprocessing
    processes.spawn(work_on_inner, (kind, tmp_path / "meeting"), nprocs=PROCESSES)
