"""The compiled op with a full memory: which memories are evicted, which stay, and which are credited.

Shapes: T time, B batch, I input, H hidden, M memory slots.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from reminding.ops import cpu_op
from tests.nn.samples import (
    BUILT,
    assert_same_gradients,
    assert_same_recall,
    assert_same_state,
    chunks,
    draw,
    make,
    run,
)
from tests.tolerance import assert_equal

pytestmark = pytest.mark.skipif(cpu_op.missing() is not None, reason=str(cpu_op.missing()))

both_ways = pytest.mark.parametrize("evict", ["fifo", "least_recalled"])
both_engines = pytest.mark.parametrize("engine", ["autograd", "replay"])


def begin_apart(rows: int, steps: int) -> Tensor:
    """A mask (T, B): the rows' streams begin at different steps, the last row's too late to fill its memory."""
    mask = torch.zeros(steps, rows, dtype=torch.bool)
    for row in range(1, rows):
        mask[3 * row, row] = True
    mask[-4, -1] = True
    return mask


@both_ways
@both_engines
@pytest.mark.parametrize("score", ["additive", "dot", "separable"])
@pytest.mark.parametrize("semantics", ["paper", "release"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_rows_in_different_phases_equal_the_reference(
    dtype: torch.dtype, semantics: str, score: str, engine: str, evict: str
) -> None:
    """Four of five memories are ranked (including the threshold's slot), so ranked memories are often evicted."""
    options: dict[str, Any] = {"k_top": 3, "k_att": 2, "k_trunc": 5, "capacity": 5}
    # In float32, the threshold's weights have errors of 1e-3 where their sum is small.
    options["normalizer"] = "threshold" if dtype == torch.float64 else "softmax"
    options |= {"semantics": semantics, "score": score, "evict": evict, "dtype": dtype}
    layer = make(3, 19, **options, backend="cpu", engine=engine, seed=3)
    other = make(3, 19, **options, backend="reference", seed=3)
    x, mask = draw(41, 5, 3, dtype=dtype), begin_apart(5, 41)
    _, state, recall, found = run(layer, x, mask)
    _, after, read, wanted = run(other, x, mask)
    assert_same_state(state, after)
    assert_same_recall(recall, read)
    assert_same_gradients(found, wanted)
    assert state.layers[0].memory.count.tolist() == [5, 5, 5, 5, 2 + (semantics == "release")]


@pytest.mark.parametrize(
    ("evict", "normalizer", "kept"),
    [
        ("fifo", "softmax", [18, 19, 20]),
        ("fifo", "threshold", [18, 19, 20]),
        ("least_recalled", "softmax", [1, 19, 20]),
        ("least_recalled", "threshold", [18, 19, 20]),
    ],
)
@pytest.mark.parametrize("score", ["additive", "dot", "separable"])
def test_of_equals_the_oldest_is_recalled_and_the_oldest_goes(
    score: str, evict: str, normalizer: str, kept: list[int]
) -> None:
    """Every score is 0. With softmax, step 1 is recalled at every step; with the threshold, nothing is recalled."""
    layer = make(
        k_top=1, k_att=1, k_trunc=4, capacity=3, evict=evict, normalizer=normalizer, score=score, backend="cpu"
    )
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith("score"):
                parameter.zero_()
    _, state, recall = layer(draw(20, 2, 3) * 0.1, return_recall=True)
    assert state.memory_step[0].tolist() == [kept, kept]
    if kept[0] == 1:
        assert recall.step[1:].eq(1).all()


@both_ways
@both_engines
def test_one_memory_is_the_last_one(evict: str, engine: str) -> None:
    layer = make(k_top=3, k_att=2, k_trunc=3, capacity=1, evict=evict, backend="cpu", engine=engine)
    x = draw(11, 2, 3).requires_grad_()
    output, state, recall = layer(x, return_recall=True)
    assert recall.step[2:, :, 0].tolist() == [[t // 2 * 2] * 2 for t in range(2, 11)]
    assert not recall.step[:, :, 1:].any()
    assert state.memory_step.tolist() == [[[10], [10]]]
    output.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum(2).min() > 0


@both_ways
def test_chunks_leave_the_state_that_the_whole_leaves(evict: str) -> None:
    """One call has many times more slots than the capacity; another has few, most of them given to it."""
    layer = make(3, 8, k_top=3, k_att=1, k_trunc=4, capacity=6, evict=evict, score="dot", backend="cpu")
    x = draw(60, 3, 3) * 0.3
    _, whole = layer(x)
    state: Any = None
    for piece in chunks(x, [1, 2, 7, 50]):
        _, state = layer(piece, state)
    assert_same_state(state, whole)
    assert state.nbytes == whole.nbytes
    if evict == "least_recalled":
        newest = list(range(55, 61))
        assert all(steps != newest for steps in whole.memory_step[0].tolist()), "not what fifo would keep"


def test_a_state_that_is_not_full_yet_goes_on() -> None:
    """The memories of an unbounded layer: as many as the bounded layer may hold, and one more."""
    options: dict[str, Any] = {"k_top": 2, "k_att": 1, "k_trunc": 4, "backend": "cpu"}
    _, state = make(**options)(draw(5, 2, 3))
    _, after = make(**options, capacity=5)(draw(2, 2, 3), state)
    assert after.memory_step[0, 0].tolist() == [3, 4, 5, 6, 7]
    with pytest.raises(ValueError, match="state holds 5 memories a row, more than the layer's capacity=4"):
        make(**options, capacity=4)(draw(2, 2, 3), state)


@pytest.mark.parametrize("credit_every", [1, 2])
@pytest.mark.parametrize("engine", ["autograd", "replay"])
@pytest.mark.parametrize("backend", BUILT)
def test_credit_goes_on_from_an_unbounded_layer_to_one_that_evicts_the_oldest(
    backend: str, engine: str, credit_every: int
) -> None:
    """While nothing was evicted both are the same."""

    def gradients(capacity: int | None) -> list[Tensor]:
        options: dict[str, Any] = {"backend": backend, "engine": engine, "credit_every": credit_every}
        options |= {"k_top": 2, "k_att": 1, "k_trunc": 3}
        _, state = make(**options, capacity=capacity)(draw(5, 2, 3))
        layer, loss = make(**options, capacity=6), torch.zeros((), dtype=torch.float64)
        for seed in (1, 2):
            output, state = layer(draw(4, 2, 3, seed=seed), state)
            loss = loss + seed * output.square().sum()
        loss.backward()
        layer.settle(state)
        return [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]

    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of another layer's parameters
        found, wanted = gradients(None), gradients(6)
    for got, want in zip(found, wanted, strict=True):
        assert_equal(got, want, "gradient")
