"""States that their owner changes in place: calls go on from the new numbers, and credit to old calls stays right.

Shapes: T time, B batch, I input.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding import SABState
from reminding.nn.state.stream import LayerState
from tests.nn.samples import assert_same_gradients, draw, make, needs_op

SETTINGS: dict[str, dict[str, Any]] = {
    "fifo": {"capacity": 4},
    "least recalled": {"capacity": 4, "evict": "least_recalled"},
    "all recalled": {"k_top": None},
    "never cut, two layers": {"k_trunc": None, "num_layers": 2},
}
CHANGES: dict[str, Callable[[LayerState], Any]] = {
    "h": lambda layer: layer.h.mul_(2),
    "c": lambda layer: layer.cell_state[0].mul_(2),
    "values": lambda layer: layer.memory.value.mul_(2),
    "weights": lambda layer: layer.memory.weight.add_(1),
    "steps": lambda layer: layer.memory.step.add_(1),
    "counts": lambda layer: layer.memory.count.sub_(1),
}
Change = Callable[[SABState], Any]
every_way = pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_op)])
every_engine = pytest.mark.parametrize("engine", ["autograd", "replay"])
every_setting = pytest.mark.parametrize("name", SETTINGS)


def change(state: SABState, what: str) -> SABState:
    with torch.no_grad():
        for layer in state.layers:
            CHANGES[what](layer)
    return state


def changed_copy(state: SABState, what: str) -> SABState:
    return change(state.without_graph().clone(), what)


def trained(
    name: str,
    backend: str,
    engine: str,
    between: Callable[[SABState], SABState] = lambda state: state,
    before: Change | None = None,
    after: Change | None = None,
) -> dict[str, Tensor]:
    """The outputs and gradients of four chunks.

    Args:
        between: makes the third chunk's state of what the second returned.
        before, after: what is done to the third chunk's state once it was given, around the chunk's backward pass.
    """
    ways: dict[str, Any] = {"backend": backend, "engine": engine, "credit_every": 3}
    layer, state = make(**{"k_top": 2, "k_att": 1, "k_trunc": 2, **SETTINGS[name], **ways}), None
    found: dict[str, Tensor] = {}
    for number in range(4):
        given = between(state) if state is not None and number == 2 else state
        output, state = layer(draw(6, 2, 3, seed=number), given)
        if given is not None and number == 2 and before is not None:
            before(given)
        output.pow(2).sum().backward()
        if given is not None and number == 2 and after is not None:
            after(given)
        found[f"output {number}"] = output.detach()
    assert state is not None
    state.settle()
    return found | {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}


@every_way
@every_engine
@every_setting
def test_a_stream_goes_on_from_it_as_from_a_changed_copy(name: str, engine: str, backend: str) -> None:
    """A copy shares nothing with what is kept of past calls; the numbers that these remembered are the old ones."""
    for what in ("h", "c", "values", "weights"):
        in_place = trained(name, backend, engine, between=partial(change, what=what))
        assert_same_gradients(in_place, trained(name, backend, engine, between=partial(changed_copy, what=what)))


@every_way
@every_engine
@every_setting
def test_what_becomes_of_a_state_after_its_call_changes_nothing(name: str, engine: str, backend: str) -> None:
    unchanged = trained(name, backend, engine)
    for what in CHANGES:
        assert_same_gradients(trained(name, backend, engine, after=partial(change, what=what)), unchanged)


@every_way
@every_engine
@every_setting
def test_a_change_before_the_backward_pass_is_noticed_or_changes_nothing(
    name: str, engine: str, backend: str
) -> None:
    unchanged, noticed = trained(name, backend, engine), list[str]()
    for what in CHANGES:
        try:
            found = trained(name, backend, engine, before=partial(change, what=what))
        except RuntimeError as error:
            noticed.append(f"{what}: {error}")
            continue
        assert_same_gradients(found, unchanged)
    assert all(told.startswith("values: ") and "modified by an inplace operation" in told for told in noticed)
