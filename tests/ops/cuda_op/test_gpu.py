"""The Triton kernels on a GPU, at sizes that would take an interpreter days: `make test-gpu`.

Small differences between scores decide which memories are recalled. At a near tie, two orders of summation may choose
differently, and the row then diverges. Only rows that recalled the same memories at all steps are compared, and many
rows must be such.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding import SAB, Recall
from reminding.ops import cuda_op
from tests.nn.samples import assert_same_gradients, gradients, streamed
from tests.tolerance import assert_equal


def obstacle() -> str | None:
    """Why these tests cannot run here, or None if they can."""
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    return "TRITON_INTERPRET=1 keeps the kernels off it" if cuda_op.interpreted() else cuda_op.missing()


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(obstacle() is not None, reason=str(obstacle()))]
DEVICE = "cuda"
LEAST = 0.5
"""The share of rows that must recall the same memories at all steps."""


def pair(I: int, H: int, dtype: torch.dtype = torch.float32, **options: Any) -> tuple[SAB, SAB]:  # noqa: E741
    """A layer on the kernels, and the same layer on the reference, in float32 if the kernels use half precision."""
    options = {"k_top": 5, "k_att": 4, "k_trunc": 16, "horizon": 0} | options
    torch.manual_seed(0)
    layer = SAB(I, H, backend="cuda", device=DEVICE, dtype=dtype, **options)
    wide = torch.promote_types(dtype, torch.float32)
    other = SAB(I, H, backend="reference", device=DEVICE, dtype=wide, **options)
    other.load_state_dict(layer.state_dict())
    return layer, other


def inputs(T: int, B: int, I: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:  # noqa: E741
    return torch.randn(T, B, I, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def rows_that_agree(recall: Recall, other: Recall) -> Tensor:
    """The rows that recalled the same memories at all steps, in any order, (B,) bool."""
    same = recall.step.sort(-1).values == other.step.sort(-1).values  # (T, B, K) for one layer, else (L, T, B, K)
    return same.all(-1).flatten(0, -2).all(0)


def assert_rows_that_agree_are_equal(layer: SAB, other: SAB, x: Tensor, backend: str = "cuda") -> None:
    """Compares recalls, then the outputs and every gradient of rows with equal recalls."""
    wide = x.to(other.like().dtype)
    with torch.no_grad():
        recalls = [one(given, return_recall=True)[2] for one, given in ((layer, x), (other, wide))]
    same = rows_that_agree(*recalls)
    assert same.float().mean() >= LEAST, f"{int(same.sum())} of {len(same)} rows recalled the same"
    found: list[dict[str, Tensor]] = []
    outputs: list[Tensor] = []
    for one, given in ((layer, x), (other, wide)):
        given = given[:, same].clone().requires_grad_()
        output, _ = one(given)
        signs = inputs(*output.shape, seed=2).sign().to(output)
        found.append(gradients(one, (output * signs).float().sum(), x=given))
        outputs.append(output)
    assert_equal(outputs[0], outputs[1], "output", backend=backend)
    largest = max(float(gradient.abs().max()) for gradient in found[1].values())
    for name, gradient in found[1].items():
        assert_equal(found[0][name], gradient, f"gradient of {name}", backend=backend, floor=1e-2 * largest)


@pytest.mark.parametrize("H", [128, 256, 512])
@pytest.mark.parametrize("engine", ["autograd", "replay"])
def test_float32_equals_the_reference_at_the_sizes_that_matter(H: int, engine: str) -> None:
    assert_rows_that_agree_are_equal(*pair(64, H, engine=engine), inputs(1024, 8, 64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("H", [256, 512])
def test_tiles_equal_the_reference(H: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMINDING_TILES", "1")
    layer, other = pair(64, H, dtype)
    assert_rows_that_agree_are_equal(layer, other, inputs(256, 40, 64, dtype))


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "gru", "score": "dot", "normalizer": "softmax1"},
        {"cell": "rnn", "score": "separable"},
        {"normalizer": "threshold", "k_top": 10},
        {"capacity": 64},
        {"capacity": 64, "evict": "least_recalled"},
        {"score_size": 96, "k_trunc": None, "num_layers": 2},
    ],
    ids=["gru, dot", "rnn, separable", "threshold", "the newest", "the most recalled", "two layers"],
)
def test_every_setting_equals_the_reference(options: dict[str, Any]) -> None:
    layers = pair(32, 100, torch.float64, **options)
    assert_rows_that_agree_are_equal(*layers, inputs(512, 16, 32, torch.float64), backend="reference")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("H", [128, 512])
def test_half_precision_is_float32_inside(H: int, dtype: torch.dtype) -> None:
    assert_rows_that_agree_are_equal(*pair(64, H, dtype), inputs(256, 8, 64, dtype))


@pytest.mark.parametrize("chunk", [64, 2048], ids=["in pieces", "at once"])
def test_many_memories_are_ranked(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are more memories than a power of two, and more than one piece of CHUNK."""
    monkeypatch.setattr("reminding.ops.cuda_op.packing.CHUNK", chunk)
    assert_rows_that_agree_are_equal(
        *pair(16, 32, torch.float64, k_att=1), inputs(300, 4, 16, torch.float64), "reference"
    )


@pytest.mark.parametrize("search", ["tree", "auto"])
@pytest.mark.parametrize("score", ["additive", "dot"])
@pytest.mark.parametrize("H", [32, 128, 512])
def test_a_search_gives_what_a_scan_gives(H: int, score: str, search: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit: scores are computed by one function in tiles of one shape."""
    monkeypatch.setattr("reminding.ops.cuda_op.packing.LEAST_SEARCHED", 256)
    found: list[tuple[Tensor, Tensor]] = []
    for how in (search, "scan"):
        layer, _ = pair(64, H, k_att=1, score=score, search=how)
        assert layer.plan(1024).search == how
        with torch.no_grad():
            output, _, recall = layer(inputs(1024, 4, 64), return_recall=True)
        found.append((recall.step, output))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def step(layer: SAB, x: Tensor) -> list[Tensor]:
    """The output and every gradient of a training step."""
    x = x.detach().clone().requires_grad_()
    output, _ = layer(x)
    return [output.detach(), *gradients(layer, output.square().mean(), x=x).values()]


def test_a_race_would_show_between_two_runs() -> None:
    layer, _ = pair(64, 256, capacity=100, evict="least_recalled")
    x = inputs(1024, 200, 64)  # more rows than multiprocessors
    first = step(layer, x)
    for _ in range(3):
        for one, other in zip(step(layer, x), first, strict=True):
            assert torch.equal(one, other)


def test_a_second_stream_gives_the_same() -> None:
    layer, _ = pair(64, 128)
    x = inputs(256, 16, 64)
    wanted = step(layer, x)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        late = x * 1.0  # ready on this stream only
        found = step(layer, late)
    stream.synchronize()
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one CUDA device")
def test_the_kernels_run_where_their_tensors_are() -> None:
    layer, _ = pair(64, 128)
    x = inputs(256, 16, 64)
    wanted = step(layer, x)
    for one, other in zip(step(layer.to("cuda:1"), x.to("cuda:1")), wanted, strict=True):
        torch.testing.assert_close(one.cpu(), other.cpu())


@pytest.mark.parametrize("engine", ["autograd", "replay"])
def test_a_cuda_graph_captures_a_training_step(engine: str) -> None:
    layer, _ = pair(64, 128, engine=engine)
    held = inputs(128, 16, 64)

    def train() -> Tensor:
        for parameter in layer.parameters():
            parameter.grad = None
        output, _ = layer(held)
        output.square().mean().backward()
        return output

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            train()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = train()
    x = inputs(128, 16, 64, seed=5)
    held.copy_(x)
    graph.replay()
    torch.cuda.synchronize()
    wanted = step(layer, x)
    torch.testing.assert_close(output, wanted[0])
    for parameter, other in zip(layer.parameters(), wanted[1:], strict=False):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, other)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_credit_into_past_calls_equals_the_reference(cell: str) -> None:
    layers = pair(16, 100, torch.float64, cell=cell, horizon=None, capacity=20)
    x, weight = (inputs(300, 8, size, torch.float64, seed=size) for size in (16, 100))
    assert_same_gradients(*(streamed(layer, x, weight, 64)[0] for layer in layers))


def test_memories_are_kept_on_the_host_page_locked() -> None:
    x, weight = (inputs(300, 8, size, torch.float64, seed=size) for size in (16, 32))
    found: list[dict[str, Tensor]] = []
    for device in (None, "cpu"):
        layer, _ = pair(16, 32, torch.float64, horizon=None, memory_device=device)
        gradient, state = streamed(layer, x, weight, 64)
        found.append(gradient)
        held = [
            state.layers[0].memory.value,
            *(segment.layers[0].entering.h for segment in state.past.segments),
        ]
        assert {tensor.device.type for tensor in held} == {DEVICE if device is None else device}
        assert all(tensor.is_pinned() for tensor in held) == (device == "cpu")
    assert_same_gradients(*found)


@pytest.mark.filterwarnings("ignore")
def test_torch_compile_gives_the_same() -> None:
    layer, _ = pair(64, 128)
    x = inputs(128, 16, 64)

    def run(x: Tensor) -> Tensor:
        return layer(x)[0].square()

    compiled: Callable[[Tensor], Tensor] = torch.compile(run)
    torch.testing.assert_close(compiled(x), run(x))
    found, wanted = (gradients(layer, function(x).mean()) for function in (compiled, run))
    assert_same_gradients(found, wanted)


def test_autocast_gives_float32_state() -> None:
    layer, other = pair(64, 128)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if not name.startswith("score"):
                parameter.copy_(parameter.bfloat16())
    x = inputs(64, 8, 64, torch.bfloat16)
    with torch.autocast(DEVICE, dtype=torch.bfloat16), torch.no_grad():
        output, state, recall = layer(x, return_recall=True)
    assert {output.dtype, state.h.dtype, state.memory.dtype} == {torch.float32}
    wanted, _, read = other(x.float(), return_recall=True)
    same = rows_that_agree(recall, read)
    assert same.float().mean() >= LEAST
    assert_equal(output[:, same], wanted[:, same], "output", backend="cuda")
