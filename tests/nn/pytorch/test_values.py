"""States as values: pytrees, copies, files, the memory that they keep alive, and comparisons.

Shapes: T time, B batch, H hidden.
"""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# torch and lightning annotate their callback parameters only partly.

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor
from torch.utils import _pytree as pytree

from reminding import SAB, SABState
from reminding.nn.state.merging import join_rows
from tests.nn.pytorch.ways import Case, cases, every_way, gathered, inputs, loss_of
from tests.nn.samples import BUILT, assert_same_gradients, assert_same_state, make


def pickled(state: SABState) -> SABState:
    return pickle.loads(pickle.dumps(state.without_graph()))


def saved_by_torch(state: SABState) -> SABState:
    file = io.BytesIO()
    torch.save(state.without_graph(), file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def flattened(state: SABState) -> SABState:
    leaves, spec = pytree.tree_flatten(state)
    assert all(isinstance(leaf, Tensor) for leaf in leaves)
    return pytree.tree_unflatten(leaves, spec)


COPIES: dict[str, Callable[[SABState], SABState]] = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": pickled,
    "torch.save": saved_by_torch,
    "tree_flatten": flattened,
    "tree_map clone": lambda state: pytree.tree_map(torch.clone, state),
    "tree_map detach": lambda state: pytree.tree_map(torch.detach, state),
    "tree_map to": lambda state: pytree.tree_map(lambda leaf: leaf.to("cpu"), state),
    "apply_to_collection": lambda state: apply_to_collection(state, Tensor, torch.clone),
    "in a dict": lambda state: pytree.tree_map(torch.clone, {"state": [state]})["state"][0],
    "rows joined": lambda state: join_rows([state.rows(slice(0, 1)), state.rows(slice(1, 3))]),
    "rows twice": lambda state: state.rows(torch.tensor([2, 0, 1])).rows(torch.tensor([1, 2, 0])),
    "clone": SABState.clone,
    "without_graph": SABState.without_graph,
    "to": lambda state: state.to("cpu"),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
@given(case=cases)
@settings(max_examples=4, deadline=None, derandomize=True)
def test_a_copied_state_goes_on_as_the_state_does(copied: Callable[[SABState], SABState], case: Case) -> None:
    def stream(change: Callable[[SABState], SABState]) -> tuple[dict[str, Tensor], SABState]:
        layer = case.layer()
        state: Any = None
        for start in range(0, 12, case.size):
            output, state = layer(inputs()[start : start + case.size], state)
            loss_of(output, start).backward()
            state = change(state)
        return gathered(layer), state

    got, want = stream(copied), stream(lambda state: state)
    assert_same_gradients(got[0], want[0])
    assert_same_state(got[1], want[1])


@every_way
def test_mapped_to_another_type_the_past_follows(way: dict[str, Any]) -> None:
    layer = make(3, 4, k_top=2, k_trunc=5, **way)
    _, state = layer(inputs())
    layer, x = layer.float(), inputs().float()
    for moved in (
        pytree.tree_map(lambda t: t.float() if t.is_floating_point() else t, state),
        state.to(dtype=torch.float32),
    ):
        output, _ = layer(x, moved)
        output.sum().backward()
        assert output.dtype == torch.float32
    with pytest.raises(ValueError, match=r"state must be torch.float32.*got torch.float64.*state\.to"):
        layer(x, state)


@every_way
def test_gathered_gradients_reach_what_made_a_state(way: dict[str, Any]) -> None:
    """The leaves of a state are in the graph: a loss that depends on them only has a gradient."""
    layer = make(3, 4, k_top=2, k_trunc=5, **way)
    _, state = layer(inputs())
    squares = [leaf.pow(2).sum() for leaf in pytree.tree_leaves(state) if leaf.requires_grad]
    torch.stack(squares).sum().backward()
    assert layer.get_parameter("weight_ih_l0").grad is not None


def test_states_compare_by_identity() -> None:
    layer = make(3, 4)
    _, state, recall = layer(inputs(), return_recall=True)
    assert state == state
    assert state != layer(inputs())[1]
    assert state not in [None, 1, "state"]
    assert recall != layer(inputs(), return_recall=True)[2]
    assert len({state, state, layer(inputs())[1]}) == 2


@every_way
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("horizon", [None, 0])
def test_a_kept_state_holds_on_to_little(way: dict[str, Any], num_layers: int, horizon: int | None) -> None:
    """A state keeps no tensor of the call's graph alive, and at most twice its own size in total."""
    layer = make(3, 8, num_layers, k_top=2, k_att=5, k_trunc=20, capacity=4, horizon=horizon, **way)
    output, state = layer(inputs(400))
    kept = state.without_graph()
    held = weakref.ref(output)
    del output, state
    gc.collect()
    assert held() is None
    storages: dict[int, int] = {}
    seen: set[int] = set()
    todo: list[Any] = [kept, kept.past]
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            assert value.grad_fn is None
            storages[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        elif isinstance(value, list | tuple):
            todo += list(value)
        elif hasattr(value, "__dict__"):
            todo += list(vars(value).values())
    assert sum(storages.values()) <= 2 * kept.nbytes


@every_way
@given(parts=st.permutations([0, 1, 2]))
@settings(max_examples=4, deadline=None, derandomize=True)
def test_rows_of_states_go_on_in_any_order(way: dict[str, Any], parts: list[int]) -> None:
    """When streams are reordered between calls, the same losses give the same gradient."""
    x = inputs(15)

    def stream(layer: SAB, orders: list[list[int]]) -> dict[str, Tensor]:
        state: Any = None
        for number, order in enumerate(orders):
            piece = x[5 * number : 5 * number + 5, order]
            output, state = layer(piece, state)
            output[:, torch.tensor(order).argsort()].pow(3).sum().backward()
            if number + 1 < len(orders):
                state = state.rows(torch.tensor([order.index(row) for row in orders[number + 1]]))
        return gathered(layer)

    options: dict[str, Any] = {"k_top": 2, "k_att": 2, "k_trunc": 4}
    straight = [[0, 1, 2]] * 3
    got = stream(make(3, 4, **options, **way), [[0, 1, 2], parts, parts[::-1]])
    assert_same_gradients(got, stream(make(3, 4, **options, backend="reference"), straight))


def test_two_states_of_one_layer_in_one_graph() -> None:
    """Two streams through one layer: one loss of both equals two backward passes."""
    ways: list[dict[str, Any]] = [*({"backend": backend} for backend in BUILT), {"engine": "replay"}]
    for way in ways:
        layer = make(3, 4, k_top=2, k_trunc=5, **way)
        x, z = inputs(10), inputs(10, seed=4)
        _, one = layer(x[:5])
        _, other = layer(z[:5])
        (loss_of(layer(x[5:], one)[0]) + loss_of(layer(z[5:], other)[0])).backward()
        both = gathered(layer)
        layer.zero_grad()
        for stream, state in ((z, other), (x, one)):
            loss_of(layer(stream[5:], state)[0]).backward()
        assert_same_gradients(both, gathered(layer))
