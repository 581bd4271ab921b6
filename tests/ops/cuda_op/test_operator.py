"""The Triton kernels as PyTorch operators. test_forward.py tests their numbers.

Shapes: T time, B batch, I input, H hidden, D score width.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reminding import SAB
from reminding.ops import cuda_op
from reminding.ops.contract import LayerInput, OpRule, Recalled, on_device
from tests.nn.samples import draw, make
from tests.ops.cuda_op.arguments import arguments

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        cuda_op.missing() is not None, reason=f"{cuda_op.missing()}; `make test-all` has Triton interpret its kernels"
    ),
]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("cell", "score", "evict", "weights", "replay"),
    [
        ("lstm", "additive", None, torch.float64, False),
        ("gru", "dot", "fifo", torch.bfloat16, True),
        ("rnn", "separable", "least_recalled", torch.float32, False),
    ],
)
def test_opcheck_finds_nothing(cell: str, score: str, evict: str | None, weights: torch.dtype, replay: bool) -> None:
    torch.manual_seed(0)
    given = arguments(cell, score, evict, weights, replay, DEVICE)
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    forward: Any = torch.ops.reminding.sab_cuda_forward.default
    torch.library.opcheck(forward, given, test_utils=tests)
    made = forward(*given)
    arriving = [torch.ones_like(made[i]) for i in (0, 1, 9, 3)]
    backward: Any = torch.ops.reminding.sab_cuda_backward.default
    held = [tensor.detach() if isinstance(tensor, Tensor) else tensor for tensor in (*given[:12], *made)]
    for need_x in (True, False):
        words = (*arriving, *held[:12], held[12:21], held[24:], given[13], replay, need_x)
        torch.library.opcheck(backward, words, test_utils=("test_schema", "test_faketensor"))


def call(x: Tensor, h0: Tensor, weights: list[Tensor], **options: Any) -> Recalled:
    """One call of the op with the additive score, for rows that have done 0, 1, 2, ... steps."""
    B, H = h0.shape
    count, step = torch.zeros(B, dtype=torch.int64, device=x.device), torch.arange(B, device=x.device)
    rule = OpRule.of(cell="lstm", score="additive", normalizer="softmax", k_top=2, k_att=2, k_trunc=3)
    state = (h0, torch.zeros_like(h0), x.new_zeros(B, 0, H))
    given = LayerInput(x, *state, count, step, tuple(weights[:4]), tuple(weights[4:]))
    return cuda_op.layer(given, rule, **options)


def given_to(steps: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """An input, a state and the weights of a layer of 3 units."""
    shapes = ((12, 2), (12, 3), (12,), (12,), (4, 3), (4, 3), (4,))
    weights = [draw(*shape, seed=seed).to(DEVICE).requires_grad_() for seed, shape in enumerate(shapes)]
    return draw(steps, 2, 2).to(DEVICE), draw(2, 3).to(DEVICE), weights


@pytest.mark.filterwarnings("ignore")
def test_torch_compile_keeps_one_graph() -> None:
    x, h0, weights = given_to(5)

    def run(x: Tensor) -> Tensor:
        return call(x, h0, weights).output

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    output, wanted = compiled(x), run(x)
    torch.testing.assert_close(output, wanted)
    found = torch.autograd.grad(output.pow(2).sum(), weights)
    for one, other in zip(found, torch.autograd.grad(wanted.pow(2).sum(), weights), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.filterwarnings("ignore")
def test_torch_compile_takes_a_layer() -> None:
    """In several graphs, since a layer's work outside the op is Python."""
    layer = make(3, 5, backend="cuda", device=DEVICE, k_top=2, k_att=1, k_trunc=3)
    x = draw(4, 2, 3).to(DEVICE)

    def run(x: Tensor) -> Tensor:
        return layer(x)[0]

    torch.testing.assert_close(torch.compile(run, backend="aot_eager")(x), run(x))


@pytest.mark.parametrize("replay", [True, False], ids=["replay", "kept"])
def test_a_graph_can_be_used_twice(replay: bool) -> None:
    x, h0, weights = given_to(5)
    loss = call(x, h0, weights, replay=replay).output.pow(2).sum()
    first = torch.autograd.grad(loss, weights, retain_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(first, torch.autograd.grad(loss, weights), strict=True))


@pytest.mark.parametrize(("stride", "offset"), [(3, 0), (3, 2), (4, -1), (20, 5), (20, 15), (1, 0), (2**62, 1)])
def test_milestones_are_the_cs_that_enter_their_steps(stride: int, offset: int) -> None:
    x, h0, weights = given_to(7)
    found = call(x, h0, weights, milestones=(stride, offset)).milestones
    steps = range(offset % stride, 7, stride)
    wanted = [call(x[:t], h0, weights).c if t > 0 else torch.zeros_like(h0) for t in steps]
    assert not found.requires_grad
    assert found.shape == (len(wanted), 2, 3)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_counts_that_agree_are_made_on_the_device_and_others_copied() -> None:
    for counts in ([3, 3, 3], [3, 4, 3], []):
        sent = on_device(torch.tensor(counts, dtype=torch.int64), torch.device("meta"))
        assert (sent.device.type, sent.dtype, sent.shape) == ("meta", torch.int64, (len(counts),))


class Crossings(TorchDispatchMode):
    """Records each operation between the host and a device. Reading a number from the device "meta" fails anyway."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        devices = {x.device.type for x in tree_leaves((args, kwargs, made)) if isinstance(x, Tensor)}
        if len(devices) > 1:
            self.found.append(f"{func} between {devices}")
        return made


@pytest.mark.parametrize("options", [{}, {"capacity": 3, "evict": "least_recalled"}], ids=["unbounded", "bounded"])
@pytest.mark.skipif(not cuda_op.interpreted(), reason="a device without numbers stands for the GPU")
def test_a_call_neither_waits_for_the_device_nor_copies_to_it(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CUDA graph can then capture it. Autocast does not exist on "meta", so it is not asked for."""

    def nothing(*_: Any, **__: Any) -> contextlib.nullcontext[None]:
        return contextlib.nullcontext()

    def never(*_: Any) -> bool:
        return False

    monkeypatch.setattr(torch, "autocast", nothing)
    monkeypatch.setattr(torch, "is_autocast_enabled", never)
    layer = SAB(3, 5, k_top=2, k_att=2, k_trunc=3, backend="cuda", device="meta", horizon=0, **options)
    x = torch.randn(7, 2, 3, device="meta")
    with Crossings() as crossings:
        _, state = layer(x)
        output, _ = layer(x, state)
        output.sum().backward()
    assert crossings.found == []
