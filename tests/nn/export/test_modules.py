"""A layer exported as a graph of tensors computes what the layer computes, for any length, batch and state.

Shapes: T time, B batch, I input, H hidden, M memory slots.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from reminding import Memory
from reminding.nn.export import SequenceModule, StepModule
from tests.drawn import drawn
from tests.nn.export.checks import LAYERS, OLDEST, check, check_state, largest, stepped
from tests.nn.samples import CELLS, draw, make


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


def test_a_gradient_through_a_sequence_is_refused() -> None:
    layer = make(k_top=2)
    module = SequenceModule(layer)
    x, state = draw(5, 2, 3), module.begin(rows=2, steps=5)
    with pytest.raises(ValueError, match="input and state must not require grad"):
        module(x.requires_grad_(), state)
    with torch.no_grad():
        torch.testing.assert_close(module(x, state)[0], layer(x)[0])


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
