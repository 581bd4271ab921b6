"""Credit into past calls by the Triton kernels equals plain PyTorch's, in Triton's interpreter or on a GPU.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reminding.nn.credit import past as credit
from reminding.ops import cpu_op, cuda_op
from tests.nn.credit.test_changed_weights import BOUNDS, RULES, trained
from tests.nn.samples import assert_same_gradients, chunks, draw, gradients, make, streamed
from tests.ops.cuda_op.comparisons import DEVICE, SETTINGS, compiled_for_gpu, pair

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        cuda_op.missing() is not None, reason=f"{cuda_op.missing()}; `make test-all` has Triton interpret its kernels"
    ),
    pytest.mark.skipif(cpu_op.missing() is not None, reason=f"{cpu_op.missing()}; plain PyTorch sends the credit"),
]

FURTHER: dict[str, dict[str, Any]] = {
    "the horizon cuts": {"k_top": 2, "k_att": 2, "k_trunc": 3, "horizon": 4},
    "forgets": {"k_top": 2, "k_att": 2, "k_trunc": 3, "forget_scale": 0.7},
    "the horizon cuts, gru": {"k_top": 2, "k_att": 1, "k_trunc": None, "horizon": 5, "cell": "gru", "score": "dot"},
    "two layers, out of step with the chunks": {"num_layers": 2, "k_top": 2, "k_att": 2, "k_trunc": 4},
    "waits": {"k_top": 2, "k_att": 2, "k_trunc": 4, "credit_every": 2},
    "own states": {"k_top": 3, "k_att": 1, "k_trunc": 5, "normalizer": "threshold"},
}
CREDITED = {name: options for name, options in {**SETTINGS, **FURTHER}.items() if options.get("k_top", 1) is not None}


@pytest.fixture
def on_kernels(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each backward pass that had credit to send into past calls: whether an op sent it."""
    answers: list[bool] = []
    given = credit.credit_past

    def watched(*arguments: Any) -> Any:
        found = given(*arguments)
        answers.append(arguments[0].backend == "cuda" and found is not None)
        return found

    monkeypatch.setattr(credit, "credit_past", watched)
    return answers


@pytest.mark.parametrize("options", CREDITED.values(), ids=CREDITED.keys())
def test_chunks_credit_the_past_as_plain_pytorch_does(options: dict[str, Any], on_kernels: list[bool]) -> None:
    x, weight = draw(14, 2, 3).to(DEVICE), draw(14, 2, 5, seed=2).to(DEVICE)
    found = [streamed(layer, x, weight, 5)[0] for layer in pair(**options)]
    assert_same_gradients(*found)
    assert on_kernels and all(on_kernels)


def test_chunks_give_the_gradient_of_the_whole(on_kernels: list[bool]) -> None:
    layer, _ = pair(k_top=2, k_att=2, k_trunc=3)
    x, weight = draw(12, 2, 3).to(DEVICE), draw(12, 2, 5, seed=2).to(DEVICE)
    whole = gradients(layer, (layer(x)[0] * weight).sum())
    assert_same_gradients(streamed(layer, x, weight, 4)[0], whole)
    assert on_kernels == [True, True]


def test_rows_out_of_phase_credit_their_own_past(on_kernels: list[bool]) -> None:
    """Two of three rows begin anew within a call, and only one row has a loss."""
    x, reset = draw(13, 3, 3).to(DEVICE), torch.zeros(13, 3, dtype=torch.bool)
    reset[2, 1] = reset[7, 0] = True
    found: list[dict[str, Tensor]] = []
    for layer in pair(k_top=2, k_att=2, k_trunc=3):
        output: Any = None
        state: Any = None
        for part, mask in zip(chunks(x, 5), chunks(reset, 5), strict=True):
            output, state = layer(part, state, reset=mask)
        found.append(gradients(layer, output[:, 1].pow(2).sum()))
    assert_same_gradients(*found)
    assert on_kernels == [True]


def test_weights_that_changed_replay_as_they_are_now(on_kernels: list[bool]) -> None:
    x, found = draw(12, 2, 3).to(DEVICE), list[dict[str, Tensor]]()
    for layer in pair(k_top=2, k_att=1, k_trunc=3):
        _, state = layer(x[:8])
        with torch.no_grad():
            for number, parameter in enumerate(layer.parameters()):
                parameter += 0.2 * draw(*parameter.shape, seed=number).to(parameter)
        found.append(gradients(layer, layer(x[8:], state)[0].pow(2).sum()))
    assert_same_gradients(*found)
    assert on_kernels == [True]


def test_an_encoder_of_past_inputs_is_credited(on_kernels: list[bool]) -> None:
    tokens, weight = (torch.arange(28).view(14, 2) * 5 % 7).to(DEVICE), draw(14, 2, 5, seed=2).to(DEVICE)
    options: dict[str, Any] = {"k_top": 2, "k_att": 2, "k_trunc": 3, "cell": "gru"}
    found: list[dict[str, Tensor]] = []
    for backend in ("cuda", "reference"):
        encoder = nn.Embedding(7, 3, dtype=torch.float64)
        with torch.no_grad():
            encoder.weight.copy_(draw(7, 3, seed=3))
        layer = make(3, 5, backend=backend, device=DEVICE, encoder=encoder.to(DEVICE), **options).double()
        found.append(streamed(layer, tokens, weight, 5)[0])
    assert_same_gradients(*found)
    assert found[1]["encoder.weight"].abs().max() > 0
    assert on_kernels == [True, True]


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("lowered", ["the layer", "autocast"])
def test_half_precision_pays_the_past(kind: torch.dtype, lowered: str, on_kernels: list[bool]) -> None:
    """The result differs from float32 with the same weights only by rounding to half precision."""
    whole, half = (make(3, 5, backend="cuda", device=DEVICE, k_top=2, k_att=2, k_trunc=3).to(kind) for _ in range(2))
    x, weight = draw(12, 2, 3).to(DEVICE, kind), draw(12, 2, 5, seed=2).to(DEVICE, kind)
    wanted, _ = streamed(whole.float(), x.float(), weight.float(), 4)
    half = half if lowered == "the layer" else half.float()
    with torch.autocast(DEVICE, dtype=kind, enabled=lowered == "autocast"):
        given = half.like().dtype
        found, _ = streamed(half, x.to(given), weight.to(given), 4)
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name, gradient in wanted.items():
        assert found[name].dtype == given
        assert (found[name].float() - gradient).abs().max() < 0.05 * largest, name
    assert on_kernels == [True] * 4


def test_every_memory_is_not_for_the_op(on_kernels: list[bool]) -> None:
    kernels, _ = pair(k_top=None, k_trunc=3)
    streamed(kernels, draw(8, 2, 3).to(DEVICE), draw(8, 2, 5).to(DEVICE), 4)
    assert on_kernels == []


@pytest.mark.parametrize(("cell", "normalizer"), [("lstm", "softmax"), ("gru", "threshold"), ("rnn", "softmax1")])
def test_the_kernels_compile_for_a_gpu_and_stay_in_its_registers(cell: str, normalizer: str) -> None:
    """For compute capability 9.0. An LSTM has one kernel more, which computes c."""
    told = compiled_for_gpu("past", "any", cell, "additive", normalizer, "128", "0", "fp32")
    used = re.findall(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", told)
    assert len(used) == 1 + (cell == "lstm"), told
    assert all(int(stack) <= 16 and local == "0" for _, stack, local in used), f"registers spill: {told}"


@pytest.mark.parametrize("bound", BOUNDS[:3], ids=str)
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_credit_is_that_of_plain_pytorch_after_the_weights_have_changed(
    rule: dict[str, Any], bound: dict[str, Any], on_kernels: list[bool]
) -> None:
    options = {**rule, **bound, "score": "dot", "k_att": 1, "k_trunc": 3, "device": DEVICE}
    parts = [part.to(DEVICE) for part in chunks(draw(8, 2, 2, seed=4), 4)]
    assert_same_gradients(trained("cuda", options, parts), trained("reference", options, parts))
    assert any(on_kernels)
