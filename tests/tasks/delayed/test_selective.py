"""Selective copying: each symbol is repeated in its order, and nothing tells where the symbols are.

Shapes: B batch, L steps, S symbols.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reminding.tasks import SelectiveCopying, mean_metrics
from reminding.tasks.kinds.asked import UNASKED


@settings(max_examples=30)
@given(symbols=st.integers(1, 9), spare=st.integers(0, 40), alphabet=st.integers(2, 6), seed=st.integers(0, 9))
def test_the_symbols_are_asked_for_in_their_order(symbols: int, spare: int, alphabet: int, seed: int) -> None:
    task = SelectiveCopying(T=symbols + spare, symbols=symbols, alphabet=alphabet)
    batch = next(task.train_batches(5, seed))
    assert batch.input.shape == batch.target.shape == (task.T + symbols, 5)
    for tokens, target in zip(batch.input.T.numpy().tolist(), batch.target.T.numpy().tolist(), strict=True):
        assert tokens[task.T :] == [alphabet + 1] * symbols
        shown = [token for token in tokens[: task.T] if token != 0]
        assert len(shown) == symbols
        assert all(1 <= token <= alphabet for token in shown)
        assert target == [UNASKED] * task.T + [token - 1 for token in shown]


def test_symbols_and_places_are_drawn_evenly() -> None:
    task = SelectiveCopying(T=12, symbols=3, alphabet=4)
    batch = next(task.train_batches(20_000, 0))
    shown = batch.input[:12]
    at = (shown > 0).sum(1).double()
    assert ((at - 5000).abs() < 5 * math.sqrt(20_000 * 0.25 * 0.75)).all(), "every place is as likely"
    counts = torch.bincount(shown[shown > 0])[1:].double()
    assert ((counts - 15_000).abs() < 5 * math.sqrt(60_000 * 0.25 * 0.75)).all()
    first, second = batch.target[12], batch.target[13]
    assert (first == second).double().mean() == pytest.approx(0.25, abs=0.02)


def test_a_row_does_not_share_its_places_with_another() -> None:
    batch = next(SelectiveCopying(T=500, symbols=4).train_batches(50, 0))
    places = {tuple(row.nonzero().flatten().numpy().tolist()) for row in batch.input[:500].T}
    assert len(places) == 50


def test_loss_and_metrics_are_at_the_markers_alone() -> None:
    task = SelectiveCopying(T=9, symbols=3, alphabet=5)
    batch = next(task.train_batches(4, 0))
    uniform = torch.zeros(12, 4, 5, requires_grad=True)
    loss = task.loss(uniform, batch)
    assert loss.item() == pytest.approx(math.log(5))
    loss.backward()
    assert uniform.grad is not None
    assert (uniform.grad.abs().sum((1, 2)) > 0).numpy().tolist() == [False] * 9 + [True] * 3
    right = torch.zeros(12, 4, 5)
    right[9:] = torch.nn.functional.one_hot(batch.target[9:], 5).float()
    right[11, 0] = right[11, 0].roll(1)
    assert mean_metrics([task.metrics(right, batch)])["accuracy"] == pytest.approx(11 / 12)


def test_the_published_setting_is_the_default() -> None:
    task = SelectiveCopying()
    assert (task.T, task.symbols, task.vocabulary) == (4096, 16, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"symbols": 0}, "symbols must be"), ({"T": 15}, "T must be .* 16, got 15"), ({"alphabet": 1}, "alphabet must")],
)
def test_options_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SelectiveCopying(**options)
