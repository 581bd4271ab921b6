"""What onnxruntime, AOTInductor and torch.compile make of an exported layer computes what the layer computes.

Shapes: T time, B batch, I input.
"""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding.nn.export import SequenceModule, State, StepModule
from tests.nn.export.checks import LAYERS, OLDEST, Run, check, stepped
from tests.nn.samples import draw, make

writes_onnx = pytest.mark.skipif(OLDEST, reason="the ONNX exporter of PyTorch 2.6 cannot convert a layer")
compiles = pytest.mark.skipif(
    OLDEST or shutil.which("g++") is None, reason="needs a newer PyTorch than 2.6, and a C++ compiler"
)
OFTEN = ("defaults", "least recalled goes")
"""What is written as ONNX in every run of the tests; the others take ten seconds each."""


def onnx_session(module: SequenceModule | StepModule, path: Path) -> Run:
    """The results of onnxruntime for a module's file."""
    import onnxruntime

    module.save_onnx(path)
    session: Any = onnxruntime.InferenceSession(path)
    assert [each.name for each in session.get_inputs()] == ["x", *module.names]
    assert [each.name for each in session.get_outputs()] == ["y", *(f"new_{name}" for name in module.names)]

    def run(x: Tensor, state: State) -> tuple[Tensor, State]:
        given = dict(zip(["x", *module.names], (tensor.numpy() for tensor in (x, *state)), strict=True))
        y, *after = (torch.from_numpy(array) for array in session.run(None, given))
        return y, tuple(after)

    return run


@pytest.mark.skipif(not OLDEST, reason="PyTorch is newer than 2.6")
def test_onnx_needs_a_newer_pytorch_than_2_6(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match=r"newer PyTorch than 2\.6, got 2\.6"):
        SequenceModule(make()).save_onnx(tmp_path / "layer.onnx")


@writes_onnx
@pytest.mark.parametrize(
    "name", [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in LAYERS]
)
def test_onnxruntime_computes_what_the_layer_computes(name: str, tmp_path: Path) -> None:
    layer = make(dtype=torch.float32, **LAYERS[name])
    module = SequenceModule(layer)
    run = onnx_session(module, tmp_path / "layer.onnx")
    for sizes in ((1, 1), (7, 3), (30, 2)):
        check(layer, module, run, sizes, 1e-5)


@pytest.mark.slow
@compiles
@pytest.mark.filterwarnings("ignore")  # PyTorch's own
@pytest.mark.parametrize("options", [{"num_layers": 2, "k_top": 2, "capacity": 4}, {"batch_first": True}])
def test_aotinductor_makes_a_library_that_computes_what_the_layer_computes(
    options: dict[str, Any], tmp_path: Path
) -> None:
    layer = make(dtype=torch.float32, **options)
    module = SequenceModule(layer)
    inductor: Any = importlib.import_module("torch._inductor")  # which takes seconds
    path = inductor.aoti_compile_and_package(module.export(), package_path=str(tmp_path / "layer.pt2"))
    compiled = inductor.aoti_load_package(path)

    def run(x: Tensor, state: State) -> tuple[Tensor, State]:
        return compiled(x.contiguous(), state)

    for sizes in ((1, 1), (7, 3), (30, 2)):
        check(layer, module, run, sizes, 1e-5)


@pytest.mark.slow
@compiles
@pytest.mark.filterwarnings("ignore")  # PyTorch's own
def test_torch_compile_makes_one_graph_of_a_sequence() -> None:
    layer = make(dtype=torch.float32, k_top=2)
    module = SequenceModule(layer)
    dynamo: Any = importlib.import_module("torch._dynamo")  # which takes seconds
    with dynamo.config.patch(capture_scalar_outputs=True):
        compiled: Any = torch.compile(module, fullgraph=True)
        for sizes in ((7, 3), (30, 2)):
            check(layer, module, compiled, sizes, 1e-5)


@writes_onnx
def test_onnxruntime_steps_as_the_layer_does(tmp_path: Path) -> None:
    layer = make(dtype=torch.float32, k_top=2, k_att=2)
    module = StepModule(layer)
    loop = stepped(onnx_session(module, tmp_path / "step.onnx"))
    for sizes in ((1, 1), (9, 3)):
        check(layer, module, loop, sizes, 1e-5)
    x = draw(4, 2, 3, dtype=torch.float32)
    x[1, 0, 2] = torch.inf
    output, _ = loop(x, module.begin(2, steps=4))
    assert bool(output[1:, 0].isnan().all())
    assert bool(output[:, 1].isfinite().all())
