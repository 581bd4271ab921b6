"""Rules of eviction of one's own that answer otherwise when they are asked again: a replay does not ask them.

Shapes: T time, B batch, H hidden, M memory slots.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding import Memory
from tests.nn.samples import assert_same_gradients, chunks, draw, make


def at_random(memory: Memory) -> Tensor:
    return torch.randint(0, memory.slots, (len(memory.count),))


def in_turn() -> Callable[[Memory], Tensor]:
    calls = itertools.count()
    return lambda memory: torch.full((len(memory.count),), next(calls) % memory.slots)


RULES: dict[str, Callable[[], Callable[[Memory], Tensor]]] = {"at random": lambda: at_random, "in turn": in_turn}
ALL: dict[str, dict[str, Any]] = {
    "softmax": {},
    "threshold": {"normalizer": "threshold"},
    "release": {"semantics": "release"},
    "never cut": {"k_trunc": None, "k_att": 1},
}


def gathered(rule: str, options: dict[str, Any], engine: str, size: int) -> dict[str, Tensor]:
    """The gradients of all chunks of this size together, their credit sent on at the end."""
    settings: dict[str, Any] = {
        "k_att": 2,
        "k_trunc": 4,
        "capacity": 3,
        "credit_every": 100,
        "backend": "reference",
        **options,
    }
    layer, state, mask = make(**settings, evict=RULES[rule](), engine=engine), None, torch.zeros(23, 3) == 1
    mask[9, 1] = mask[14, 2] = True
    torch.manual_seed(3)
    for x, reset in zip(chunks(draw(23, 3, 3), size), chunks(mask, size), strict=True):
        output, state = layer(x, state, reset=reset)
        output.pow(2).sum().backward()
    assert state is not None
    state.settle()
    return {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("options", ALL.values(), ids=ALL.keys())
@pytest.mark.parametrize("k_top", [None, 2])
@pytest.mark.parametrize("rule", RULES)
def test_a_replay_finds_the_memories_that_the_call_found(
    rule: str, k_top: int | None, options: dict[str, Any]
) -> None:
    options = {"k_top": k_top, **options}
    kept = gathered(rule, options, "autograd", 23)
    for engine, size in [("replay", 23), ("autograd", 1), ("replay", 7)]:
        assert_same_gradients(gathered(rule, options, engine, size), kept)


def test_weights_that_change_do_not_change_which_memories_a_past_call_found() -> None:
    """Recalling all is recalling as many as there may be, which is noted."""
    found: list[dict[str, Tensor]] = []
    for k_top in (None, 3):
        layer, state = make(k_top=k_top, k_att=2, k_trunc=None, capacity=3, evict="least_recalled"), None
        for seed, steps in enumerate([15, 9, 3]):
            layer.zero_grad()
            output, state = layer(2 * draw(steps, 2, 3, seed=seed), state)
            output.sum().backward()
            with torch.no_grad():
                for parameter in layer.parameters():
                    parameter.mul_(-2)
        found.append({name: p.grad for name, p in layer.named_parameters() if p.grad is not None})
    assert_same_gradients(*found)


@pytest.mark.parametrize("options", ALL.values(), ids=ALL.keys())
@pytest.mark.parametrize("rule", RULES)
def test_second_derivatives_are_those_of_the_memories_that_the_call_found(rule: str, options: dict[str, Any]) -> None:
    """A replay runs the whole call again for them."""
    found: list[dict[str, Tensor]] = []
    for engine in ("autograd", "replay"):
        settings: dict[str, Any] = {"k_top": 2, "k_att": 2, "k_trunc": 4, "capacity": 3, **options}
        layer = make(2, 3, 2, **settings, evict=RULES[rule](), engine=engine, backend="reference")
        x = draw(17, 3, 2).requires_grad_()
        reset = torch.zeros(17, 3) == 1
        reset[11, 1] = True
        torch.manual_seed(3)
        loss = layer(x, reset=reset)[0].pow(2).sum()
        torch.rand(1)
        d_x: Any = torch.autograd.grad(loss, x, create_graph=True)[0]
        d_x.pow(2).sum().backward()
        found.append({name: p.grad for name, p in layer.named_parameters() if p.grad is not None})
    assert_same_gradients(found[1], found[0])
