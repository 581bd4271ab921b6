"""The Triton kernels equal the reference, in Triton's interpreter or on a GPU; without a GPU they still compile.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding import SAB, Recall, SABState
from reminding.nn.parts.memory import Memory
from reminding.ops import cuda_op
from reminding.ops.cuda_op import backward, packing
from tests.nn.samples import assert_same_gradients, assert_same_recall, assert_same_state, draw, gradients
from tests.ops.cuda_op.comparisons import (
    DEVICE,
    SEEN,
    SETTINGS,
    assert_near,
    assert_same,
    assert_same_streams,
    compiled_for_gpu,
    everything,
    pair,
    results,
    rounded_pair,
)
from tests.tolerance import assert_equal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        cuda_op.missing() is not None, reason=f"{cuda_op.missing()}; `make test-all` has Triton interpret its kernels"
    ),
]


def goes_first(memory: Memory) -> Tensor:
    """A user's own eviction rule."""
    return torch.zeros_like(memory.count).to(memory.value.device)


@pytest.mark.parametrize("engine", ["autograd", "replay"])
@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS.keys())
def test_the_kernels_give_the_reference(options: dict[str, Any], engine: str) -> None:
    assert_same(draw(9, 2, 3).to(DEVICE).requires_grad_(), engine=engine, **options)


def test_float32_is_close() -> None:
    x = draw(7, 2, 3).float().to(DEVICE).requires_grad_()
    layers = pair(dtype=torch.float32, k_top=2, k_att=2, k_trunc=3)
    (ran, found), (wanted, gradient) = (results(layer, x) for layer in layers)
    assert_equal(ran[0], wanted[0], "output")
    assert_same_gradients(found, gradient)


HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])


@HALVES
@pytest.mark.parametrize(
    "options",
    [
        {"cell": "lstm", "normalizer": "softmax1", "engine": "replay"},
        {"cell": "gru", "score": "separable", "capacity": 2, "engine": "autograd"},
        {"cell": "rnn", "score": "dot", "evict": "least_recalled", "capacity": 2, "engine": "autograd"},
    ],
    ids=["lstm", "gru", "rnn"],
)
def test_half_precision_is_float32_inside(options: dict[str, Any], dtype: torch.dtype) -> None:
    """Weights, inputs and results are rounded; nothing in between is."""
    layer, wide = rounded_pair(dtype, k_top=2, k_att=1, k_trunc=3, **options)
    x = draw(7, 2, 3, dtype=dtype).to(DEVICE)
    found = everything(layer, x.clone().requires_grad_())
    assert {tensor.dtype for tensor in found.values()} == {dtype}
    assert_near(found, everything(wide, x.float().requires_grad_()))


def test_half_precision_goes_on() -> None:
    """The state is rounded between two calls, and the second sends credit into the first."""
    layers = pair(k_top=2, k_att=1, k_trunc=3)
    x, found = draw(8, 2, 3, dtype=torch.bfloat16).to(DEVICE), list[dict[str, Tensor]]()
    for layer, dtype in zip(layers, (torch.bfloat16, torch.float32), strict=True):
        layer = layer.bfloat16().to(dtype)
        first, state = layer(x[:5].to(dtype))
        second, _ = layer(x[5:].to(dtype), state)
        loss = first.float().sum() + second.float().sum()
        found.append(gradients(layer, loss) | {"first": first, "second": second})
    for name, tensor in found[1].items():
        assert_equal(found[0][name], tensor, name)  # plain PyTorch's tolerance in bfloat16


@HALVES
def test_autocast_rounds_the_cell_only(dtype: torch.dtype) -> None:
    layer, wide = pair(torch.float32, k_top=2, k_att=1, k_trunc=3)
    with torch.no_grad():
        for name, parameter in wide.named_parameters():
            if not name.startswith("score"):
                parameter.copy_(parameter.to(dtype))
    x = draw(7, 2, 3, dtype=dtype).to(DEVICE)
    with torch.autocast(DEVICE, dtype=dtype):
        found = everything(layer, x.clone().requires_grad_())
        torch.testing.assert_close(layer(x.float())[0], found["output"], rtol=0, atol=0)
    assert {found[name].dtype for name in SEEN} == {torch.float32}
    wanted = everything(wide, x.float().requires_grad_())
    for name, tensor in found.items():
        lowered = name not in SEEN and not name.startswith("score")  # because its gradient was rounded
        assert_equal(tensor.to(dtype) if lowered else tensor, wanted[name], name, backend="cuda", floor=0.1)


def test_autocast_leaves_float64_alone() -> None:
    layer, other = pair(k_top=2, k_att=1, k_trunc=3)
    x = draw(7, 2, 3).to(DEVICE)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        output, _ = layer(x)
    assert_equal(output, other(x)[0], "output")


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_steps_that_no_credit_comes_to_are_passed_over(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The saved tensors of such steps are never read, so they may hold anything."""
    options: dict[str, Any] = {"cell": cell, "k_top": 2, "k_att": 2, "k_trunc": 3, "backtrack": False, "horizon": 0}
    layer, other = pair(**options)
    sweep = backward.sweep

    def poisoned(d: Any, parts: Any, record: Any, gates: Tensor, queries: Tensor, *further: Any) -> Any:
        for kept in (gates, queries, record.weights):
            kept[:9] = float("nan")  # of 12 steps, the last segment is steps 10 to 12
        return sweep(d, parts, record, gates, queries, *further)

    monkeypatch.setattr(backward, "sweep", poisoned)
    x = draw(12, 2, 3).to(DEVICE)
    found, wanted = (gradients(each, each(x)[0][-1].sum()) for each in (layer, other))
    assert_same_gradients(found, wanted)


def test_streams_go_on_out_of_phase() -> None:
    """Rows begin within a call, chunk borders lie within segments, and credit goes into the call before."""
    x, reset = draw(11, 3, 3).to(DEVICE), torch.zeros(11, 3, dtype=torch.bool)
    reset[2, 1] = reset[5, 0] = True
    assert_same_streams(x, reset, k_top=2, k_att=2, k_trunc=3)


@pytest.mark.parametrize("chunk", [2, 2048], ids=["in pieces", "at once"])
@pytest.mark.parametrize("score", ["additive", "separable"])
@pytest.mark.parametrize("evict", ["fifo", "least_recalled"])
def test_rows_of_full_memories_in_different_phases(
    evict: str, score: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two calls of streams that begin at different steps, the last stream too late to fill its memory."""
    monkeypatch.setattr(packing, "CHUNK", chunk)
    x, reset = draw(24, 3, 3).to(DEVICE), torch.zeros(24, 3, dtype=torch.bool)
    reset[3, 1] = reset[16, 2] = True
    found: list[dict[str, Tensor]] = []
    states: list[SABState] = []
    recalls: list[Recall] = []
    for layer in pair(k_top=2, k_att=1 + (score == "separable"), k_trunc=3, capacity=5, evict=evict, score=score):
        first, state = layer(x[:9], reset=reset[:9])
        second, state, recall = layer(x[9:], state, reset=reset[9:], return_recall=True)
        loss = first.pow(2).sum() + second.pow(3).sum() + state.memory.pow(2).sum()
        found.append(gradients(layer, loss))
        states.append(state)
        recalls.append(recall)
    assert_same_state(*states)
    assert_same_recall(*recalls)
    assert_same_gradients(*found)


@pytest.mark.parametrize("chunk", [2, 2048], ids=["in pieces", "at once"])
@pytest.mark.parametrize(("evict", "kept"), [("fifo", [6, 7, 8]), ("least_recalled", [1, 7, 8])])
def test_of_equals_the_oldest_is_recalled_and_the_oldest_goes(
    evict: str, kept: list[int], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every score is 0, so step 1 is recalled until it is evicted."""
    monkeypatch.setattr(packing, "CHUNK", chunk)
    layer, _ = pair(k_top=1, k_att=1, k_trunc=4, capacity=3, evict=evict, score="dot")
    with torch.no_grad():
        layer.get_parameter("score_query_l0").zero_()
    _, state, recall = layer(draw(8, 2, 3).to(DEVICE), return_recall=True)
    assert state.memory_step[0].tolist() == [kept, kept]
    oldest = [1, 1, 1, 2, 3, 4, 5] if evict == "fifo" else [1] * 7
    assert recall.step[1:, 0, 0].tolist() == oldest


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"capacity": 2, "evict": goes_first}, "it evicts by 'fifo' or 'least_recalled' only"),
        ({"score_size": 1025}, "it takes a hidden_size and score_size of at most 1024, not 1025"),
        ({"k_top": 500, "score_size": 256}, "it recalls at most 255 memories a step at this width, not 500"),
    ],
)
def test_what_it_cannot_do_it_says(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"backend='cuda' cannot run: {reason}"):
        SAB(3, 4, backend="cuda", device=DEVICE, **options)


def test_auto_does_not_take_what_no_gpu_has_run() -> None:
    assert SAB(3, 4, device=DEVICE).plan(8).backend != "cuda"


@pytest.mark.parametrize(
    ("cell", "score", "normalizer", "hidden_size", "capacity", "weights"),
    [
        ("lstm", "additive", "softmax", 128, 0, "fp32"),
        ("lstm", "additive", "threshold", 256, 10_000, "bf16"),
        ("lstm", "dot", "softmax", 512, 0, "fp32"),
        ("gru", "separable", "softmax1", 128, 100, "fp16"),
        ("rnn", "dot", "threshold", 128, 0, "fp32"),
    ],
)
def test_the_kernels_compile_for_a_gpu_and_stay_in_its_registers(
    cell: str, score: str, normalizer: str, hidden_size: int, capacity: int, weights: str
) -> None:
    """Compute capability 9.0; no GPU is needed to compile for one."""
    told = compiled_for_gpu("rows", "any", cell, score, normalizer, str(hidden_size), str(capacity), weights)
    used = re.findall(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", told)
    assert len(used) == 2, told
    assert all(int(stack) <= 16 and local == "0" for _, stack, local in used), f"registers spill: {told}"
