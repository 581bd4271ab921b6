"""Memories: capacity, eviction rules, and users' scorers.

Shapes: T time, B batch, M memory slots, H hidden, D score width.
"""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reminding import SAB, Memory
from tests.nn.samples import assert_same_gradients, assert_same_recall, draw, gradients, make
from tests.tolerance import assert_equal


class OwnScorer(nn.Module):
    """The paper's score again, as a user would write it."""

    def __init__(self, layer: SAB, number: int = 0) -> None:
        super().__init__()
        for name in ("memory", "query", "out"):
            setattr(self, name, nn.Parameter(layer.get_parameter(f"score_{name}_l{number}").detach().clone()))

    def keys(self, memory: Tensor) -> Tensor:
        return memory @ self.get_parameter("memory").T

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        asked = query @ self.get_parameter("query").T
        return torch.tanh(keys + asked.unsqueeze(1)) @ self.get_parameter("out")


class Cosine(nn.Module):
    """A scorer without parameters."""

    def keys(self, memory: Tensor) -> Tensor:
        return nn.functional.normalize(memory, dim=-1)

    def scores(self, keys: Tensor, query: Tensor) -> Tensor:
        return (keys * nn.functional.normalize(query, dim=-1).unsqueeze(1)).sum(2)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_scorer_of_ones_own_equals_the_built_in_one(num_layers: int) -> None:
    options: dict[str, Any] = {"num_layers": num_layers, "k_top": 2, "k_att": 2, "k_trunc": 3}
    layer = make(**options)
    scorers = [OwnScorer(layer, i) for i in range(num_layers)]
    other = SAB(3, 4, score=scorers if num_layers > 1 else scorers[0], dtype=torch.float64, **options)
    recurrent = {name: w for name, w in layer.state_dict().items() if not name.startswith("score")}
    other.load_state_dict(recurrent, strict=False)
    x = draw(11, 2, 3).requires_grad_()
    output, _, recall = layer(x, return_recall=True)
    y, _, read = other(x, return_recall=True)
    assert_equal(y, output, "output")
    assert_same_recall(read, recall)
    wanted = gradients(layer, output.pow(2).sum(), x=x)
    got = gradients(other, y.pow(2).sum(), x=x)
    for i in range(num_layers):
        for part in ("memory", "query", "out"):
            got[f"score_{part}_l{i}"] = got.pop(f"scorers.{i}.{part}")
    assert_same_gradients(got, wanted)


def test_a_scorer_may_have_no_parameters() -> None:
    layer = make(score=Cosine(), k_top=1, k_att=1, k_trunc=None)
    output, _, recall = layer(draw(9, 2, 3), return_recall=True)
    assert recall.step[1:].min() >= 1
    assert {name.split("_")[0] for name, _ in layer.named_parameters()} == {"weight", "bias"}
    output.sum().backward()


def test_under_autocast_scores_stay_in_full_precision() -> None:
    """Choosing the best few of thousands needs the higher precision; only cells use the lower one."""

    class Watched(Cosine):
        def scores(self, keys: Tensor, query: Tensor) -> Tensor:
            assert not torch.is_autocast_enabled("cpu")
            assert keys.dtype == query.dtype == torch.float32
            return super().scores(keys, query)

    class WatchedCell(nn.GRUCell):
        def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(input, hx)

    seen: list[bool] = []
    layer = SAB(3, 4, cell=WatchedCell(3, 4), score=Watched(), k_top=2, k_att=1)
    seen.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        recall = layer(draw(6, 2, 3, dtype=torch.float32), return_recall=True)[2]
    assert seen == [True] * 6
    assert recall.weight.dtype == torch.float32


def test_the_dot_products_size_does_not_grow_with_its_width() -> None:
    """Scores are divided by the square root of the width."""
    layer = make(score="dot", k_top=2, k_att=1, hidden_size=4, score_size=9)
    wide = make(score="dot", k_top=2, k_att=1, hidden_size=4, score_size=36)
    weights = layer.state_dict()
    for name in ("score_memory_l0", "score_query_l0"):
        weights[name] = weights[name].repeat(4, 1) / math.sqrt(2)
    wide.load_state_dict(weights)
    assert_equal(wide(draw(8, 2, 3))[0], layer(draw(8, 2, 3))[0], "output")


@pytest.mark.parametrize("capacity", [1, 3, 50])
def test_first_in_first_out_keeps_the_newest(capacity: int) -> None:
    layer = make(k_top=2, k_att=2, k_trunc=4, capacity=capacity)
    _, state, recall = layer(draw(21, 2, 3), return_recall=True)
    newest: list[int] = [step for step in range(1, 22) if step % 2 == 0][-capacity:]
    assert state.memory_step[0].tolist() == [newest, newest]
    for t in range(21):
        recalled = {int(step) for step in recall.step[t].flatten() if step}
        assert recalled <= set([step for step in range(1, t + 1) if step % 2 == 0][-capacity:])


def test_a_roomy_memory_is_an_unlimited_one() -> None:
    x = draw(15, 2, 3)
    free, bounded = make(k_top=2, k_att=1), make(k_top=2, k_att=1, capacity=15)
    assert_equal(bounded(x)[0], free(x)[0], "output")
    assert not torch.allclose(make(k_top=2, k_att=1, capacity=3)(x)[0], free(x)[0])


def test_the_least_recalled_goes() -> None:
    """The evictions are worked out by hand from the recalls that the layer returned."""
    layer = make(k_top=2, k_att=1, k_trunc=4, capacity=4, evict="least_recalled")
    _, state, recall = layer(draw(25, 1, 3), return_recall=True)
    held: dict[int, float] = {}
    for t in range(25):
        for step, weight in zip(recall.step[t, 0].tolist(), recall.weight[t, 0].tolist(), strict=True):
            if step:
                held[step] += weight
        if len(held) == 4:
            del held[min(held, key=lambda step: (held[step], step))]
        held[t + 1] = 0.0
    assert state.memory_step[0, 0].tolist() == sorted(held)
    kept = torch.tensor([[held[step] for step in sorted(held)]], dtype=torch.float64)
    assert_equal(state.layers[0].memory.weight, kept, "accumulated weight")


def test_the_state_stays_of_one_size() -> None:
    layer = make(k_top=2, k_att=1, capacity=5, horizon=0)
    _, state = layer(draw(10, 2, 3))
    size = state.nbytes
    for seed in range(3):
        _, state = layer(draw(13, 2, 3, seed=seed), state)
        assert state.nbytes == size


def newest(memory: Memory) -> Tensor:
    """A user's eviction rule: evict the newest memory."""
    return memory.count.to(memory.value.device) - 1


def test_an_eviction_rule_of_ones_own() -> None:
    layer = make(k_top=2, k_att=1, capacity=3, evict=newest)
    _, state = layer(draw(9, 2, 3))
    assert state.memory_step[0].tolist() == [[1, 2, 9], [1, 2, 9]]


def test_what_a_rule_names_in_rows_that_have_room_does_not_matter() -> None:
    layer = make(k_top=2, k_att=1, capacity=3, evict=newest)
    _, state = layer(draw(9, 2, 3))
    _, state = layer(draw(2, 2, 3), state, reset=torch.tensor([False, True]))  # row 1 has none, so its newest is -1
    assert state.memory_step[0].tolist() == [[1, 2, 11], [1, 2, 0]]


def test_the_named_rule_and_the_same_one_as_a_function() -> None:
    def oldest(memory: Memory) -> Tensor:
        assert memory.step.shape == memory.weight.shape == memory.value.shape[:2]
        return memory.step.argmin(1)

    options: dict[str, Any] = {"k_top": 2, "k_att": 1, "capacity": 3}
    x = draw(9, 2, 3)
    assert_equal(make(**options, evict=oldest)(x)[0], make(**options)(x)[0], "output")


PER_ROW = "evict must return one int64 slot per row, shape (2,); got "
WRONG: dict[str, tuple[Any, str]] = {
    "nothing": (None, "evict must return a tensor with one int64 slot per row, got NoneType"),
    "a number": (0, "evict must return a tensor with one int64 slot per row, got int"),
    "one for all": (torch.tensor(0), PER_ROW + "torch.int64 of shape ()"),
    "float": (torch.zeros(2), PER_ROW + "torch.float32 of shape (2,)"),
    "too large": (torch.tensor([0, 7]), "evict must return slots from 0 to 2, got [0, 7]"),
    "negative": (torch.tensor([-1, 0]), "evict must return slots from 0 to 2, got [-1, 0]"),
}


@pytest.mark.parametrize(("answer", "message"), WRONG.values(), ids=WRONG.keys())
def test_an_eviction_rule_that_answers_wrongly_is_told(answer: Any, message: str) -> None:
    def evict(memory: Memory) -> Any:
        return answer

    layer = make(k_top=2, k_att=1, capacity=3, evict=evict)
    layer(draw(3, 2, 3))
    with pytest.raises(ValueError, match=re.escape(message)):
        layer(draw(4, 2, 3))


def test_gradient_still_reaches_a_memory_that_has_gone() -> None:
    """A memory keeps the gradient from steps that read it before its eviction."""
    layer = make(k_top=1, k_att=1, k_trunc=1, capacity=1)
    x = draw(4, 1, 3).requires_grad_()
    output, state = layer(x)
    assert state.memory_step.tolist() == [[[4]]]
    (found,) = torch.autograd.grad(output[1].sum(), x)
    assert found[0].any()


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_without_backtracking_the_memory_is_a_constant_to_the_caller_too(backend: str) -> None:
    _, state = make(k_top=2, k_att=1, backtrack=False, backend=backend)(draw(6, 2, 3))
    assert not state.memory.requires_grad
    assert state.h.requires_grad
