"""Users' modules in a layer: buffers, modes, random numbers, and shared modules.

Shapes: T time, B batch, I input, H hidden.
"""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# torch and lightning annotate their callback parameters only partly.

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from reminding import SAB
from tests.nn.pytorch.ways import HIDDEN, INPUT, Case, cases, gathered, inputs, loss_of, trained
from tests.nn.samples import assert_same_gradients, chunks, spread

with_modules = cases.filter(lambda case: case.encoder or case.cell == "own")
FLOAT64: dict[str, Any] = {"dtype": torch.float64}


class Normed(nn.Module):
    """An encoder with batch normalisation over all steps and rows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(INPUT, INPUT, **FLOAT64)
        self.norm = nn.BatchNorm1d(INPUT, **FLOAT64)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.norm(self.linear(x).flatten(0, 1))).view_as(x)


class NormedCell(nn.Module):
    """A cell with batch normalisation of its input and dropout of its output."""

    def __init__(self, size: int, normed: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.LSTMCell(size, HIDDEN, **FLOAT64)
        self.norm = nn.BatchNorm1d(size, **FLOAT64) if normed else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.state_shapes = ((HIDDEN,),)

    def forward(self, x: Tensor, state: Any) -> Any:
        h, c = self.inner(self.norm(x), state)
        return self.drop(h), c


def own_cells(case: Case, normed: bool, dropout: float = 0.0) -> dict[str, Any]:
    if case.cell != "own":
        return {}
    return {"cell": [NormedCell(size, normed, dropout) for size in (INPUT, HIDDEN)[: case.num_layers]]}


@given(case=with_modules)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_batch_normalisation_is_updated_once_a_call(case: Case) -> None:
    """After the chunks, running statistics equal those of a layer that was never differentiated."""
    pieces = chunks(inputs(), case.size)
    made = [case.layer(**own_cells(case, normed=True), **{"encoder": Normed() if case.encoder else None})]
    made.append(case.plain(**own_cells(case, normed=True), **{"encoder": Normed() if case.encoder else None}))
    trained(made[0], pieces)
    state: Any = None
    with torch.no_grad():
        for piece in pieces:
            _, state = made[1](piece, state)
    got, want = (dict(layer.named_buffers()) for layer in made)
    counts = [buffer for name, buffer in got.items() if name.endswith("num_batches_tracked")]
    assert counts
    assert all(int(count) in (len(pieces), len(inputs())) for count in counts)
    for name, buffer in want.items():
        torch.testing.assert_close(got[name], buffer, rtol=1e-12, atol=1e-12)


@given(case=with_modules.filter(lambda case: case.size >= 5))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_batch_normalisation_takes_the_gradient_of_the_graph_kept(case: Case) -> None:
    """The encoder normalises each chunk by itself, so the right gradient is that of all chunks in one graph."""
    made: list[SAB] = []
    for make in (case.layer, case.plain):
        made.append(make(**own_cells(case, normed=True), **{"encoder": Normed() if case.encoder else None}))
    pieces = chunks(inputs(), case.size)
    got = trained(made[0], pieces)
    if not case.encoder:
        assert_same_gradients(got, trained(made[1], [inputs()]))
        return
    encode, made[1].encoder = made[1].encoder, None
    assert encode is not None
    joint = nn.ModuleDict({"layer": made[1], "encoder": encode})
    want = trained(lambda x, state: made[1](torch.cat([encode(piece) for piece in pieces]), state), [inputs()], joint)
    want = {name.removeprefix("layer."): gradient for name, gradient in want.items()}
    assert_same_gradients(got, want)


@given(case=with_modules, when=st.sampled_from(["before", "between"]))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_eval_between_forward_and_backward_leaves_the_forward_s_mode(case: Case, when: str) -> None:
    """Dropout in an encoder and in cells, replayed for this call and for past calls."""

    def gradient(disturb: bool) -> dict[str, Tensor]:
        encoder = nn.Sequential(nn.Linear(INPUT, INPUT, **FLOAT64), nn.Dropout(0.5)) if case.encoder else None
        layer = case.layer(**own_cells(case, normed=False, dropout=0.5), encoder=encoder)
        torch.manual_seed(4)
        state: Any = None
        start = 0
        for piece in chunks(inputs(), case.size):
            output, state = layer.train()(piece, state)
            if disturb:
                layer.eval()
            if disturb and when == "between":
                with torch.no_grad(), torch.random.fork_rng():
                    layer(inputs(seed=3))
            loss_of(output, start).backward()
            start += len(piece)
        return gathered(layer)

    want = gradient(disturb=False)
    assert_same_gradients(gradient(disturb=True), want)


@given(case=with_modules.filter(lambda case: case.size == len(inputs())))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_dropout_in_modules_is_replayed_as_it_was_drawn(case: Case) -> None:
    found: list[dict[str, Tensor]] = []
    for make in (case.layer, case.plain):
        encoder = nn.Sequential(nn.Linear(INPUT, INPUT, **FLOAT64), nn.Dropout(0.5)) if case.encoder else None
        layer = make(**own_cells(case, normed=False, dropout=0.5), encoder=encoder)
        torch.manual_seed(4)
        found.append(trained(layer, [inputs()]))
        torch.manual_seed(4)
        found.append(trained(layer, [inputs()]))
    for other in found[1:]:
        assert_same_gradients(other, found[0])


class Shared(nn.Module):
    """A cell whose input passes through a module that is also used elsewhere."""

    def __init__(self, size: int, shared: nn.Module) -> None:
        super().__init__()
        self.inner, self.shared = nn.LSTMCell(size, HIDDEN, **FLOAT64), shared
        self.state_shapes = ((HIDDEN,),)

    def forward(self, x: Tensor, state: Any) -> Any:
        return self.inner(self.shared(x) if x.shape[1] == INPUT else x, state)


class SharedScorer(nn.Module):
    """A dot product of projections by one module, which may be shared."""

    def __init__(self, shared: nn.Module) -> None:
        super().__init__()
        self.shared = shared

    def keys(self, memory: Tensor) -> Tensor:
        return self.shared(memory)

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        return (keys * self.shared(query).unsqueeze(1)).sum(2)


def share_encoder_and_cell(case: Case) -> dict[str, Any]:
    shared = nn.Linear(INPUT, INPUT, **FLOAT64)
    return {"encoder": shared, "cell": [Shared(size, shared) for size in (INPUT, HIDDEN)[: case.num_layers]]}


def share_cell_and_scorer(case: Case) -> dict[str, Any]:
    shared = nn.Linear(HIDDEN, HIDDEN, **FLOAT64)

    class Cell(Shared):
        def forward(self, x: Tensor, state: Any) -> Any:
            h, c = self.inner(x, state)
            return self.shared(h), c

    cells = [Cell(size, shared) for size in (INPUT, HIDDEN)[: case.num_layers]]
    return {"cell": cells, "score": [SharedScorer(shared) for _ in cells]}


@pytest.mark.parametrize("share", [share_encoder_and_cell, share_cell_and_scorer])
@given(case=cases.filter(lambda case: case.cell == "own"))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_a_module_that_serves_twice_takes_the_sum(share: Callable[[Case], dict[str, Any]], case: Case) -> None:
    layer, plain = case.layer(**share(case)), case.plain(**share(case))
    assert_same_gradients(trained(layer, chunks(inputs(), case.size)), trained(plain, [inputs()]))


@given(case=cases)
@settings(max_examples=10, deadline=None, derandomize=True)
def test_weights_shared_with_modules_outside_take_the_sum(case: Case) -> None:
    """One readout shares its weight with the encoder, one with a recurrent weight."""

    class Model(nn.Module):
        def __init__(self, layer: SAB) -> None:
            super().__init__()
            self.layer = layer
            self.readout = nn.Linear(HIDDEN, HIDDEN, **FLOAT64)
            spread(self.readout)
            if layer.encoder is not None:
                self.inverse = nn.Linear(INPUT, HIDDEN, **FLOAT64)
                self.before = layer.encoder
            if hasattr(layer, "score_query_l0"):
                self.readout.weight = cast("nn.Parameter", layer.score_query_l0)

        def forward(self, x: Tensor, state: Any) -> Any:
            output, state = self.layer(x, state)
            output = self.readout(output)
            return (output + self.before(x).sum() if hasattr(self, "before") else output), state

    models = [Model(case.layer()), Model(case.plain())]
    if case.encoder:
        # The sum is over a whole piece, so both layers must be given the same pieces: one.
        assert_same_gradients(*(trained(model, [inputs()]) for model in models))
        return
    assert_same_gradients(trained(models[0], chunks(inputs(), case.size)), trained(models[1], [inputs()]))


class WeightDrop(nn.Module):
    """A cell that computes its recurrent weight in its forward and sets it as an attribute, as AWD-LSTM does."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner = nn.LSTMCell(size, HIDDEN, **FLOAT64)
        self.raw = nn.Parameter(self.inner.weight_hh.detach().clone())
        del self.inner.weight_hh
        self.set_weight()
        self.state_shapes = ((HIDDEN,),)

    def set_weight(self) -> None:
        self.inner.weight_hh = torch.sin(self.raw * 2)

    def forward(self, x: Tensor, state: Any) -> Any:
        self.set_weight()
        return self.inner(x, state)


@given(case=cases.filter(lambda case: case.cell == "own"))
@settings(max_examples=10, deadline=None, derandomize=True)
def test_weights_set_as_attributes_in_a_forward(case: Case) -> None:
    sizes = (INPUT, HIDDEN)[: case.num_layers]
    layer, plain = (make(cell=[WeightDrop(size) for size in sizes]) for make in (case.layer, case.plain))
    pieces = chunks(inputs(), case.size)
    want = trained(plain, [inputs()])
    for _ in range(2):  # the second time, the attributes of the first still exist
        assert_same_gradients(trained(layer, pieces), want)
