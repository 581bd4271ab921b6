"""Training loops: freezing, several optimizers, kept graphs, checkpoints, and inputs on the wrong device.

Shapes: T time, B batch, H hidden.
"""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# torch and lightning annotate their callback parameters only partly.

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, fx, nn
from torch._subclasses import FakeTensorMode
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from reminding import SAB
from tests.nn.pytorch.ways import STEPS, Case, cases, every_way, gathered, inputs, loss_of, trained
from tests.nn.samples import assert_same_gradients, chunks, draw, make
from tests.tolerance import assert_equal

differentiate: Any = torch.autograd.grad  # annotated as if no gradient could be None
OPTIONS: dict[str, Any] = {"k_top": 2, "k_att": 2, "k_trunc": 5}


@given(case=cases)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_parameters_frozen_in_between_get_nothing_and_change_nothing_else(case: Case) -> None:
    def stream(layer: SAB, freeze: bool) -> tuple[dict[str, Tensor], set[str]]:
        frozen = {name for name, _ in layer.named_parameters() if "hh" in name or "encoder" in name}
        state: Any = None
        for start in range(0, STEPS, case.size):
            if freeze and start > 0:
                for name in frozen:
                    layer.get_parameter(name).requires_grad_(False)
            output, state = layer(inputs()[start : start + case.size], state)
            layer.zero_grad()
            loss_of(output, start).backward()
        return gathered(layer), frozen

    got, frozen = stream(case.layer(), freeze=True)
    want, _ = stream(case.layer(), freeze=False)
    for name in frozen if case.size < STEPS else ():
        assert not got[name].any()
        want[name] = got[name]
    assert_same_gradients(got, want)


@given(case=cases)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_gradients_of_some_parameters_alone(case: Case) -> None:
    """`torch.autograd.grad` for some of the parameters equals that part of the whole gradient."""
    layer = case.layer()
    pieces = chunks(inputs(), case.size)
    whole = trained(layer, pieces)
    state: Any = None
    names = list(whole)[::2]
    total = {name: torch.zeros_like(whole[name]) for name in names}
    start = 0
    for piece in pieces:
        output, state = layer(piece, state)
        wanted = [layer.get_parameter(name) for name in names]
        found = differentiate(loss_of(output, start), wanted, allow_unused=True)
        start += len(piece)
        for name, gradient in zip(names, found, strict=True):
            total[name] += 0 if gradient is None else gradient
    assert_same_gradients(total, {name: whole[name] for name in names})


@given(case=cases)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_backward_twice_with_the_graph_kept_doubles(case: Case) -> None:
    layer = case.layer()
    pieces = chunks(inputs(), case.size)
    once = trained(layer, pieces)
    layer.zero_grad()
    state: Any = None
    start = 0
    losses: list[Tensor] = []
    for piece in pieces:
        output, state = layer(piece, state)
        losses.append(loss_of(output, start))
        losses[-1].backward(retain_graph=True)
        start += len(piece)
    cast("Tensor", sum(losses)).backward()  # one backward pass for all graphs, after the stream has ended
    assert_same_gradients(gathered(layer), {name: 2 * gradient for name, gradient in once.items()})


@given(case=cases)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_empty_chunks_in_between_change_nothing(case: Case) -> None:
    pieces = [part for piece in chunks(inputs(), case.size) for part in (inputs()[:0], piece, inputs()[:0])]
    layer, plain = case.layer(), case.plain()
    got: dict[str, Tensor] = {}
    layer.zero_grad()
    state: Any = None
    start = 0
    for piece in pieces:
        output, state = layer(piece, state)
        loss = loss_of(output, start)
        if loss.requires_grad:
            loss.backward()
        start += len(piece)
    got = gathered(layer)
    assert_same_gradients(got, trained(plain, [inputs()]))


@every_way
def test_a_batch_of_no_rows(way: dict[str, Any]) -> None:
    layer = make(3, 4, 2, **OPTIONS, **way)
    state: Any = None
    for _ in range(3):
        output, state = layer(draw(5, 0, 3), state)
        assert tuple(output.shape) == (5, 0, 4)
        output.sum().backward()
    assert all(not gradient.any() for gradient in gathered(layer).values())


@every_way
@pytest.mark.parametrize("num_layers", [1, 2])
def test_start_states_get_their_gradient(way: dict[str, Any], num_layers: int) -> None:
    """(h, c) come from another network, as in an encoder-decoder model."""
    plain = make(3, 4, num_layers, **OPTIONS, backend="reference", engine="autograd")
    found: list[dict[str, Tensor]] = []
    for layer in (make(3, 4, num_layers, **OPTIONS, **way), plain):
        start = nn.Linear(2, 8, dtype=torch.float64)
        with torch.no_grad():
            start.weight.copy_(draw(8, 2, seed=3))
            start.bias.copy_(draw(8, seed=4))
        h, c = start(draw(num_layers, 3, 2)).chunk(2, dim=2)
        output, state = layer(inputs(), (h, c))
        (loss_of(output) + state.h.sum() + state.c.pow(2).sum()).backward()
        found.append({**gathered(start), **gathered(layer)})
    assert_same_gradients(*found)


@every_way
def test_two_optimizers_step_their_own_parameters(way: dict[str, Any]) -> None:
    """With optimizer steps between chunks, the weights change at the same points for every backend and engine."""

    def train(options: dict[str, Any]) -> dict[str, Tensor]:
        layer = make(3, 4, **OPTIONS, **options)
        score = [parameter for name, parameter in layer.named_parameters() if "score" in name]
        cell = [parameter for name, parameter in layer.named_parameters() if "score" not in name]
        optimizers = torch.optim.SGD(score, 1e-2), torch.optim.SGD(cell, 1e-3)
        state: Any = None
        for number, piece in enumerate(chunks(inputs(20), 4)):
            output, state = layer(piece, state)
            layer.zero_grad()
            loss_of(output).backward()
            optimizers[number % 2].step()
        return {name: parameter.detach() for name, parameter in layer.named_parameters()}

    assert_same_gradients(train(way), train({"backend": "reference", "engine": "autograd"}))


@every_way
def test_checkpoint_without_reentry_and_with(way: dict[str, Any]) -> None:
    layer = make(3, 4, **OPTIONS, **way)
    want = trained(layer, chunks(inputs(), 4))
    got = trained(lambda x, state: checkpoint(layer, x, state, use_reentrant=False), chunks(inputs(), 4), layer)
    assert_same_gradients(got, want)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        checkpoint(layer, inputs().requires_grad_(), use_reentrant=True)
    state = layer(inputs())[1].detach()
    for before in (None, state):  # dropout may be off where a network is tuned
        with pytest.raises(RuntimeError, match="use_reentrant=False"):
            checkpoint(layer.eval(), inputs().requires_grad_(), before, use_reentrant=True)


@every_way
def test_a_layer_whose_type_changed(way: dict[str, Any]) -> None:
    layer = make(3, 4, **OPTIONS, **way)
    _, state = layer(inputs())
    layer.float()
    with pytest.raises(ValueError, match=r"input must be torch.float32.*got torch.float64"):
        layer(inputs(), state)
    with pytest.raises(ValueError, match=r"state must be torch.float32.*state\.to"):
        layer(inputs().float(), state)
    layer(inputs().float(), state.to(dtype=torch.float32))[0].sum().backward()


@every_way
@pytest.mark.parametrize("k_trunc", [10**6, 2**40, 2**61])
def test_a_huge_k_trunc_is_no_cut(way: dict[str, Any], k_trunc: int) -> None:
    options: dict[str, Any] = {"k_top": 2, "k_att": 3}
    got = trained(make(3, 4, **options, k_trunc=k_trunc, **way), chunks(inputs(), 5))
    plain = make(3, 4, **options, k_trunc=None, backend="reference", engine="autograd")
    assert_same_gradients(got, trained(plain, [inputs()]))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "own"])
@pytest.mark.parametrize("k_top", [0, 2, None])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_meta_device_gives_shapes(cell: str, k_top: int | None, num_layers: int) -> None:
    def made() -> SAB:
        own = [nn.LSTMCell(4 if layer else 3, 4) for layer in range(num_layers)]
        return SAB(3, 4, num_layers, k_top=k_top, k_att=2, capacity=3, cell=own if cell == "own" else cell)

    layer, meta = made(), made().to("meta")
    x = inputs().float()
    states: list[Any] = [None, None]
    for length in (x, x[:3]):
        got = meta(length.to(device="meta"), states[0], return_recall=True)
        want = layer(length, states[1], return_recall=True)
        states = [got[1], want[1]]
        assert got[0].shape == want[0].shape
        assert got[1].memory.shape == want[1].memory.shape
        assert torch.equal(got[1].step, want[1].step)
        assert got[2].summary.shape == want[2].summary.shape
        assert got[2].step.shape[:-1] == want[2].step.shape[:-1]
    packing: Any = pack_padded_sequence(x, [12, 7, 3])
    packed = meta(packing.to("meta"))[0]
    assert packed.data.shape == (22, 4)


@every_way
def test_a_default_device_leaves_counts_on_the_host(way: dict[str, Any]) -> None:
    layer = make(3, 4, 2, **OPTIONS, **way)
    mask = torch.zeros(3, dtype=torch.bool)
    want = trained(layer, chunks(inputs(), 4))
    pieces = chunks(inputs(), 4)
    layer.zero_grad()
    state: Any = None
    for number, piece in enumerate(pieces):
        with torch.device("meta"):
            output, state = layer(piece, state, reset=mask)
            state = state.rows(slice(None)).clone()
        loss = loss_of(output, 4 * number)
        with torch.device("meta"):
            loss.backward()
    assert_same_gradients(gathered(layer), want)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_inputs_that_are_no_dense_tensors() -> None:
    layer = SAB(3, 4)
    x = inputs().float()
    nested = torch.nested.nested_tensor([x[:, 0], x[:3, 0]], layout=torch.jagged)
    quantized = torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)
    refused = {r"nested.*pack_sequence": nested, r"sparse_coo.*to_dense": x.to_sparse(), r"qint8": quantized}
    for message, tensor in refused.items():
        with pytest.raises(ValueError, match=message):
            layer(tensor)
    with FakeTensorMode() as mode:
        fake = torch.zeros(3, 2, 3)
        for call in (lambda: layer(fake), lambda: layer.stepper()(fake[0])):
            with pytest.raises(ValueError, match=r"FakeTensorMode.*device='meta'"):
                call()
    for call in (lambda: layer(mode.from_tensor(x)), lambda: SAB(3, 4, backend="reference")(mode.from_tensor(x))):
        with pytest.raises(ValueError, match="got a fake tensor"):
            call()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_refused() -> None:
    layer, x = SAB(3, 4), inputs().float()
    with pytest.raises(RuntimeError, match=r"torch\.jit\.trace cannot record.*torch\.export"):
        torch.jit.trace(layer, x)
    with pytest.raises(RuntimeError, match=r"torch\.jit\.script cannot compile.*torch\.export"):
        torch.jit.script(layer)
    assert_equal(layer(x)[0].double(), layer(x)[0].double(), "output after it")


class AroundLayers(fx.Tracer):
    """A tracer that records what is around SAB layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SAB) or super().is_leaf_module(m, module_qualified_name)


def test_symbolic_tracing_goes_around_a_layer_and_is_refused_within() -> None:
    model, x = nn.Sequential(nn.Linear(3, 3), SAB(3, 4)), inputs().float()
    with pytest.raises(RuntimeError, match=r"symbolic_trace cannot record.*is_leaf_module"):
        fx.symbolic_trace(model)
    traced = fx.GraphModule(model, AroundLayers().trace(model))
    assert_equal(traced(x)[0].double(), model(x)[0].double(), "output")
