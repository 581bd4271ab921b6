"""Seeded layers and inputs, and comparisons of all results of two runs of a layer.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from reminding import SAB, Recall, SABState
from reminding.ops.cpu_op import missing
from tests.tolerance import assert_equal

CELLS = ("lstm", "gru", "rnn")
TORCH_LAYERS: dict[str, type[nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}

LAYERS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "paper": {"k_top": 2, "k_att": 2, "k_trunc": 3, "normalizer": "threshold"},
    "release": {"k_top": 3, "k_att": 2, "k_trunc": 3, "semantics": "release"},
    "release dot": {"k_top": 2, "k_att": 2, "k_trunc": 3, "semantics": "release", "score": "dot"},
    "two layers": {"num_layers": 2, "k_top": 2, "k_att": 3, "k_trunc": 4, "cell": "gru"},
    "dense rnn": {"cell": "rnn", "k_top": None, "k_att": 1, "k_trunc": None, "score": "dot"},
    "rare cuts": {"k_top": 2, "k_att": 3, "k_trunc": 50, "score": "separable"},
    "never cut": {"k_top": 2, "k_att": 3, "k_trunc": None},
    "forgets": {"forget_scale": 0.6, "k_top": 2, "k_att": 2, "k_trunc": 5, "normalizer": "softmax1"},
    "own null and gate": {"k_top": 2, "k_att": 2, "normalizer": "softmax1", "null_score": 0.5, "summary_gate": 0.1},
    "stores proposals": {"k_top": 2, "k_att": 1, "k_trunc": 3, "stored": "proposal"},
    "no memory": {"k_top": 0, "k_trunc": 4},
}
"""Settings that take different code paths in a layer, by name."""

BUILT = ("reference", "cpu") if missing() is None else ("reference",)
"""The backends available on the CPU: only the reference if there is no C++ compiler."""
needs_op = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def make(input_size: int = 3, hidden_size: int = 4, num_layers: int = 1, *, seed: int = 0, **options: Any) -> SAB:
    """A layer with weights so large that its states and recalls differ from step to step."""
    options.setdefault("dtype", torch.float64)
    layer = SAB(input_size, hidden_size, num_layers, **options)
    spread(layer, seed)
    return layer


def spread(module: nn.Module, seed: int = 0, scale: float = 0.6) -> None:
    """Draw every parameter anew from a normal distribution."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * scale)


def first_is(number: int) -> Callable[[Tensor], Tensor]:
    """A function that gives a tensor with a number in its first place."""

    def change(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[0] = number
        return tensor

    return change


def draw(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def gradients(module: nn.Module, loss: Tensor, **further: Tensor) -> dict[str, Tensor]:
    """The gradient of every parameter and of further tensors by name, zeros if there is none."""
    tensors = {**dict(module.named_parameters()), **further}
    grad: Any = torch.autograd.grad  # annotated as if no gradient could be None
    found = grad(loss, list(tensors.values()), allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(tensor) if gradient is None else gradient
        for (name, tensor), gradient in zip(tensors.items(), found, strict=True)
    }


def run(layer: SAB, x: Tensor, mask: Tensor) -> tuple[Tensor, SABState, Recall, dict[str, Tensor]]:
    """The results of a call with resets `mask` (T, B), and every gradient of a loss on them, memories included."""
    x = x.clone().requires_grad_()
    output, state, recall = layer(x, reset=mask, return_recall=True)
    loss = (output * draw(*output.shape, seed=5, dtype=x.dtype)).sum() + recall.summary.pow(2).sum()
    for part in state.layers:
        loss = loss + (part.memory.value * draw(*part.memory.value.shape, seed=6, dtype=x.dtype)).sum()
    return output, state, recall, gradients(layer, loss, x=x)


def assert_same_gradients(got: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> None:
    """Every gradient agrees. A number below 1% of the largest gradient counts as 0."""
    assert set(got) == set(want)
    floor = 1e-2 * max((float(gradient.abs().max()) for gradient in want.values() if gradient.numel()), default=1.0)
    for name, gradient in want.items():
        assert_equal(got[name], gradient, f"gradient of {name}", floor=max(floor, 1e-6))


def assert_same_state(got: SABState, want: SABState) -> None:
    assert torch.equal(got.step, want.step), "step counts"
    assert torch.equal(got.memory_step, want.memory_step), "steps in memory"
    assert_equal(got.h, want.h, "h")
    assert (got.c is None) == (want.c is None)
    if isinstance(got.c, Tensor) and isinstance(want.c, Tensor):
        assert_equal(got.c, want.c, "c")
    assert_equal(got.memory, want.memory, "memory")
    for layer, wanted in zip(got.layers, want.layers, strict=True):
        assert_equal(layer.memory.weight, wanted.memory.weight, "accumulated weight")
        assert torch.equal(layer.memory.count, wanted.memory.count), "filled slots"


def assert_same_recall(got: Recall, want: Recall) -> None:
    assert torch.equal(got.step, want.step), "recalled steps"
    assert_equal(got.weight, want.weight, "recall weights")
    assert_equal(got.summary, want.summary, "summary")


def row(state: SABState, index: int) -> SABState:
    return state.rows(slice(index, index + 1))


def turned(recall: Recall) -> Recall:
    """The tensor with its time and batch axes exchanged."""
    return recall.map(lambda tensor: tensor.transpose(-3, -2))


def chunks(x: Tensor, sizes: int | list[int]) -> list[Tensor]:
    """A sequence (T, ...) in pieces."""
    split: Any = torch.split
    return list(split(x, sizes))


def added(total: dict[str, Tensor], found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The sum, name by name; an empty total counts as zeros."""
    return {name: total[name] + gradient if total else gradient for name, gradient in found.items()}


def streamed(layer: SAB, x: Tensor, weight: Tensor, size: int) -> tuple[dict[str, Tensor], SABState]:
    """The summed gradients of the losses of all chunks, each with its own backward pass, and the last state."""
    total: dict[str, Tensor] = {}
    state: Any = None
    for part, w in zip(chunks(x, size), chunks(weight, size), strict=True):
        output, state = layer(part, state)
        total = added(total, gradients(layer, (output * w).sum()))
    return total, state


def joined(recalls: list[Recall]) -> Recall:
    """The recalls of chunks, joined along time."""
    return Recall(
        *(torch.cat([getattr(recall, name) for recall in recalls]) for name in ("summary", "step", "weight"))
    )


def data_of(output: Tensor | PackedSequence) -> Tensor:
    return output.data if isinstance(output, PackedSequence) else output
