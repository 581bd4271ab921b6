"""Each backend, on its own records, sends the same credit into past calls after the weights have changed in between.

Which memories decided a recall is part of the record: with new weights, others of them may be the best.

Shapes: T time, B batch, H hidden.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from reminding import SAB
from reminding.ops import cpu_op
from tests.drawn import WHOLE
from tests.nn.samples import assert_same_gradients, chunks, draw, spread

pytestmark = pytest.mark.skipif(cpu_op.missing() is not None, reason=str(cpu_op.missing()))

RULES = [
    {"normalizer": "threshold"},
    {"normalizer": "threshold", "semantics": "release"},
    {"normalizer": "softmax"},
    {"normalizer": "softmax1"},
]
BOUNDS = [{}, {"capacity": 2}, {"capacity": 3, "evict": "least_recalled"}, {"capacity": 6, "evict": "least_recalled"}]


def trained(backend: str, options: dict[str, Any], parts: list[Tensor]) -> dict[str, Tensor]:
    """The gradient of the last chunk's loss, after large updates between the chunks."""
    settings: dict[str, Any] = {"k_top": 3, "recall_scale": 0.5, **options}
    layer = SAB(2, 3, backend=backend, dtype=torch.float64, **settings)
    spread(layer, 1, 0.6)
    state: Any = None
    for number, part in enumerate(parts):
        layer.zero_grad()
        output, state = layer(part, state)
        output.square().sum().backward()
        with torch.no_grad():
            for place, parameter in enumerate(layer.parameters() if number + 1 < len(parts) else ()):
                parameter += 0.3 * draw(*parameter.shape, seed=10 * number + place).to(parameter.device)
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in layer.named_parameters()}


SHAPES: list[tuple[int, int, int | None, str, int]] = [
    (4, 1, None, "lstm", 1),
    (5, 1, 3, "rnn", 2),
    (7, 2, 4, "gru", 1),
]
"""Steps a call, k_att, k_trunc, cell, layers."""


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("score", ["additive", "dot", "separable"])
@pytest.mark.parametrize("credit_every", [1, 3])
def test_the_op_sends_what_plain_pytorch_sends(
    rule: dict[str, Any], bound: dict[str, Any], score: str, credit_every: int
) -> None:
    """In each combination; with one of the shapes, in turn, or with all of them in the whole tests."""
    turn = RULES.index(rule) + BOUNDS.index(bound) + credit_every
    for length, k_att, k_trunc, cell, layers in SHAPES if WHOLE else [SHAPES[turn % len(SHAPES)]]:
        options = {**rule, **bound, "score": score, "credit_every": credit_every, "k_att": k_att, "k_trunc": k_trunc}
        scale = 0.05 if cell == "gru" else 0.5  # a GRU adds up its reads, and raw weights overflow
        options |= {"cell": cell, "num_layers": layers, "recall_scale": scale}
        parts = chunks(draw(3 * length, 2, 2, seed=length), length)
        want = trained("reference", options, parts)
        assert_same_gradients(trained("cpu", options, parts), want)


@pytest.mark.parametrize("rule", RULES[:2], ids=str)
def test_memories_that_tie_are_told_apart(rule: dict[str, Any]) -> None:
    """The first steps of a stream of zeros, without biases, all store the same memory."""
    options = {**rule, "score": "dot", "k_att": 1, "k_trunc": None, "bias": False}
    first = torch.cat([torch.zeros(4, 2, 2, dtype=torch.float64), draw(3, 2, 2, seed=0)])
    parts = [first, draw(5, 2, 2, seed=1), draw(2, 2, 2, seed=2)]
    assert_same_gradients(trained("cpu", options, parts), trained("reference", options, parts))
