"""The copying task: inputs, targets, and the score of a model without memory."""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from reminding.tasks import Batch, Copying, mean_metrics


@settings(max_examples=50)
@given(T=st.integers(1, 30), symbols=st.integers(1, 12), alphabet=st.integers(2, 12), rows=st.integers(1, 5))
def test_layout(T: int, symbols: int, alphabet: int, rows: int) -> None:
    task = Copying(T, symbols, alphabet)
    batch = next(task.train_batches(rows, seed=1))
    shown, blanks, recall = torch.split(batch.input, [symbols, T, symbols])
    assert batch.input.dtype == batch.target.dtype == torch.int64
    assert batch.input.shape == batch.target.shape == (T + 2 * symbols, rows)
    assert bool(((shown >= 1) & (shown <= alphabet)).all())
    assert bool((blanks[:-1] == 0).all())
    assert bool((blanks[-1] == alphabet + 1).all())
    assert bool((recall == 0).all())
    assert bool((batch.target[: T + symbols] == 0).all())
    assert torch.equal(batch.target[-symbols:], shown)
    assert task.vocabulary == task.input_size == task.output_size == alphabet + 2


def test_defaults_are_the_published_task() -> None:
    task = Copying()
    assert (task.T, task.symbols, task.alphabet, task.vocabulary) == (100, 10, 8, 10)
    assert next(task.train_batches(2, 0)).input.shape == (120, 2)


def test_symbols_are_uniform() -> None:
    batches = islice(Copying(T=1).train_batches(100, seed=0), 20)
    counts = torch.cat([b.input[:10].flatten() for b in batches]).bincount(minlength=10)[1:9]
    chi_square = ((counts - 2500.0) ** 2 / 2500).sum()
    assert counts.sum() == 20_000
    assert chi_square < 24.3, "0.1% critical value, 7 degrees of freedom"


def without_memory(task: Copying, batch: Batch) -> torch.Tensor:
    """Logits of the best model without memory: blanks, then any symbol."""
    prediction = torch.full((*batch.input.shape, task.output_size), -1e4)
    prediction[: -task.symbols, :, 0] = 0.0
    prediction[-task.symbols :, :, 1 : task.alphabet + 1] = 0.0
    return prediction


@pytest.mark.parametrize("task", [Copying(), Copying(T=20, symbols=4, alphabet=3)])
def test_cross_entropy_without_memory(task: Copying) -> None:
    batch = next(task.train_batches(16, seed=0))
    prediction = without_memory(task, batch)
    expected = task.symbols * math.log(task.alphabet) / (task.T + 2 * task.symbols)
    means = mean_metrics([task.metrics(prediction, batch)])
    assert float(task.loss(prediction, batch)) == pytest.approx(expected, rel=1e-5)
    assert means["cross_entropy"] == pytest.approx(expected, rel=1e-5)
    assert means["cross_entropy_recall"] == pytest.approx(math.log(task.alphabet), rel=1e-5)


@pytest.mark.parametrize("T", [5, 300])
def test_balanced_what_is_recalled_counts_the_same_at_every_length(T: int) -> None:
    task = Copying(T, symbols=4, balanced=True)
    batch = next(task.train_batches(16, seed=0))
    assert float(task.loss(without_memory(task, batch), batch)) == pytest.approx(math.log(8), rel=1e-5)
    uniform = torch.zeros(*batch.input.shape, task.output_size)
    assert float(task.loss(uniform, batch)) == pytest.approx(2 * math.log(10), rel=1e-5)
    assert task.metrics(uniform, batch) == Copying(T, symbols=4).metrics(uniform, batch)


def test_guessing_gets_one_in_alphabet() -> None:
    task = Copying(T=1)
    guess = [task.metrics(without_memory(task, batch), batch) for batch in task.eval_batches("test", 100, limit=2000)]
    means = mean_metrics(guess)  # in a tie, argmax always takes the same symbol
    assert means["accuracy"] == pytest.approx(1 / 8, abs=4 * math.sqrt(0.125 * 0.875 / 20_000))
    assert means["accuracy_all"] == pytest.approx((11 + 10 * means["accuracy"]) / 21, rel=1e-6)


def test_remembering_gets_all() -> None:
    task = Copying(T=7)
    batch = next(task.train_batches(5, seed=0))
    means = mean_metrics([task.metrics(F.one_hot(batch.target, 10) * 100.0, batch)])
    assert means == pytest.approx({"accuracy": 1, "accuracy_all": 1, "cross_entropy": 0, "cross_entropy_recall": 0})


def test_only_the_recalled_steps_count_for_accuracy() -> None:
    task = Copying(T=7, symbols=2)
    batch = next(task.train_batches(3, seed=0))
    prediction = F.one_hot(batch.target, 10) * 100.0
    prediction[-1] = prediction[-1].roll(1, dims=-1)  # the last symbol of every row is wrong
    metrics = task.metrics(prediction, batch)
    assert metrics["accuracy"] == (3, 6)
    assert metrics["accuracy_all"] == (30, 33)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"T": 0}, "T must be an integer of at least 1, got 0"),
        ({"T": 2.5}, r"T must be an integer of at least 1, got 2\.5"),
        ({"symbols": 0}, "symbols must be an integer of at least 1, got 0"),
        ({"symbols": True}, "symbols must be an integer of at least 1, got True"),
        ({"alphabet": 1}, "alphabet must be an integer of at least 2, got 1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Copying(**options)
