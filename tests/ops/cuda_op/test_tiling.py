"""The tiled Triton kernels equal the reference when their programs are interpreted together, in several orders.

Shapes: T time, B batch, I input, H hidden, D score width.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from itertools import cycle
from typing import Any

import pytest
import torch

from reminding.ops import cuda_op
from reminding.ops.contract import OpRule
from reminding.ops.cuda_op import packing
from reminding.ops.cuda_op.packing import Call
from reminding.ops.cuda_op.triton import tiling
from tests.nn.samples import draw
from tests.ops.cuda_op.comparisons import (
    SETTINGS,
    assert_near,
    assert_same,
    assert_same_streams,
    compiled_for_gpu,
    everything,
    pair,
    rounded_pair,
)

pytestmark = pytest.mark.slow
interpreted = pytest.mark.skipif(
    not cuda_op.interpreted() or cuda_op.missing() is not None,
    reason="only Triton's interpreter has its programs run in an order that is asked for: `make test-all`",
)
SIZE: dict[str, Any] = {"hidden_size": 7, "device": "cpu"}
LAYOUTS = [(4, 4, "first ahead"), (16, 2, "last ahead"), (2, 8, "any"), (4, 2, "last ahead"), (16, 4, "first ahead")]
"""Rows per tile and units per slice, for B = 5 and H = 7 (2, 4, 1, 4 and 2 slices), and the order of programs."""
Tile = Callable[..., None]


@pytest.fixture
def tile(monkeypatch: pytest.MonkeyPatch) -> Tile:
    """Make all calls use tiles of these rows and slices of these units, in one of the orders in `together.ORDERS`."""
    together = importlib.import_module("tests.ops.cuda_op.together")  # needs Triton

    def patch(rows: int, units: int, order: str = "any", at_once: int = 8, holds: bool = True) -> None:
        def chosen(call: Call, *_: Any) -> tiling.Tiling:
            return tiling.Tiling(rows, units, -(-call.H // units), at_once, holds)

        together.run_together(monkeypatch, order)
        monkeypatch.setattr(tiling, "chosen", chosen)
        monkeypatch.setattr(tiling, "INNER", 4)
        monkeypatch.setattr(tiling, "AT_ONCE", 16)

    return patch


@interpreted
@pytest.mark.parametrize(
    ("options", "layout", "engine"),
    list(zip(SETTINGS.values(), cycle(LAYOUTS), cycle(["autograd", "autograd", "replay"]), strict=False)),
    ids=SETTINGS.keys(),
)
def test_every_setting_gives_the_reference(
    options: dict[str, Any], layout: tuple[int, int, str], engine: str, tile: Tile
) -> None:
    tile(*layout)
    assert_same(draw(9, 5, 3).requires_grad_(), engine=engine, **SIZE, **options)


@interpreted
@pytest.mark.parametrize("order", ["first ahead", "last ahead", "any"])
@pytest.mark.parametrize("score_size", [5, 11])
@pytest.mark.parametrize(("units", "holds"), [(8, True), (4, False), (2, True)])
def test_every_order_gives_the_reference(order: str, score_size: int, units: int, holds: bool, tile: Tile) -> None:
    tile(4, units, order, holds=holds)
    assert_same(draw(13, 5, 3).requires_grad_(), k_top=2, k_att=2, k_trunc=3, score_size=score_size, **SIZE)


@interpreted
@pytest.mark.parametrize(
    "options",
    [{"score": "additive"}, {"score": "dot", "capacity": 12, "evict": "least_recalled"}],
    ids=["additive", "dot, the most recalled"],
)
def test_memories_are_searched(options: dict[str, Any], tile: Tile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each slice raises its features of the bounding keys; rows of full memories are searched side by side."""
    for name, value in {"LEAST_FAN": 4, "LEAST_IN_TREE": 1, "TILE_SIZE": 16}.items():
        monkeypatch.setattr(packing, name, value)
    tile(4, 4)
    assert_same(draw(19, 5, 3).requires_grad_(), search="tree", k_top=2, k_att=1, k_trunc=3, **SIZE, **options)


@interpreted
def test_tiles_that_do_not_fit_at_once_follow_each_other(tile: Tile) -> None:
    tile(2, 4, at_once=2)
    assert_same(draw(9, 9, 3).requires_grad_(), k_top=2, k_att=2, k_trunc=3, forget_scale=0.7, **SIZE)


@interpreted
def test_streams_go_on_out_of_phase(tile: Tile) -> None:
    """Rows begin within a call, so they store at different steps; credit goes into the call before."""
    tile(4, 4)
    x, reset = draw(11, 5, 3), torch.zeros(11, 5, dtype=torch.bool)
    reset[2, 1] = reset[5, 0] = reset[7, 4] = True
    assert_same_streams(x, reset, k_top=2, k_att=2, k_trunc=3, **SIZE)


@interpreted
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_bfloat16_is_float32_inside(cell: str, tile: Tile) -> None:
    """Weights keep their type, and multiply a float32 that is split into three parts."""
    tile(4, 4)
    layer, wide = rounded_pair(torch.bfloat16, cell=cell, k_top=2, k_att=1, k_trunc=3, **SIZE)
    x = draw(7, 5, 3, dtype=torch.bfloat16)
    assert_near(everything(layer, x.clone().requires_grad_()), everything(wide, x.float().requires_grad_()))


@interpreted
@pytest.mark.filterwarnings("ignore:invalid value")  # memory that is read before it is written may hold anything
@pytest.mark.parametrize("order", ["first ahead", "last ahead"])
@pytest.mark.parametrize("left_out", [0, 1])
@pytest.mark.parametrize("kernel", ["forward", "backward"])
def test_every_meeting_is_needed(
    kernel: str, left_out: int, order: str, tile: Tile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving out one of the two meetings per step fails: these tests would catch a kernel that forgets it."""
    tiled: Any = tiling.tiled()
    errors: Any = importlib.import_module("triton.runtime.errors")
    tile(4, 4, order)
    layer, _ = pair(k_top=2, k_att=2, k_trunc=3, **SIZE)
    meet = tiled.meet.fn

    def sometimes(arrivals: Any, goal: Any) -> None:
        if int(goal) // 2 % 2 == left_out:  # with two slices, the goal of the first meeting is 2
            meet(arrivals, goal // 2)

    output = None
    if kernel == "backward":
        output, _ = layer(draw(9, 5, 3))
    monkeypatch.setattr(tiled, "meet", sometimes)
    with pytest.raises(errors.InterpreterError, match="one of them writes"):
        _ = layer(draw(9, 5, 3)) if output is None else output.sum().backward()


@interpreted
def test_who_waits_for_nobody_is_found_out(tile: Tile, monkeypatch: pytest.MonkeyPatch) -> None:
    tiled: Any = tiling.tiled()
    errors: Any = importlib.import_module("triton.runtime.errors")
    tile(4, 4)
    meet = tiled.meet.fn

    def late(arrivals: Any, goal: Any) -> None:
        meet(arrivals, goal + 1)

    monkeypatch.setattr(tiled, "meet", late)
    with pytest.raises(errors.InterpreterError, match="wait, after"):
        next(pair(k_top=2, **SIZE))(draw(3, 5, 3))


def test_tiles_run_only_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Call(OpRule.of(cell="lstm", score="additive", k_top=5, k_att=4, k_trunc=16), 1024, 64, 256, 256, 256)
    weight = torch.empty(0)

    def many(_: torch.device) -> int:
        return 132

    monkeypatch.setattr(tiling, "processors_of", many)
    monkeypatch.delenv(tiling.ASKED, raising=False)
    assert tiling.chosen(call, weight, weight, weight) == "REMINDING_TILES=1 asks for tiles"
    monkeypatch.setenv(tiling.ASKED, "1")
    plan = tiling.chosen(call, weight, weight, weight)
    assert isinstance(plan, tiling.Tiling)
    assert (plan.slices, plan.tiles(call)) == (16, 4)
    assert "asks" not in str(tiling.chosen(call._replace(H=64), weight, weight, weight))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"H": 128}, "several rows"),
        ({"rule": {"cell": "gru"}}, "GRU"),
        ({"H": 1024}, "stay on chip"),
        ({"rule": {"cell": "rnn"}, "weights": torch.float16}, "would take longer"),
        ({"processors": 8}, "16 multiprocessors at once, and there are 8"),
    ],
)
def test_what_tiles_are_not_for_is_said(change: dict[str, Any], reason: str) -> None:
    rest = dict(change)
    settings: dict[str, Any] = {"cell": "lstm", "score": "additive", "k_top": 5, "k_att": 4, "k_trunc": 16}
    rule = OpRule.of(**{**settings, **rest.pop("rule", {})})
    processors, weights = rest.pop("processors", 132), rest.pop("weights", torch.float32)
    call = Call(rule, 1024, 64, 256, 256, 256)._replace(**rest)
    plan = tiling.tiling(call, (weights, weights), torch.float32, processors)
    assert isinstance(plan, str)
    assert reason in plan


@pytest.mark.skipif(cuda_op.missing() is not None, reason=f"{cuda_op.missing()}")
@pytest.mark.parametrize(
    ("cell", "score", "normalizer", "hidden_size", "capacity", "weights"),
    [
        ("lstm", "additive", "softmax", 256, 0, "fp32"),
        ("lstm", "additive", "softmax", 512, 0, "fp32"),
        ("lstm", "additive", "softmax", 512, 0, "bf16"),
        ("lstm", "dot", "threshold", 256, 0, "bf16"),
        ("rnn", "separable", "softmax1", 512, 100, "fp32"),
        ("rnn", "dot", "threshold", 512, 0, "fp32"),
        ("lstm", "additive", "softmax", 256, 0, "fp64"),
    ],
)
def test_tiles_compile_for_a_gpu_and_fit_it(
    cell: str, score: str, normalizer: str, hidden_size: int, capacity: int, weights: str
) -> None:
    """Compute capability 9.0; no GPU is needed to compile for one."""
    told = compiled_for_gpu("tiles", "even", cell, score, normalizer, str(hidden_size), str(capacity), weights)
    used = re.findall(r"STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", told)
    shared = re.findall(r"BYTES: (\d+)", told)
    assert len(used) == len(shared) == 2, told
    assert all(int(stack) <= 96 and local == "0" for stack, local in used), f"registers spill: {told}"
    assert all(int(size) <= 227 * 1024 for size in shared), told
