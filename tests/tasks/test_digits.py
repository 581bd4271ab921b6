"""The 8x8 digits: the split, the order of the pixels, batches and metrics."""

from __future__ import annotations

import math
import sys
from itertools import islice

import numpy as np
import pytest
import torch

from reminding.tasks import Batch, Digits, MetricSums, Split, digits, mean_metrics

sklearn_datasets = pytest.importorskip("sklearn.datasets")
SIZES: dict[Split, int] = {"train": 1297, "valid": 250, "test": 250}


def test_split_is_stratified_disjoint_and_whole() -> None:
    task = Digits()
    loaded = sklearn_datasets.load_digits()
    parts = {split: task.examples(split) for split in SIZES}
    assert {split: len(part.label) for split, part in parts.items()} == SIZES
    for split in ("valid", "test"):
        assert parts[split].label.bincount().numpy().tolist() == [25] * 10
    rows = np.concatenate([np.c_[part.pixels.numpy(), part.label.numpy()] for part in parts.values()])
    official = np.c_[loaded.data.astype(int), loaded.target]
    assert np.array_equal(np.unique(rows, axis=0), np.unique(official, axis=0))
    assert len(rows) == 1797


def test_pixels_come_in_row_order_between_0_and_1() -> None:
    batch = next(Digits().eval_batches("test", 1))
    images, labels = sklearn_datasets.load_digits().images, sklearn_datasets.load_digits().target
    shown = batch.input.reshape(8, 8).numpy() * 16
    (match,) = np.flatnonzero((images == shown).all(axis=(1, 2)))
    assert labels[match] == batch.target[0]
    whole = torch.cat([b.input for b in Digits().eval_batches("test", 100)], dim=1)
    assert whole.shape == (64, 250, 1)
    assert whole.dtype == torch.float32
    assert (whole.min(), whole.max()) == (0, 1)


def test_an_epoch_shows_each_example_at_most_once_and_epochs_differ() -> None:
    def epoch(number: int) -> set[bytes]:
        batches = islice(Digits().train_batches(64, seed=0, start=20 * number), 20)
        rows = torch.cat([b.input[:, :, 0] for b in batches], dim=1).T.contiguous()
        seen = {row.numpy().tobytes() for row in rows}
        assert len(seen) == 20 * 64, "no two training digits are alike, so none came twice"
        return seen

    assert epoch(0) != epoch(1), "other examples are left out at the end"


def test_a_limit_is_spread_over_the_split() -> None:
    (few,) = Digits().eval_batches("test", 100, limit=10)
    assert few.target.numpy().tolist() == list(range(10)), "the test split is ordered by class"
    everything = list(Digits().eval_batches("test", 100, limit=10_000))
    assert [b.target.shape[0] for b in everything] == [100, 100, 50]


def test_metrics_of_known_predictors() -> None:
    task = Digits()
    sure: list[MetricSums] = []
    unsure: list[MetricSums] = []
    for batch in task.eval_batches("valid", 100):
        prediction = torch.zeros(64, batch.target.shape[0], 10)
        unsure.append(task.metrics(prediction, batch))
        prediction[-1, range(len(batch.target)), batch.target] = 100.0
        sure.append(task.metrics(prediction, batch))
        assert float(task.loss(prediction, batch)) == pytest.approx(0, abs=1e-6)
    assert mean_metrics(unsure) == pytest.approx({"accuracy": 0.1, "cross_entropy": math.log(10)})
    assert mean_metrics(sure) == pytest.approx({"accuracy": 1.0, "cross_entropy": 0.0}, abs=1e-6)


def test_only_the_last_step_counts() -> None:
    batch = Batch(torch.zeros(64, 1, 1), torch.tensor([3]))
    prediction = torch.zeros(64, 1, 10)
    prediction[:-1, :, 3] = 100.0
    assert float(Digits().loss(prediction, batch)) == pytest.approx(math.log(10))


def test_batch_size_above_the_data_set() -> None:
    with pytest.raises(ValueError, match=r"batch_size must be at most 1297, the number of .*, got 1298"):
        Digits().train_batches(1298, 0)


def test_missing_scikit_learn_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    digits._splits.cache_clear()  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(ImportError, match=r'pip install "reminding\[experiments\]"'):
        Digits().train_batches(1, 0)
