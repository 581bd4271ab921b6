"""The Triton kernels: equal to the reference in Triton's interpreter, or on a GPU; and compiled for one without one.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding import SAB, SABState
from reminding.ops import cuda_op
from tests.nn.samples import assert_same_gradients, assert_same_recall, assert_same_state, draw, gradients, make
from tests.tolerance import assert_equal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        cuda_op.missing() is not None, reason=f"{cuda_op.missing()}; `make test-all` has Triton interpret its kernels"
    ),
]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {"k_trunc": 4},
    "paper": {"k_top": 2, "k_att": 2, "k_trunc": 3, "normalizer": "threshold"},
    "softmax1, scaled": {"k_top": 2, "k_att": 2, "k_trunc": 3, "normalizer": "softmax1", "recall_scale": 0.7},
    "dot": {"k_top": 1, "k_att": 1, "k_trunc": 5, "score": "dot", "cell": "gru"},
    "dot, threshold": {"k_top": 1, "k_att": 1, "score": "dot", "cell": "rnn", "normalizer": "threshold"},
    "separable": {"k_top": 2, "k_att": 2, "k_trunc": 3, "score": "separable", "normalizer": "softmax1"},
    "two layers": {"num_layers": 2, "k_top": 3, "k_att": 2, "k_trunc": 4, "cell": "gru", "score_size": 7},
    "no biases, never cut": {"bias": False, "k_top": 2, "k_att": 3, "k_trunc": None},
    "no credit": {"backtrack": False, "k_top": 2, "k_att": 2, "k_trunc": 3},
    "nothing remembered": {"k_top": 0, "k_trunc": 3},
}


def pair(dtype: torch.dtype = torch.float64, **options: Any) -> Iterator[SAB]:
    """The same layer on the kernels and on the reference."""
    for backend in ("cuda", "reference"):
        yield make(3, 5, backend=backend, **options).to(DEVICE, dtype)


def results(layer: SAB, x: Tensor, state: SABState | None = None, **further: Any) -> tuple[Any, dict[str, Tensor]]:
    """What a call returns, and every gradient of a loss on all of it."""
    output, after, recall = layer(x, state, return_recall=True, **further)
    loss = (output * draw(*output.shape, seed=8).to(output)).sum() + recall.summary.pow(2).sum()
    loss = loss + after.h.pow(2).sum() + (after.memory * draw(*after.memory.shape, seed=9).to(output)).sum()
    loss = loss + after.c.sum() if isinstance(after.c, Tensor) else loss
    return (output, after, recall), gradients(layer, loss, x=x)


@pytest.mark.parametrize("engine", ["autograd", "replay"])
@pytest.mark.parametrize("options", SETTINGS.values(), ids=SETTINGS.keys())
def test_the_kernels_give_the_reference(options: dict[str, Any], engine: str) -> None:
    x = draw(9, 2, 3).to(DEVICE).requires_grad_()
    (ran, found), (wanted, gradient) = (results(layer, x) for layer in pair(engine=engine, **options))
    assert_equal(ran[0], wanted[0], "output")
    assert_same_state(ran[1], wanted[1])
    assert_same_recall(ran[2], wanted[2])
    assert_same_gradients(found, gradient)


def test_float32_is_close() -> None:
    x = draw(7, 2, 3).float().to(DEVICE).requires_grad_()
    layers = pair(dtype=torch.float32, k_top=2, k_att=2, k_trunc=3)
    (ran, found), (wanted, gradient) = (results(layer, x) for layer in layers)
    assert_equal(ran[0], wanted[0], "output")
    assert_same_gradients(found, gradient)


def test_streams_go_on_out_of_phase() -> None:
    """Rows that begin within a call, chunks whose borders lie in segments, and credit into the call before."""
    x, reset = draw(11, 3, 3).to(DEVICE), torch.zeros(11, 3, dtype=torch.bool)
    reset[2, 1] = reset[5, 0] = True
    found: list[dict[str, Tensor]] = []
    states: list[SABState] = []
    for layer in pair(k_top=2, k_att=2, k_trunc=3):
        first, state = layer(x[:5], reset=reset[:5])
        second, state = layer(x[5:], state, reset=reset[5:])
        found.append(gradients(layer, first.pow(2).sum() + second.pow(3).sum()))
        states.append(state)
    assert_same_state(*states)
    assert_same_gradients(*found)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"capacity": 2}, "it keeps all memories, and has no capacity"),
        ({"semantics": "release"}, "it has the paper's semantics only"),
        ({"dtype": torch.bfloat16}, "it computes float32 and float64, not torch.bfloat16"),
        ({"k_top": None}, "it has no k_top=None"),
    ],
)
def test_what_it_cannot_do_it_says(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"backend='cuda' cannot run: {reason}"):
        SAB(3, 4, backend="cuda", device=DEVICE, **options)


def test_auto_does_not_take_what_no_gpu_has_run() -> None:
    assert SAB(3, 4, device=DEVICE).plan(8).backend != "cuda"


COMPILE = """
import subprocess, sys, tempfile
from pathlib import Path
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from reminding.ops.cpu_op import rule_of
from reminding.ops.cuda_op import kernels
from reminding.ops.cuda_op.recurrence import WARPS, Call, padded

cell, score, normalizer, H = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
rule = rule_of(cell=cell, score=score, normalizer=normalizer, k_top=5, k_att=4, k_trunc=16)
D = 0 if score == "separable" else H
call = Call(rule, 64, 4, H, D, 256)
absent = {"separable": ("w1", "w2"), "dot": ("w3",), "additive": ()}[score]
own = {
    "forward_kernel": {"MP": padded(call.M)},
    "backward_kernel": {"WP": padded(D or H), "BACKTRACK": True, "RECURRENT": {"lstm": 4, "gru": 3, "rnn": 1}[cell]},
}
for name, further in own.items():
    kernel = getattr(kernels, name)
    fixed = {**call.shapes, **further, **dict.fromkeys(absent)}
    kinds = dict.fromkeys(("T", "B", "H", "D", "M", "k_top", "ranks", "k_att"), "i32") | {"k_trunc": "i64"}
    kinds |= {"recall_scale": "fp32", "score_scale": "fp32", "step0": "*i64", "count0": "*i64"}
    kinds |= {"slots": "*i32", "edges": "*i32"} | dict.fromkeys(fixed, "constexpr")
    signature = {argument: kinds.get(argument, "*fp32") for argument in kernel.arg_names}
    constants = {(kernel.arg_names.index(argument),): value for argument, value in fixed.items()}
    source = ASTSource(kernel, signature, constexprs=constants)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": WARPS})
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        told = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True)
    print(name, told.stdout, told.stderr)
"""


@pytest.mark.parametrize(
    ("cell", "score", "normalizer", "hidden_size"),
    [
        ("lstm", "additive", "softmax", 128),
        ("lstm", "additive", "threshold", 256),
        ("lstm", "dot", "softmax", 512),
        ("gru", "separable", "softmax1", 128),
        ("rnn", "dot", "threshold", 128),
    ],
)
def test_the_kernels_compile_for_a_gpu_and_stay_in_its_registers(
    cell: str, score: str, normalizer: str, hidden_size: int
) -> None:
    """Compute capability 9.0; no GPU is needed to compile for one."""
    words = [sys.executable, "-c", COMPILE, cell, score, normalizer, str(hidden_size)]
    settings = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    ran = subprocess.run(words, capture_output=True, text=True, check=False, env=settings)
    assert ran.returncode == 0, ran.stderr[-2000:]
    used = re.findall(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", ran.stdout)
    assert len(used) == 2, ran.stdout
    assert all(int(stack) <= 16 and local == "0" for _, stack, local in used), f"registers spill: {ran.stdout}"
