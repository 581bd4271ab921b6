"""A layer exported as a graph of tensors computes what the layer computes, for any length, batch and state.

Shapes: T time, B batch, I input, H hidden, M memory slots.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from reminding import SAB, Memory, SABState
from reminding.nn.export import SequenceModule, State, StepModule
from tests.drawn import drawn
from tests.nn.samples import CELLS, draw, make

Run = Callable[[Tensor, State], tuple[Tensor, State]]

OLDEST = torch.__version__.startswith("2.6.")
writes_onnx = pytest.mark.skipif(OLDEST, reason="the ONNX exporter of PyTorch 2.6 cannot convert a layer")

LAYERS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "paper": {"score": "dot", "normalizer": "threshold", "k_top": 2, "k_att": 1, "recall_scale": 0.5},
    "release": {"semantics": "release", "k_top": 2, "k_att": 2},
    "release softmax": {"semantics": "release", "normalizer": "softmax", "score": "dot", "k_top": 3, "cell": "gru"},
    "two layers": {"num_layers": 2, "k_top": 2, "k_att": 2, "normalizer": "softmax1", "forget_scale": 0.9},
    "oldest goes": {"k_top": 5, "k_att": 1, "capacity": 2, "normalizer": "threshold", "recall_scale": 0.5},
    "least recalled goes": {"k_top": 2, "k_att": 1, "capacity": 3, "evict": "least_recalled", "forget_scale": 0.9},
    "every memory": {"cell": "rnn", "k_top": None, "k_att": 2, "score": "separable", "normalizer": "softmax1"},
    "gated proposals": {"normalizer": "softmax1", "null_score": 0.5, "summary_gate": 0.1, "stored": "proposal"},
    "no memory": {"k_top": 0, "num_layers": 2, "batch_first": True},
}
OFTEN = ("defaults", "least recalled goes")
"""What is written as ONNX in every run of the tests; the others take ten seconds each."""


def stepped(module: StepModule) -> Run:
    """A loop over time around one step."""

    def run(x: Tensor, state: State) -> tuple[Tensor, State]:
        outputs: list[Tensor] = []
        for x_t in x:
            y, state = module(x_t, state)
            outputs.append(y)
        return torch.stack(outputs), state

    return run


def largest(got: Tensor, want: Tensor) -> float:
    """The largest difference, relative to the numbers if these exceed 1."""
    assert got.shape == want.shape
    return float(((got - want).abs() / want.abs().clamp(min=1)).max()) if want.numel() else 0.0


def check(layer: SAB, module: SequenceModule | StepModule, run: Run, sizes: tuple[int, int], within: float) -> None:
    """Compare outputs and last states with the layer's, starting from a state that the layer has reached."""
    steps, rows = sizes
    like = layer.like()
    x = draw(9 + steps, rows, layer.input_size, dtype=like.dtype)
    reset = torch.zeros(9, rows, dtype=torch.bool)
    reset[4, :1] = True  # rows of several ages

    def turned(part: Tensor) -> Tensor:
        return part.transpose(0, 1) if layer.batch_first else part

    with torch.no_grad():
        _, before = layer(turned(x[:9]), reset=turned(reset))
        want, after = layer(turned(x[9:]), before)
        got, tensors = run(turned(x[9:]), module.tensors_of(before, steps=steps))
    assert largest(got, want) <= within, "output"
    check_state(module.state_of(tensors), after, within)


def check_state(got: SABState, want: SABState, within: float) -> None:
    assert torch.equal(got.step, want.step), "step counts"
    assert torch.equal(got.memory_step, want.memory_step), "steps in memory"
    for mine, theirs in zip(got.layers, want.layers, strict=True):
        pairs = zip(
            (mine.h, *mine.cell_state, mine.memory.value, mine.memory.weight),
            (theirs.h, *theirs.cell_state, theirs.memory.value, theirs.memory.weight),
            strict=True,
        )
        assert max(largest(one, other) for one, other in pairs) <= within, "state"
        assert torch.equal(mine.memory.count, theirs.memory.count), "filled slots"


def test_a_module_moves_to_another_type_as_a_whole() -> None:
    layer = make(dtype=torch.float32, capacity=4)
    whole, step = SequenceModule(layer).double(), StepModule(layer).double()
    layer, x = layer.double(), draw(5, 2, 3)
    for module, run in ((whole, whole), (step, stepped(step))):
        with torch.no_grad():
            output, after = run(x, module.begin(rows=2))
            wanted, state = layer(x)
        assert largest(output, wanted) <= 1e-10
        check_state(module.state_of(after), state, 1e-10)


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    normalizer = draw(st.sampled_from(["softmax", "softmax1", "threshold"]))
    return {
        "null_score": draw(st.sampled_from([None, 0.5])) if normalizer == "softmax1" else None,
        "summary_gate": draw(st.sampled_from([None, 0.1])),
        "stored": draw(st.sampled_from(["h", "proposal"])),
        "num_layers": draw(st.sampled_from([1, 1, 2])),
        "cell": draw(st.sampled_from(CELLS)),
        "k_top": draw(st.sampled_from([None, 0, 1, 2, 3, 5])),
        "k_att": draw(st.sampled_from([1, 2, 3])),
        "score": draw(st.sampled_from(["additive", "dot", "separable"])),
        "normalizer": normalizer,
        "semantics": draw(st.sampled_from(["paper", "release"])),
        "capacity": draw(st.sampled_from([None, 1, 2, 4])),
        "evict": draw(st.sampled_from(["fifo", "least_recalled"])),
        "recall_scale": 0.5,
        "bias": draw(st.booleans()),
    }


@drawn(80)
@given(options(), st.integers(1, 8), st.integers(1, 3))
def test_a_loop_over_the_step_is_the_layer(options: dict[str, Any], steps: int, rows: int) -> None:
    layer = make(backend="reference", **options)
    module = StepModule(layer)
    check(layer, module, stepped(module), (steps, rows), 1e-10)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "two layers" else name for name in LAYERS]
)
def test_a_program_holds_for_other_lengths_batches_and_states(name: str) -> None:
    layer = make(**LAYERS[name])
    module = SequenceModule(layer)
    program: Any = module.export().module()
    for sizes in ((1, 1), (7, 3), (30, 2)):
        check(layer, module, program, sizes, 1e-10)


@pytest.mark.parametrize("name", ["defaults", "two layers", "least recalled goes"])
def test_a_program_of_a_step_holds_for_other_batches_and_states(name: str) -> None:
    layer = make(**LAYERS[name])
    module = StepModule(layer)
    program: Any = module.export().module()
    for sizes in ((1, 1), (7, 4)):
        check(layer, module, stepped(program), sizes, 1e-10)


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
@pytest.mark.skipif(
    OLDEST or shutil.which("g++") is None, reason="needs a newer PyTorch than 2.6, and a C++ compiler"
)
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
@pytest.mark.skipif(
    OLDEST or shutil.which("g++") is None, reason="needs a newer PyTorch than 2.6, and a C++ compiler"
)
@pytest.mark.filterwarnings("ignore")  # PyTorch's own
def test_torch_compile_makes_one_graph_of_a_sequence() -> None:
    layer = make(dtype=torch.float32, k_top=2)
    module = SequenceModule(layer)
    dynamo: Any = importlib.import_module("torch._dynamo")  # which takes seconds
    with dynamo.config.patch(capture_scalar_outputs=True):
        compiled: Any = torch.compile(module, fullgraph=True)
        for sizes in ((7, 3), (30, 2)):
            check(layer, module, compiled, sizes, 1e-5)


def test_a_gradient_through_a_sequence_is_refused() -> None:
    layer = make(k_top=2)
    module = SequenceModule(layer)
    x, state = draw(5, 2, 3), module.begin(rows=2, steps=5)
    with pytest.raises(ValueError, match="input and state must not require grad"):
        module(x.requires_grad_(), state)
    with torch.no_grad():
        torch.testing.assert_close(module(x, state)[0], layer(x)[0])


@writes_onnx
def test_onnxruntime_steps_as_the_layer_does(tmp_path: Path) -> None:
    layer = make(dtype=torch.float32, k_top=2, k_att=2)
    module = StepModule(layer)

    def loop(x: Tensor, state: State) -> tuple[Tensor, State]:
        outputs: list[Tensor] = []
        for x_t in x:
            y, state = step(x_t, state)
            outputs.append(y)
        return torch.stack(outputs), state

    step = onnx_session(module, tmp_path / "step.onnx")
    for sizes in ((1, 1), (9, 3)):
        check(layer, module, loop, sizes, 1e-5)
    x = draw(4, 2, 3, dtype=torch.float32)
    x[1, 0, 2] = torch.inf
    output, _ = loop(x, module.begin(2, steps=4))
    assert bool(output[1:, 0].isnan().all())
    assert bool(output[:, 1].isfinite().all())


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("sizes", [(4, 3), (1, 1), (7, 1), (1, 4)])
def test_the_encoder_goes_along_with_a_sequence(sizes: tuple[int, int], batch_first: bool) -> None:
    layer = make(encoder=nn.Embedding(7, 3).double(), k_top=2, k_att=2, batch_first=batch_first).eval()
    module = SequenceModule(layer, example=torch.zeros(sizes, dtype=torch.int64))
    program: Any = module.export().module()
    token = torch.arange(55).view(11, 5) % 7
    output, _ = program(token, module.begin(token.shape[0 if batch_first else 1], steps=11))
    assert largest(output, layer(token)[0].detach()) <= 1e-10


@pytest.mark.parametrize("sizes", [(4,), (0, 3), (4, 0)])
def test_an_example_without_steps_or_rows_is_refused(sizes: tuple[int, ...]) -> None:
    layer = make(encoder=nn.Embedding(7, 3).double())
    with pytest.raises(ValueError, match=r"^example must have a step and a row at least"):
        SequenceModule(layer, example=torch.zeros(sizes, dtype=torch.int64))


class OwnScore(nn.Module):
    """A user's score: the negative distance."""

    def keys(self, memory: Tensor) -> Tensor:
        return memory

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        return -(keys - query.unsqueeze(1)).abs().sum(2)


@pytest.mark.skipif(OLDEST, reason="PyTorch 2.6 cannot trace a functools.partial")
def test_cells_and_scores_of_ones_own_go_along() -> None:
    layer = make(cell=nn.LSTMCell(3, 4), score=OwnScore(), k_top=2, k_att=2)
    module = SequenceModule(layer)
    program: Any = module.export().module()
    check(layer, module, program, (7, 3), 1e-10)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("made", ["parametrized", "by a hook", "pruned"])
def test_weights_that_are_made_are_those_of_now(made: str) -> None:
    """A hook computes the weights when the layer is called; the export must not need such a call."""
    layer = make(k_top=2, k_att=2)
    if made == "parametrized":
        parametrizations.weight_norm(layer, "weight_hh_l0")
    elif made == "by a hook":
        nn.utils.weight_norm(layer, "weight_hh_l0")
    else:
        prune.l1_unstructured(layer, "weight_hh_l0", 0.5)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter *= 1.5
    module = StepModule(layer)
    check(layer, module, stepped(module), (7, 3), 1e-10)
    assert layer.training


def test_it_is_the_layer_in_evaluation_and_as_it_was() -> None:
    layer = make(num_layers=2, dropout=0.5, recurrent_dropout=0.5, k_top=2, k_att=2)
    module = StepModule(layer)
    with torch.no_grad():
        want, _ = layer.eval()(draw(7, 2, 3))
        for parameter in layer.parameters():
            parameter.zero_()
    output, _ = stepped(module)(draw(7, 2, 3), module.begin(2, steps=7))
    assert largest(output, want) <= 1e-10


def test_a_memory_without_room_gives_nan_rather_than_a_wrong_number() -> None:
    layer = make(k_top=2, k_att=1)
    module = StepModule(layer)
    x = draw(9, 2, 3)
    output, _ = stepped(module)(x, module.begin(2, steps=5))
    want = layer(x)[0].detach()
    assert largest(output[:5], want[:5]) <= 1e-10
    assert bool(output[5:].isnan().all())
    with pytest.raises(ValueError, match="steps must say how many steps to make room for"):
        module.begin(2)
    bounded = StepModule(make(k_top=2, k_att=1, capacity=3))
    assert bool(stepped(bounded)(x, bounded.begin(2))[0].isfinite().all())


@pytest.mark.parametrize("number", [torch.inf, -torch.inf, torch.nan])
def test_a_feature_that_is_not_finite_does_what_it_does_in_the_layer(number: float) -> None:
    layer = make(k_top=2, k_att=2, batch_first=True)
    sequence, step = SequenceModule(layer), stepped(StepModule(layer))
    x = draw(3, 6, 3)
    x[1, 2, 0] = number
    want, begun = layer(x)[0].detach(), sequence.begin(3, steps=6)
    for output in (sequence(x, begun)[0], step(x.transpose(0, 1), begun)[0].transpose(0, 1)):
        torch.testing.assert_close(output, want, rtol=0, atol=1e-10, equal_nan=True)


def test_the_layer_goes_on_with_what_the_module_came_to() -> None:
    layer = make(k_top=2, k_att=2, num_layers=2)
    module = StepModule(layer)
    x = draw(12, 2, 3)
    _, state = stepped(module)(x[:7], module.begin(2, steps=7))
    assert largest(layer(x[7:], module.state_of(state))[0].detach(), layer(x)[0][7:].detach()) <= 1e-10


def first_slot(memory: Memory) -> Tensor:
    return torch.zeros_like(memory.count)


def test_what_cannot_be_exported_is_refused() -> None:
    with pytest.raises(ValueError, match="evict must be one of"):
        StepModule(make(k_top=2, k_att=1, capacity=3, evict=first_slot))
    module = StepModule(make(k_top=2, k_att=1))
    with pytest.raises(ValueError, match="state must have 1 layers, got 2"):
        module.tensors_of(make(num_layers=2)(draw(3, 2, 3))[1], steps=1)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.* is deprecated")
def test_tracing_is_refused_with_what_to_use() -> None:
    with pytest.raises(RuntimeError, match=r"reminding\.nn\.export\.SequenceModule\(layer\)\.export\(\)"):
        torch.jit.trace(make(), draw(3, 2, 3))  # pyright: ignore[reportPrivateImportUsage]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchs_export_by_tracing_is_refused_with_what_to_use(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    with pytest.raises(RuntimeError, match=r"SequenceModule\(layer\)\.export\(\)"):
        torch.onnx.export(make(), (draw(3, 2, 3),), str(tmp_path / "layer.onnx"), dynamo=False)


@pytest.mark.skipif(
    not hasattr(torch.compiler, "is_exporting"), reason="PyTorch 2.6 does not tell a call that it is exported"
)
def test_the_layer_itself_is_not_exported_by_torch() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), make())
    with pytest.raises(RuntimeError, match=r"SequenceModule\(layer\)\.export\(\)"):
        torch.export.export(model, (draw(3, 2, 2),))


def test_a_state_with_other_tensors_is_refused() -> None:
    module = StepModule(make(3, 4, k_top=2, k_att=1, capacity=3))
    state = module.begin(2)
    for wrong in (state[:-1], (*state, state[-1]), ()):
        with pytest.raises(ValueError, match=rf"state must have 8 tensors, step, h_l0, .*; got {len(wrong)}"):
            module(draw(2, 3), wrong)
