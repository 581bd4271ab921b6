"""The layer equals float64 vectors that were made independently, by a numpy loop and by the authors' code.

Shapes: B batch, T time, I input, H hidden, C outputs, D score width, M memory slots, K k_top.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from reminding import SAB, Recall
from reminding.ops import cuda_op
from reminding.ops.cpu_op import missing
from tests.tolerance import assert_equal

Arrays = dict[str, Tensor]

# REMINDING_GOLDEN=/path selects another folder of the same kind.
FOLDER = Path(os.environ.get("REMINDING_GOLDEN", Path(__file__).parent.parent / "golden"))
FILES = sorted(FOLDER.glob("*/*.npz"))

PARAMETERS = {
    "W_ih": "weight_ih_l0",
    "W_hh": "weight_hh_l0",
    "b_ih": "bias_ih_l0",
    "b_hh": "bias_hh_l0",
    "W1": "score_memory_l0",
    "W2": "score_query_l0",
    "W3": "score_out_l0",
    "w_t": "score_weight_l0",
}


def read(path: Path) -> tuple[dict[str, int | str], Arrays]:
    with np.load(path) as file:
        meta = json.loads(str(file["meta"]))
        return meta, {name: torch.from_numpy(file[name]) for name in file.files if name != "meta"}


WAYS: dict[str, dict[str, Any]] = {
    "reference": {"backend": "reference"},
    "cpu": {"backend": "cpu", "engine": "autograd"},
    "replay": {"backend": "cpu", "engine": "replay"},
    "cpu, roomy": {"backend": "cpu", "engine": "autograd", "capacity": 1000, "evict": "least_recalled"},
}


def build(meta: dict[str, int | str], arrays: Arrays, way: str, dtype: torch.dtype = torch.float64) -> SAB:
    if way not in ("reference", "cuda") and (reason := missing()) is not None:
        pytest.skip(reason)
    release = meta["kind"] == "release"
    hidden_size, input_size = arrays["W_hh"].shape[1], arrays["W_ih"].shape[1]
    layer = SAB(
        input_size,
        hidden_size,
        k_top=int(meta["k_top"]),
        k_att=int(meta["k_att"]),
        k_trunc=int(meta["k_trunc"]),
        score="separable" if release else "additive",
        score_size=None if release else arrays["W1"].shape[0],
        normalizer="threshold",
        semantics=str(meta["kind"]),
        batch_first=True,
        dtype=dtype,
        **WAYS.get(way, {"backend": way}),
    )
    layer.load_state_dict({name: arrays[key].to(dtype) for key, name in PARAMETERS.items() if key in arrays})
    return layer


def readout(arrays: Arrays, h: Tensor, s: Tensor) -> tuple[Tensor, Arrays]:
    """The file's own readout: V1 h + V2 s + b, or W_fc [h; s] + b_fc."""
    names = ("V1", "V2", "b") if "V1" in arrays else ("W_fc", "b_fc")
    weights = {name: arrays[name].to(h.dtype).clone().requires_grad_() for name in names}
    if "V1" in weights:
        return F.linear(h, weights["V1"]) + F.linear(s, weights["V2"], weights["b"]), weights
    return F.linear(torch.cat([h, s], dim=2), weights["W_fc"], weights["b_fc"]), weights


def expected_recall(arrays: Arrays) -> tuple[Tensor, Tensor]:
    """The steps at which the recalled slots were stored, and their weights, (B, T, K) each."""
    slot = arrays["sel"]
    at = slot.clamp(min=0)
    nothing = slot < 0
    step = arrays["mem_step"][at].masked_fill(nothing, 0)
    return step, arrays["w"].gather(2, at).masked_fill(nothing, 0.0)


def check_forward(arrays: Arrays, h: Tensor, recall: Recall) -> None:
    step, weight = expected_recall(arrays)
    kept = step.shape[2]
    assert torch.equal(recall.step[..., :kept], step), "recalled steps"
    assert_equal(recall.weight[..., :kept], weight, "recall weights")
    assert not recall.step[..., kept:].any(), "the file is wide enough for all that was recalled"
    assert_equal(h, arrays["h"], "h")
    assert_equal(recall.summary, arrays["s"], "summary")


def floor(arrays: Arrays, key: str, largest: float) -> float:
    """The size below which a gradient counts as 0, relative to the largest gradient in the file.

    With k_top=1 the scorer's gradients are exactly 0. In float32 the terms that cancel are up to 1e4 times larger
    than the others, since each is divided by a sum of weights; the remainder depends on the machine's rounding.
    """
    vanishes = float(arrays[f"grad_{key}"].abs().max()) < 1e-12 * largest
    return (1e-1 if vanishes else 1e-2) * largest


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("way", WAYS)
def test_outputs_recall_and_every_gradient(path: Path, dtype: torch.dtype, way: str) -> None:
    meta, arrays = read(path)
    layer = build(meta, arrays, way, dtype)
    x = arrays["x"].to(dtype).requires_grad_()
    h, state, recall = layer(x, return_recall=True)
    check_forward(arrays, h, recall)
    assert_equal(state.c[0], arrays["c"][:, -1], "c")
    assert torch.equal(state.memory_step[0], arrays["mem_step"].expand(len(x), -1)), "steps in memory"

    y, weights = readout(arrays, h, recall.summary)
    assert_equal(y, arrays["y"], "y")
    loss = (y * arrays["R"].to(dtype)).sum()
    assert_equal(loss, arrays["loss"], "loss")
    loss.backward()
    assert x.grad is not None
    largest = max(float(arrays[name].abs().max()) for name in arrays if name.startswith("grad_"))
    assert_equal(x.grad, arrays["grad_x"], "gradient of x", floor=1e-2 * largest)
    for key, name in PARAMETERS.items():
        if key in arrays:
            gradient = layer.get_parameter(name).grad
            assert gradient is not None
            assert_equal(gradient, arrays[f"grad_{key}"], f"gradient of {key}", floor=floor(arrays, key, largest))
    for name, weight in weights.items():
        assert weight.grad is not None
        assert_equal(weight.grad, arrays[f"grad_{name}"], f"gradient of {name}", floor=1e-2 * largest)


@pytest.mark.slow
@pytest.mark.skipif(not cuda_op.interpreted(), reason="`make test-all` has Triton interpret its kernels")
@pytest.mark.parametrize("name", ["paper/k3_a1_t5_B1_H1", "release/k3_a3_t100"])
def test_the_triton_kernels_give_them(name: str) -> None:
    path = next(path for path in FILES if f"{path.parent.name}/{path.stem}" == name)
    test_outputs_recall_and_every_gradient(path, torch.float64, "cuda")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
@pytest.mark.parametrize("way", WAYS)
def test_credit_reaches_exactly_the_steps_it_should(path: Path, way: str) -> None:
    """reach[t, s] is the norm of d(loss at t) / d x_s: where credit flows, step by step."""
    meta, arrays = read(path)
    layer = build(meta, arrays, way)
    x = arrays["x"].clone().requires_grad_()
    h, _, recall = layer(x, return_recall=True)
    y, _ = readout(arrays, h, recall.summary)
    for t in range(0, y.shape[1], 5):
        loss = (y[:, t] * arrays["R"][:, t]).sum()
        (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
        assert_equal(gradient.pow(2).sum((0, 2)).sqrt(), arrays["reach"][t], f"reach of step {t}")


def test_the_golden_files_are_there() -> None:
    kinds = {path.parent.name for path in FILES}
    assert kinds == {"paper", "release"}
