"""The layer as a PyTorch module: copies, files, training mode, lower precision.

Shapes: T time, B batch, I input, H hidden.
"""

from __future__ import annotations

import copy
import logging
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reminding import SAB
from reminding.nn.parts.cells import CELLS
from tests.nn.samples import assert_same_gradients, draw, gradients, make
from tests.tolerance import assert_equal

OPTIONS: dict[str, dict[str, Any]] = {
    "built-in": {"num_layers": 2, "k_top": 2, "k_att": 2},
    "own cell": {"cell": nn.GRUCell(3, 4), "k_top": 2, "k_att": 2},
    "encoder": {"encoder": nn.Linear(3, 3), "k_top": 2, "k_att": 2},
    "no memory": {"k_top": 0},
}
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())


def check_same(got: SAB, want: SAB) -> None:
    x = draw(9, 2, 3)
    output, wanted = got(x)[0], want(x)[0]
    assert_equal(output, wanted, "output")
    assert_same_gradients(gradients(got, output.sum()), gradients(want, wanted.sum()))


@every_option
@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_copies_are_equal_and_independent(options: dict[str, Any], way: str) -> None:
    layer = make(**copy.deepcopy(options)).double()
    other: SAB = copy.deepcopy(layer) if way == "deepcopy" else pickle.loads(pickle.dumps(layer))
    check_same(other, layer)
    before = layer(draw(9, 2, 3))[0]
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert_equal(layer(draw(9, 2, 3))[0], before, "the first one, untouched")
    assert not torch.allclose(other(draw(9, 2, 3))[0], before)


@every_option
def test_a_state_dict_brings_everything(options: dict[str, Any]) -> None:
    layer, other = (make(seed=seed, **copy.deepcopy(options)).double() for seed in (1, 2))
    other.load_state_dict(layer.state_dict())
    check_same(other, layer)


def noting(graphs: list[Any]) -> Callable[[Any, Any], Any]:
    """A backend of torch.compile that runs each graph as it is, and notes it."""

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph

    return backend


@pytest.mark.parametrize(
    "options", [{}, {"horizon": 0}, {"backend": "reference"}], ids=["default", "no past", "slow"]
)
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_torch_compile_goes_around_a_layer(options: dict[str, Any]) -> None:
    """If it were traced, it would break into graphs that are compiled again for each call of a stream."""
    layer, graphs = make(k_top=2, k_trunc=3, **options), list[Any]()

    def run(x: Tensor, state: Any) -> tuple[Tensor, Any]:
        output, state = layer(x.cos(), state)
        return output.sin(), state

    def streamed(function: Callable[..., Any]) -> tuple[Tensor, dict[str, Tensor]]:
        state: Any = None
        outputs: list[Tensor] = []
        for seed in range(4):
            output, state = function(draw(4, 2, 3, seed=seed), state)
            outputs.append(output)
        whole = torch.cat(outputs)
        return whole, gradients(layer, whole.sum())

    output, found = streamed(torch.compile(run, backend=noting(graphs)))
    wanted, expected = streamed(run)
    assert len(graphs) == 3, "what is before the layer, for the first call and the others, and what is behind it"
    assert torch.equal(output, wanted)
    assert_same_gradients(found, expected)


@pytest.mark.parametrize("options", [{}, {"engine": "replay"}, {"backend": "reference"}], ids=str)
@pytest.mark.filterwarnings("ignore:The .grad attribute", "ignore:Dynamo does not know how to trace")
def test_torch_compile_goes_around_the_backward_passes_of_a_training_step(options: dict[str, Any]) -> None:
    """Traced, they would be compiled frame by frame, which took minutes."""
    layer, graphs = make(k_top=2, k_trunc=3, **options), list[Any]()

    def step(x: Tensor, state: Any) -> Any:
        output, state = layer(x, state)
        output.square().sum().backward()
        return state

    def streamed(step: Callable[..., Any]) -> dict[str, Tensor]:
        layer.zero_grad()
        state: Any = None
        for seed in range(3):
            state = step(draw(4, 2, 3, seed=seed), state)
        return {name: parameter.grad for name, parameter in layer.named_parameters() if parameter.grad is not None}

    wanted = streamed(step)
    assert_same_gradients(streamed(torch.compile(step, backend=noting(graphs))), wanted)
    assert len(graphs) == 1, "the loss"


class Streamed(torch.nn.Module):
    """A model that hands its state on, cut from the past, as nn.LSTM's users do."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = make(k_top=2, k_trunc=3)

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        output, state = self.layer(x.cos(), state)
        return output.sin(), state.detach()


def pickled(layer: SAB) -> SAB:
    return pickle.loads(pickle.dumps(layer))


def of_two_calls(function: Callable[..., Any]) -> Tensor:
    first, state = function(draw(5, 2, 3), None)
    return torch.cat([first, function(draw(3, 2, 3, seed=1), state)[0]])


@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
def test_a_model_that_cuts_its_state_is_compiled() -> None:
    model = Streamed()
    torch.testing.assert_close(of_two_calls(torch.compile(model, backend="eager")), of_two_calls(model))


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_layer_may_be_compiled_in_place_and_by_its_forward() -> None:
    layer = make(k_top=2, k_trunc=3)
    wanted = of_two_calls(layer)
    expected = gradients(layer, wanted.sum())
    torch.testing.assert_close(of_two_calls(torch.compile(layer.forward, backend="eager")), wanted)
    layer.compile(backend="eager")
    output = of_two_calls(layer)
    torch.testing.assert_close(output, wanted)
    assert_same_gradients(gradients(layer, output.sum()), expected)


@pytest.mark.filterwarnings("ignore:The .grad attribute")
@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_a_copy_of_a_layer_compiled_in_place_computes_with_its_own_weights(copied: Callable[[SAB], SAB]) -> None:
    layer = make(k_top=2, k_trunc=3)
    layer.compile(backend="eager")
    other = copied(layer)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2)
    plain = make(k_top=2, k_trunc=3)
    plain.load_state_dict(other.state_dict())
    output, wanted = of_two_calls(other), of_two_calls(plain)
    assert torch.equal(output, wanted)
    assert_same_gradients(gradients(other, output.sum()), gradients(plain, wanted.sum()))


def test_parameters_are_those_the_design_names() -> None:
    shapes = {name: tuple(p.shape) for name, p in SAB(3, 4, score_size=5).named_parameters()}
    assert shapes == {
        "weight_ih_l0": (16, 3),
        "weight_hh_l0": (16, 4),
        "bias_ih_l0": (16,),
        "bias_hh_l0": (16,),
        "score_memory_l0": (5, 4),
        "score_query_l0": (5, 4),
        "score_out_l0": (5,),
    }
    dot = dict(SAB(3, 4, score="dot").named_parameters())
    assert "score_query_l0" in dot
    assert "score_out_l0" not in dot
    assert dict(SAB(3, 4, 2, score="separable").named_parameters())["score_weight_l1"].shape == (8,)


def test_initial_weights_are_uniform_within_one_over_the_root_of_the_fan() -> None:
    torch.manual_seed(0)
    layer = SAB(3, 400, score_size=100, k_top=5)
    for name, parameter in layer.named_parameters():
        bound = (1 / 100 if name == "score_out_l0" else 1 / 400) ** 0.5
        drawn = parameter.detach()
        assert 0.9 * bound <= float(drawn.abs().max()) <= bound, name
        assert abs(float(drawn.mean())) < 0.4 * bound, name
    before = layer.get_parameter("weight_hh_l0").clone()
    layer.reset_parameters()
    assert not torch.equal(layer.get_parameter("weight_hh_l0"), before)


def test_defaults() -> None:
    layer = SAB(3, 4)
    assert (layer.k_top, layer.k_att, layer.k_trunc) == (5, 10, 10)
    assert (layer.score, layer.normalizer, layer.semantics) == ("additive", "softmax", "paper")
    assert (layer.score_size, SAB(3, 32).score_size, SAB(3, 100).score_size) == (4, 32, 32)
    assert SAB(3, 4, k_trunc=7).k_att == 7
    assert SAB(3, 4, k_trunc=None).k_att == 1
    release = SAB(3, 4, semantics="release")
    assert (release.score, release.normalizer) == ("separable", "threshold")


def test_the_text_of_a_layer_shows_its_settings() -> None:
    shown = repr(SAB(3, 4, 2, cell="gru", k_top=None, k_att=3, k_trunc=6, score="dot", capacity=9, backtrack=False))
    for setting in ("3, 4", "num_layers=2", "cell='gru'", "k_top=None", "k_att=3", "k_trunc=6", "score='dot'"):
        assert setting in shown
    for setting in ("normalizer='softmax'", "semantics='paper'", "capacity=9", "backtrack=False"):
        assert setting in shown


@pytest.mark.parametrize("k_top", [0, 2])
def test_dropout_acts_between_layers_while_training_only(k_top: int) -> None:
    layer, plain = (make(num_layers=2, k_top=k_top, k_att=1, dropout=p) for p in (0.5, 0.0))
    x = draw(9, 2, 3)
    assert not torch.allclose(layer(x)[0], layer(x)[0])
    output, state = layer(x)
    assert_equal(state.h[0], plain(x)[1].h[0], "the first layer's state: dropout comes after it")
    assert_equal(output[-1], state.h[1], "the last layer's output: none comes after it")
    layer.eval()
    assert_equal(layer(x)[0], plain(x)[0], "output in evaluation")


def test_everything_dropped_leaves_the_upper_layer_without_input() -> None:
    layer = make(num_layers=2, dropout=1.0)
    x = draw(9, 2, 3)
    assert_equal(layer(x)[0], layer(draw(9, 2, 3, seed=5))[0], "output whatever the input")


def test_dropout_with_one_layer_warns() -> None:
    with pytest.warns(UserWarning, match="dropout acts between layers"):
        SAB(3, 4, dropout=0.5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{"k_top": 2, "k_att": 2}, {"k_top": 0}], ids=["memory", "none"])
def test_single_precision_is_close_to_double(cell: str, options: dict[str, Any]) -> None:
    want = make(cell=cell, k_trunc=4, **options)
    got = make(cell=cell, k_trunc=4, **options, dtype=torch.float32)
    x = draw(12, 2, 3)
    output, state, recall = got(x.float(), return_recall=True)
    wanted, _, read = want(x, return_recall=True)
    assert {output.dtype, state.h.dtype, state.memory.dtype, recall.weight.dtype} == {torch.float32}
    assert torch.equal(recall.step, read.step)
    assert_equal(output, wanted, "output")
    floor = max(float(g.abs().max()) for g in gradients(want, wanted.sum()).values())
    wanted_gradients = gradients(want, wanted.sum())
    for name, gradient in gradients(got, output.sum()).items():
        assert_equal(gradient, wanted_gradients[name], f"gradient of {name}", floor=floor)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{"k_top": 2, "k_att": 2}, {"k_top": 0}], ids=["memory", "none"])
def test_a_bfloat16_layer_runs_in_bfloat16(cell: str, options: dict[str, Any]) -> None:
    layer = make(cell=cell, **options, dtype=torch.bfloat16)
    output, state = layer(draw(12, 2, 3, dtype=torch.bfloat16))
    assert {output.dtype, state.h.dtype, state.memory.dtype} == {torch.bfloat16}
    output.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("k_top", [0, None])
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_lowers_the_cells_only(cell: str, k_top: int | None, given: torch.dtype) -> None:
    """In plain PyTorch. Recall is dense or off here, since rounding may change which memories are the best few."""
    layer = make(cell=cell, k_top=k_top, k_att=2, k_trunc=4, backend="reference", dtype=torch.float32)
    x = draw(9, 2, 3, dtype=torch.float32)
    wanted = layer(x)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, state, recall = layer(x.to(given), return_recall=True)
    assert {state.h.dtype, state.memory.dtype, recall.summary.dtype, output.dtype} == {torch.float32}
    assert (output - wanted).detach().abs().max() < 0.1 * wanted.detach().abs().max()
    assert not torch.equal(output, wanted)
    output.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_moving_the_layer_moves_all_it_computes_with() -> None:
    layer = make(num_layers=2, k_top=2, k_att=2)
    output = layer.float()(draw(9, 2, 3, dtype=torch.float32))[0]
    assert output.dtype == torch.float32
    assert layer.double()(draw(9, 2, 3))[0].dtype == torch.float64


def test_same_seed_same_everything() -> None:
    def once() -> list[Tensor]:
        torch.manual_seed(4)
        layer = SAB(3, 4, 2, k_att=1, dropout=0.3)
        output = layer(draw(9, 2, 3, dtype=torch.float32))[0]
        output.sum().backward()
        return [output, *(p.grad for p in layer.parameters() if p.grad is not None)]

    assert all(torch.equal(a, b) for a, b in zip(once(), once(), strict=True))


def test_no_graph_is_kept_without_gradients() -> None:
    layer = make(k_top=2, k_att=1)
    with torch.no_grad():
        output, state = layer(draw(9, 2, 3))
    assert not output.requires_grad
    assert not state.memory.requires_grad
    with torch.inference_mode():
        output, state = layer(draw(9, 2, 3))
    assert layer(draw(3, 2, 3), state.clone())[0].requires_grad, "PyTorch asks for a clone of what inference made"


def test_auto_tells_the_log_which_backend_it_took(caplog: pytest.LogCaptureFixture) -> None:
    from reminding.ops import backends

    backends._log_choice.cache_clear()  # pyright: ignore[reportPrivateUsage]
    with caplog.at_level(logging.INFO, logger="reminding"):
        layer = make()
        layer(draw(3, 1, 3))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1, "once per process"
    assert re.search("'auto' takes '(cpu|reference)' .*cuda: ", told[0])


def test_a_plan_says_what_would_run_and_why() -> None:
    """The plan is what the layer does: engine="auto" replays long inputs, and a user's cell runs on the reference."""
    assert (SAB(3, 4, k_top=0).plan(10).backend, SAB(3, 4, k_top=0).plan(10_000).engine) == ("torch", "autograd")
    own = SAB(3, 4, cell=nn.GRUCell(3, 4))
    assert (own.plan(511).engine, own.plan(512).engine) == ("autograd", "replay")
    assert own.plan(512).backend == "reference"
    assert "cpu: " in own.plan(512).why
    assert "replays 512 steps or more" in own.plan(512).why
    asked = SAB(3, 4, backend="reference", engine="replay").plan(1)
    assert (asked.backend, asked.engine, asked.why) == (
        "reference",
        "replay",
        "engine='replay'; backend='reference'",
    )


@pytest.mark.parametrize(("steps", "engine"), [(511, "autograd"), (512, "replay")])
def test_the_automatic_engine_does_as_planned(steps: int, engine: str) -> None:
    layer = SAB(3, 4, backend="reference")
    output, _ = layer(torch.zeros(steps, 1, 3))
    nodes, seen = [output.grad_fn], set[str]()
    while nodes:
        node = nodes.pop()
        if node is not None and node.name() not in seen:
            seen.add(node.name())
            nodes += [further for further, _ in node.next_functions]
    assert any("Replayed" in name for name in seen) == (engine == "replay") == (layer.plan(steps).engine == "replay")
