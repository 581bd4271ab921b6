"""The Transformer baseline: its positions, its state, and what it refuses.

Shapes: T time, B batch, I input, H hidden, N heads.
"""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from reminding.nn import Transformer
from reminding.nn.baselines.transformer import buckets
from tests.nn.baselines.makers import Maker, baseline
from tests.nn.samples import draw, gradients
from tests.tolerance import assert_equal


def test_a_transformer_knows_where_it_is() -> None:
    """The same input at each step gives different outputs, since the sinusoidal positions differ."""
    layer = baseline(Transformer)
    assert isinstance(layer, Transformer)
    x = torch.ones(6, 1, 3, dtype=torch.float64)
    output = layer(x)[0]
    assert not torch.allclose(output[1:], output[:-1])
    seen = layer._positions(torch.zeros(6, 1, dtype=torch.int64))  # pyright: ignore[reportPrivateUsage]
    for t in range(6):
        expected = [math.sin(t), math.sin(t / 100), math.cos(t), math.cos(t / 100)]
        assert_equal(seen[t, 0], torch.tensor(expected, dtype=torch.float64), "position", floor=1e3)


def test_a_transformers_recall_is_empty() -> None:
    recall = baseline(Transformer)(draw(9, 2, 3), return_recall=True)[2]
    assert recall.step.shape == recall.weight.shape == (9, 2, 0)
    assert not recall.summary.any()


def test_a_transformers_credit_stops_at_the_border_of_two_calls() -> None:
    layer = baseline(Transformer)
    first, second = draw(6, 2, 3).requires_grad_(), draw(6, 2, 3, seed=2).requires_grad_()
    _, state = layer(first)
    found = gradients(layer, layer(second, state)[0].sum(), first=first, second=second)
    assert not found["first"].any()
    assert found["second"].any()


def test_a_transformers_dropout_is_for_training() -> None:
    layer = baseline(Transformer, dropout=0.5)
    x = draw(9, 2, 3)
    assert torch.equal(layer(x)[0], layer(x)[0])
    layer.train()
    assert not torch.allclose(layer(x)[0], layer(x)[0])


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "heads": ({"heads": 3}, "heads must divide hidden_size=4, got 3"),
    "no heads": ({"heads": 0}, "heads must be an integer of at least 1, got 0"),
    "dropout": ({"dropout": 2}, "dropout must be a number from 0 to 1, got 2"),
    "layers": ({"num_layers": 0}, "num_layers must be an integer of at least 1, got 0"),
    "positions": (
        {"positions": "learned"},
        "positions must be one of ['sinusoidal', 'alibi', 't5', 'none'], got 'learned'",
    ),
    "input": ({"input_size": -1}, "input_size must be an integer of at least 1, got -1"),
    "hidden": ({"hidden_size": 2.5}, "hidden_size must be an integer of at least 1, got 2.5"),
}


@pytest.mark.parametrize(("options", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_wrong_settings_of_a_transformer(options: dict[str, Any], message: str) -> None:
    maker: Maker = Transformer
    settings: dict[str, Any] = {"input_size": 3, "hidden_size": 4, **options}
    with pytest.raises(ValueError, match=re.escape(message)):
        maker(**settings)


def test_wrong_input_of_a_transformer() -> None:
    layer = baseline(Transformer)
    _, state = layer(draw(4, 2, 3))
    packed = pack_sequence([draw(4, 3), draw(2, 3)])
    carried = "state cannot be carried into or out of a PackedSequence by the Transformer baseline"
    with pytest.raises(ValueError, match=carried):
        layer(packed, state)
    with pytest.raises(ValueError, match=carried):
        layer(draw(4, 2, 3), layer(packed)[1].detach())
    with pytest.raises(ValueError, match=r"state must be of 5 rows and 3 features, got \(2, 3\)"):
        layer(draw(4, 5, 3), state)
    with pytest.raises(ValueError, match="state must be a TransformerState, got int"):
        layer(draw(4, 2, 3), 5)
    with pytest.raises(ValueError, match="input must have input_size=3 features in its last axis, got 2"):
        layer(draw(4, 2, 2))
    with pytest.raises(
        ValueError, match=r"reset must be bool of shape \(2,\) or \(4, 2\), got .*bool of shape \(4,\)"
    ):
        layer(draw(4, 2, 3), reset=torch.zeros(4, dtype=torch.bool))


@pytest.mark.parametrize("positions", ["alibi", "t5", "none"])
def test_relative_positions_say_the_same_wherever_a_stream_begins(positions: Any) -> None:
    """A stream after another one gives what it gives alone; only absolute positions count from its beginning."""
    layer = baseline(Transformer, positions=positions)
    x = draw(9, 1, 3)
    reset = torch.zeros(9, 1, dtype=torch.bool)
    reset[4] = True
    assert_equal(layer(x, reset=reset)[0][4:], layer(x[4:])[0], "output of the second stream")


def scores(layer: Transformer, steps: int) -> Tensor:
    """The position's term of the scores, (N, query, key)."""
    found = layer._relative(steps, torch.device("cpu"))  # pyright: ignore[reportPrivateUsage]
    assert found is not None
    return found


def test_alibi_falls_with_the_distance() -> None:
    """The rates of 8 heads are 1/2, 1/4, ... 1/256, as published."""
    found = scores(Transformer(3, 16, heads=8, positions="alibi").double(), 5)
    for head in range(8):
        for query in range(5):
            for key in range(query + 1):
                assert found[head, query, key] == -(query - key) * 0.5 ** (head + 1)


def test_t5_has_a_learned_term_for_each_range_of_distances() -> None:
    layer = Transformer(3, 4, heads=2, positions="t5").double()
    assert layer.bias is not None
    found = scores(layer, 200)
    for query, key, bucket in ((0, 0, 0), (9, 8, 1), (15, 0, 15), (199, 178, 18), (199, 100, 30), (199, 0, 31)):
        assert torch.equal(found[:, query, key], layer.bias.weight[bucket])
    (layer(draw(9, 2, 3))[0] * draw(9, 2, 4)).sum().backward()  # the plain sum of a normalized vector is constant
    assert layer.bias.weight.grad is not None
    assert [bool(row.any()) for row in layer.bias.weight.grad] == [True] * 9 + [False] * 23


def test_buckets_are_single_up_to_16_and_grow_like_the_logarithm() -> None:
    found = [int(bucket) for bucket in buckets(torch.arange(300))]
    for distance, bucket in enumerate(found):
        grown = 16 + int(math.log(max(distance, 1) / 16) / math.log(8) * 16)
        assert bucket == (distance if distance < 16 else min(grown, 31))
    assert found == sorted(found)
    assert set(found) == set(range(32))


def test_without_positions_the_order_of_the_past_is_lost_in_one_layer() -> None:
    """A single layer's attention is a weighted mean of the past: its order does not change the last output."""
    x = draw(6, 1, 3)
    shuffled = x[[3, 0, 4, 1, 2, 5]]
    for positions, same in (("none", True), ("alibi", False), ("t5", False), ("sinusoidal", False)):
        layer = baseline(Transformer, positions=positions)
        assert torch.allclose(layer(x)[0][-1], layer(shuffled)[0][-1]) == same, positions


def test_a_state_of_another_type_is_refused_by_name() -> None:
    _, state = Transformer(3, 8).double()(torch.randn(4, 2, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"state must be of torch\.float32 on cpu, got torch\.float64 on cpu"):
        Transformer(3, 8)(torch.randn(2, 2, 3), state)
