"""The adding problem: the places of the markers, their sum, and the error of predicting the mean."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reminding.tasks import Adding, mean_metrics


@settings(max_examples=50)
@given(T=st.integers(2, 40), rows=st.integers(1, 8), seed=st.integers(0, 50))
def test_layout(T: int, rows: int, seed: int) -> None:
    task = Adding(T)
    batch = next(task.train_batches(rows, seed))
    values, markers = batch.input.unbind(-1)
    assert batch.input.shape == (T, rows, 2)
    assert batch.input.dtype == batch.target.dtype == torch.float32
    assert bool(((values >= 0) & (values < 1)).all())
    assert bool(((markers == 0) | (markers == 1)).all())
    assert torch.equal(markers[: T // 2].sum(0), torch.ones(rows))
    assert torch.equal(markers[T // 2 :].sum(0), torch.ones(rows))
    torch.testing.assert_close((values * markers).sum(0), batch.target)
    assert (task.vocabulary, task.input_size, task.output_size) == (None, 2, 1)


def test_every_step_can_be_marked() -> None:
    marked = next(Adding(T=7).train_batches(500, 0)).input[..., 1].sum(1)
    assert bool((marked > 0).all())


def test_the_mean_gets_one_sixth() -> None:
    task = Adding(T=30)
    parts = [
        task.metrics(torch.ones(30, batch.target.shape[0], 1), batch)
        for batch in task.eval_batches("test", 300, limit=5000)
    ]
    # Var((S - 1)^2) = 1/15 - 1/36, so 4 standard errors of 5,000 sequences are 0.0112.
    assert mean_metrics(parts)["mse"] == pytest.approx(1 / 6, abs=0.0112)


def test_only_the_last_step_counts() -> None:
    task = Adding(T=6)
    batch = next(task.train_batches(4, 0))
    prediction = torch.full((6, 4, 1), 50.0)
    prediction[-1, :, 0] = batch.target
    assert float(task.loss(prediction, batch)) == 0
    assert task.metrics(prediction, batch) == {"mse": (0.0, 4)}
    prediction[-1, 2] += 2
    assert float(task.loss(prediction, batch)) == pytest.approx(1.0)
    assert task.metrics(prediction, batch)["mse"] == (pytest.approx(4.0), 4)


def test_bad_options() -> None:
    with pytest.raises(ValueError, match="T must be an integer of at least 2, got 1"):
        Adding(T=1)
