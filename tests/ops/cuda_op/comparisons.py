"""Layers on the Triton kernels and on the reference, and comparisons of the two.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from reminding import SAB, SABState
from reminding.ops.scores import SCORES
from tests.nn.samples import assert_same_gradients, assert_same_recall, assert_same_state, draw, gradients, make
from tests.places import ROOT
from tests.tolerance import assert_equal

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SEEN = ("output", "summary", "h", "memory", "weight")

SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {"k_trunc": 4},
    "paper": {"k_top": 2, "k_att": 2, "k_trunc": 3, "normalizer": "threshold"},
    "softmax1, scaled": {"k_top": 2, "k_att": 2, "k_trunc": 3, "normalizer": "softmax1", "recall_scale": 0.7},
    "dot": {"k_top": 1, "k_att": 1, "k_trunc": 5, "score": "dot", "cell": "gru"},
    "dot, threshold": {"k_top": 1, "k_att": 1, "score": "dot", "cell": "rnn", "normalizer": "threshold"},
    **{f"every {name}": {"k_top": 2, "k_att": 2, "k_trunc": 3, "score": name} for name in SCORES},
    "separable": {"k_top": 2, "k_att": 2, "k_trunc": 3, "score": "separable", "normalizer": "softmax1"},
    "two layers": {"num_layers": 2, "k_top": 3, "k_att": 2, "k_trunc": 4, "cell": "gru", "score_size": 7},
    "no biases, never cut": {"bias": False, "k_top": 2, "k_att": 3, "k_trunc": None},
    "no credit": {"backtrack": False, "k_top": 2, "k_att": 2, "k_trunc": 3},
    "forgets": {"forget_scale": 0.7, "k_top": 2, "k_att": 2, "k_trunc": 3},
    "nothing remembered": {"k_top": 0, "k_trunc": 3},
    "release": {"semantics": "release", "k_top": 3, "k_att": 2, "k_trunc": 3},
    "release, bounded": {
        "semantics": "release",
        "score": "dot",
        "k_top": 2,
        "k_att": 1,
        "capacity": 3,
        "evict": "least_recalled",
    },
    "release of one": {"semantics": "release", "score": "additive", "k_top": 1, "k_att": 1, "recall_scale": 0.7},
    "release, softmax": {"semantics": "release", "normalizer": "softmax", "k_top": 2, "k_att": 2, "cell": "gru"},
    "the newest": {"k_top": 2, "k_att": 1, "k_trunc": 3, "capacity": 3},
    "the most recalled": {"k_top": 2, "k_att": 1, "k_trunc": 3, "capacity": 3, "evict": "least_recalled"},
    "one memory": {"k_top": 3, "k_att": 2, "k_trunc": 3, "capacity": 1, "evict": "least_recalled", "score": "dot"},
    "every memory": {"k_top": None, "k_att": 1, "k_trunc": 4},
    "every memory, threshold": {"k_top": None, "k_att": 2, "k_trunc": 3, "normalizer": "threshold", "score": "dot"},
    "all of the newest": {"k_top": None, "k_att": 1, "k_trunc": 3, "capacity": 3, "score": "separable"},
    "the newest, paper": {"k_top": 2, "k_att": 1, "k_trunc": 4, "capacity": 4, "normalizer": "threshold"},
}


def pair(
    dtype: torch.dtype = torch.float64, hidden_size: int = 5, device: str = DEVICE, **options: Any
) -> Iterator[SAB]:
    """The same layer twice: on the kernels and on the reference."""
    for backend in ("cuda", "reference"):
        yield make(3, hidden_size, backend=backend, device=device, **options).to(dtype)


def rounded_pair(dtype: torch.dtype, hidden_size: int = 5, **options: Any) -> tuple[SAB, SAB]:
    """A layer in half precision on the kernels, and the same rounded weights in float32 on the reference."""
    layer, wide = pair(torch.float32, hidden_size, **options)
    layer = layer.to(dtype)
    wide.load_state_dict(layer.state_dict())
    return layer, wide


def results(layer: SAB, x: Tensor, state: SABState | None = None, **further: Any) -> tuple[Any, dict[str, Tensor]]:
    """The results of a call, and every gradient of a loss on all of them."""
    output, after, recall = layer(x, state, return_recall=True, **further)
    loss = (output * draw(*output.shape, seed=8).to(output)).sum() + recall.summary.pow(2).sum()
    loss = loss + after.h.pow(2).sum() + (after.memory * draw(*after.memory.shape, seed=9).to(output)).sum()
    loss = loss + after.c.sum() if isinstance(after.c, Tensor) else loss
    return (output, after, recall), gradients(layer, loss, x=x)


def assert_same(x: Tensor, **options: Any) -> None:
    """Outputs, state, recalls and every gradient of a pair of layers agree to 1e-9."""
    (ran, found), (wanted, gradient) = (results(layer, x) for layer in pair(**options))
    assert_equal(ran[0], wanted[0], "output")
    assert_same_state(ran[1], wanted[1])
    assert_same_recall(ran[2], wanted[2])
    assert_same_gradients(found, gradient)


def assert_same_streams(x: Tensor, reset: Tensor, **options: Any) -> None:
    """The last state and the gradients of two calls, of 5 steps and the rest, agree for a pair of layers."""
    found: list[dict[str, Tensor]] = []
    states: list[SABState] = []
    for layer in pair(**options):
        first, state = layer(x[:5], reset=reset[:5])
        second, state = layer(x[5:], state, reset=reset[5:])
        found.append(gradients(layer, first.pow(2).sum() + second.pow(3).sum()))
        states.append(state)
    assert_same_state(*states)
    assert_same_gradients(*found)


def everything(layer: SAB, x: Tensor) -> dict[str, Tensor]:
    """The results of a call, and every gradient of a loss whose own gradient is exact in every type."""
    output, state, recall = layer(x, return_recall=True)
    signs = draw(*output.shape, seed=8).sign().to(output)
    loss = (output.float() * signs).sum() + (
        state.memory.float() * draw(*state.memory.shape, seed=9).sign().to(output)
    ).sum()
    seen = output, recall.summary, state.h, state.memory, recall.weight
    return dict(zip(SEEN, seen, strict=True)) | gradients(layer, loss, x=x)


def assert_near(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    """Tensors agree within the kernels' tolerance for their type. A gradient below 1% of the largest counts as 0."""
    floor = 1e-2 * max(float(tensor.abs().max()) for name, tensor in want.items() if name not in SEEN)
    for name, tensor in want.items():
        assert_equal(got[name], tensor, name, backend="cuda", floor=1e-3 if name in SEEN else floor)


def compiled_for_gpu(*words: str) -> str:
    """The output of compiling kernels for a GPU, in a process without Triton's interpreter."""
    command = [sys.executable, "-m", "tests.ops.cuda_op.compile_for_gpu", *words]
    settings = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=settings, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout
