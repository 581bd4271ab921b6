"""Credit that waits and is settled: with the weights of now, however they are made, into the layer that made it."""

# pyright: reportUnknownLambdaType=false
# torch annotates its pruning in part.

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from reminding import SAB, SABState
from tests.nn.samples import assert_same_gradients, draw, make

pytestmark = pytest.mark.filterwarnings("ignore:.*(weight|spectral)_norm.*:FutureWarning")

WEIGHTS: dict[str, Callable[[nn.Module], object]] = {
    "plain": nn.Module.train,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight_hh_l0", amount=0.5),
    "weight norm": lambda layer: weight_norm(layer, "weight_hh_l0"),
    "spectral norm": lambda layer: spectral_norm(layer, "weight_hh_l0"),
    "parametrized": lambda layer: parametrizations.weight_norm(layer, "weight_hh_l0"),
}


def streamed(layer: SAB, keep_graph: bool = False) -> SABState:
    """The state after three calls, each with an update of the weights; its credit waits."""
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    state: Any = None
    for number in range(3):
        output, state = layer(draw(6, 2, 3, seed=number), state)
        output.square().sum().backward(retain_graph=keep_graph)
        optimizer.step()
        optimizer.zero_grad()
    assert state.history.waits
    return state


def gathered(layer: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}


def deferring(backend: str = "auto", **further: Any) -> SAB:
    return make(3, 4, k_top=2, k_att=2, k_trunc=3, credit_every=9, backend=backend, **further)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("keep_graph", [False, True])
@pytest.mark.parametrize("name", WEIGHTS)
def test_it_is_what_the_next_backward_pass_sends_on(name: str, keep_graph: bool, backend: str) -> None:
    found: list[dict[str, Tensor]] = []
    for settles in (False, True):
        torch.manual_seed(0)
        layer = deferring(backend)
        WEIGHTS[name](layer)
        state = streamed(layer, keep_graph)
        if settles:
            state.settle()
        else:
            layer.credit_every = 1
            (0 * layer(draw(2, 2, 3), state)[0]).sum().backward()
        found.append(gathered(layer))
    assert any(bool(gradient.abs().max() > 0) for gradient in found[0].values())
    assert_same_gradients(found[1], found[0])


def test_credit_waits_on_where_a_hook_raises() -> None:
    layer, other = deferring(), deferring()
    state, wanted = streamed(layer), streamed(other)

    faults = ["a hook that checks gradients"]

    def refuse(gradient: Tensor) -> Tensor:
        if faults:
            raise FloatingPointError(faults[0])
        return gradient

    layer.get_parameter("weight_ih_l0").register_hook(refuse)
    with pytest.raises(FloatingPointError):
        state.settle()
    faults.clear()
    layer.zero_grad()
    state.settle()
    wanted.settle()
    assert_same_gradients(gathered(layer), gathered(other))
    assert not state.history.waits


def test_a_deep_copy_of_a_layer_and_its_state_sends_nothing_to_the_original() -> None:
    layer = deferring()
    state = streamed(layer)
    (later, last), (first, one) = copy.deepcopy((state, layer)), copy.deepcopy((layer, state))
    for twin, after in ((first, one), (last, later)):
        with pytest.raises(ValueError, match=r"state does not know the layer.*layer\.settle\(state\)"):
            after.settle()
        twin.settle(after)
        assert gathered(layer) == {}
        got = gathered(twin)
        layer.settle(state.clone())
        assert_same_gradients(got, gathered(layer))
        layer.zero_grad()


def other_tensors(layer: SAB, kind: str) -> dict[str, Tensor]:
    """Copies of parameters: as plain tensors, as the parameters of another layer, or of the encoder alone."""
    if kind == "parameters":
        return dict(copy.deepcopy(layer).named_parameters())
    named = {name: p for name, p in layer.named_parameters() if kind == "tensors" or name.startswith(kind)}
    return {name: p.detach().clone().requires_grad_() for name, p in named.items()}


@pytest.mark.parametrize("kind", ["tensors", "parameters", "encoder"])
def test_calls_with_other_tensors_send_nothing_to_the_parameters(kind: str) -> None:
    layer = deferring(encoder=nn.Linear(3, 3, dtype=torch.float64))
    given = other_tensors(layer, kind)
    state: Any = None
    for number in range(3):
        output, state = torch.func.functional_call(layer, given, (draw(6, 2, 3, seed=number), state))
        output.sum().backward()
    assert state.history.waits
    known = {name: gradient.clone() for name, gradient in gathered(layer).items()}
    with pytest.raises(ValueError, match="state does not know the layer"):
        state.settle()
    assert_same_gradients(gathered(layer), known)
    layer.credit_every = 1
    torch.func.functional_call(layer, given, (draw(2, 2, 3), state))[0].sum().backward()
    got = gathered(layer) | {name: tensor.grad for name, tensor in given.items() if tensor.grad is not None}
    layer.zero_grad()
    whole = torch.cat([*(draw(6, 2, 3, seed=number) for number in range(3)), draw(2, 2, 3)])
    layer(whole)[0].sum().backward()
    assert_same_gradients(got, gathered(layer))


@pytest.mark.parametrize(("credit_every", "same"), [(1, True), (2, False)])
def test_evaluations_of_one_chunk_agree_where_each_call_sends_on_its_credit(credit_every: int, same: bool) -> None:
    """As those of LBFGS or a line search; where credit waits, the first evaluation sends it on."""
    layer = deferring()
    layer.credit_every = credit_every
    state: Any = None
    for number in range(3):
        found: list[Tensor] = []
        after: Any = None
        for _ in range(3):
            layer.zero_grad()
            output, after = layer(draw(6, 2, 3, seed=number), state)
            output.square().sum().backward()
            found.append(gathered(layer)["weight_hh_l0"].clone())
        state = after
        assert torch.allclose(found[0], found[2], rtol=1e-9, atol=1e-12) == (same or number == 0)


def by_file(state: SABState, folder: Path) -> SABState:
    state.save(folder / "state")
    return SABState.load(folder / "state")


def by_pickle(state: SABState, folder: Path) -> SABState:
    return pickle.loads(pickle.dumps(state.without_graph()))


PARTS: dict[str, Callable[[SABState], SABState]] = {
    "whole": lambda state: state,
    "rows": lambda state: state.rows(torch.tensor([1, 0])),
    "reset": lambda state: state.reset([True, False]),
}


@pytest.mark.parametrize("saved", [by_file, by_pickle])
@pytest.mark.parametrize("evict", ["fifo", "least_recalled"])
@pytest.mark.parametrize("part", PARTS)
def test_a_saved_state_may_be_settled_and_saved_again(
    saved: Callable[[SABState, Path], SABState], evict: str, part: str, tmp_path: Path
) -> None:
    """What the calls read of memories that they evicted goes with it, also of rows that were taken before."""
    found: list[dict[str, Tensor]] = []
    for by in (None, saved):
        layer = deferring(capacity=3, evict=evict)
        whole = streamed(layer) if by is None else by(streamed(layer), tmp_path)
        state = PARTS[part](whole)
        layer.settle(whole)
        state = state if by is None else by(state, tmp_path)
        state.check()
        layer.zero_grad()
        for number in range(3, 5):
            output, state = layer(draw(6, 2, 3, seed=number), state)
            output.square().sum().backward()
        layer.settle(state)
        found.append(gathered(layer))
    assert_same_gradients(found[1], found[0])
