"""What surrounds an estimator, such as threads and PyTorch's defaults, changes nothing; changing streams are learned.

Shapes: N series, T steps.
"""

# pyright: basic

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("river")
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from reminding.estimators import (
    SABClassifier,
    SABForecaster,
    SABOnlineClassifier,
    SABOnlineRegressor,
    SABRegressor,
)

X = np.random.default_rng(0).normal(size=(40, 8))
FAST = {"hidden_size": 4, "epochs": 2, "random_state": 0}


def test_fits_in_threads_give_the_networks_of_fits_one_by_one() -> None:
    def predicted(number: int) -> Any:
        return SABRegressor(**{**FAST, "random_state": number % 3}).fit(X, X[:, 2]).predict(X)

    torch.manual_seed(5)
    before = torch.get_rng_state()
    alone = [predicted(number) for number in range(6)]
    with ThreadPoolExecutor(6) as threads:
        together = list(threads.map(predicted, range(6)))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("online", [False, True])
def test_the_default_type_of_tensors_does_not_count(online: bool) -> None:
    found: list[Any] = []
    for kind in (torch.float32, torch.float64):
        torch.set_default_dtype(kind)
        try:
            if online:
                model = SABOnlineRegressor(hidden_size=4, seed=0)
                for row in X:
                    model.learn_one({"a": row[0]}, row[1])
                found.append(model.predict_one({"a": 1.0}))
            else:
                found.append(SABForecaster(**FAST).fit(X).predict(X))
            assert torch.get_default_dtype() == kind
        finally:
            torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("kind", [SABOnlineRegressor, SABOnlineClassifier])
def test_without_a_seed_the_callers_random_numbers_go_on(kind: Any) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model = kind(hidden_size=4)
    for number in range(4):
        model.learn_one({"a": float(number)}, number)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stream_that_changes_is_learned_anew() -> None:
    """Its gradients had become so small that an adaptive bound held back the large ones for hundreds of examples."""
    rng, model, right = random.Random(0), SABOnlineClassifier(hidden_size=8, seed=0), list[bool]()
    for number in range(800):
        sign = rng.choice((-1.0, 1.0))
        label = (sign > 0) != (number >= 600)
        right.append(model.predict_one({"a": sign}) == label)
        model.learn_one({"a": sign}, label)
    assert np.mean(right[500:600]) == 1
    assert np.mean(right[700:]) > 0.95


@pytest.mark.parametrize("kind", [SABClassifier, SABRegressor, SABForecaster])
def test_a_fit_that_is_refused_forgets_the_one_before(kind: Any) -> None:
    table = pd.DataFrame(X[:, :2], columns=["a", "b"])
    targets = None if kind is SABForecaster else (X[:, 2] > 0).astype(int)
    model = kind(**FAST).fit(table, targets)
    bad = table[["b", "a"]].copy()
    bad.iloc[3, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        model.fit(bad, targets)
    with pytest.raises(NotFittedError):
        model.predict(table)
    with pytest.raises(NotFittedError):
        check_is_fitted(model)


@pytest.mark.parametrize("kind", [SABRegressor, SABForecaster])
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (sparse.csr_matrix(X[:, :1]), "for y, but dense data is required"),
        (["up"] * 40, "^y must be numbers: could not convert"),
        (np.array(["2024-01-01"] * 40, "datetime64[D]"), r"^y must be numbers, got datetime64\[D\]"),
        (np.arange(40).astype("timedelta64[s]"), "^y must be numbers, got timedelta64"),
    ],
)
def test_targets_that_are_no_numbers_are_refused_by_name(kind: Any, y: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        kind(**FAST).fit(X, y)


def test_the_last_row_of_a_stream_is_checked_as_the_others_are() -> None:
    rows = X.copy()
    rows[-1, 0] = 1e200
    with pytest.raises(ValueError, match="X must have a mean and a deviation within float range"):
        SABForecaster(**FAST).fit(rows)


def test_a_clone_that_goes_on_takes_another_rate_and_no_other_form() -> None:
    model = SABOnlineRegressor(hidden_size=4, seed=0)
    model.learn_one({"a": 1.0}, 1.0)
    faster = model.clone({"learning_rate": 0.5}, include_attributes=True)
    for number in range(5):
        for each in (model, faster):
            each.learn_one({"a": float(number)}, float(number))
    assert model.predict_one({"a": 1.0}) != faster.predict_one({"a": 1.0})
    for name in ("hidden_size", "k_top", "k_trunc", "capacity", "max_features"):
        with pytest.raises(ValueError, match=f"{name} must be .* in a clone that has learned something, got 7"):
            model.clone({name: 7}, include_attributes=True)
    assert model.clone({"hidden_size": 7}).hidden_size == 7


def test_labels_compared_by_identity_are_classes() -> None:
    class Label:
        pass

    one, other = Label(), Label()
    model = SABOnlineClassifier(hidden_size=4, seed=0)
    for number in range(10):
        model.learn_one({"a": float(number % 2)}, one if number % 2 else other)
    assert set(model.predict_proba_one({"a": 1.0})) == {one, other}


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ({"a": "1.5"}, 1.0, "^x: the feature 'a' is '1.5', expected a number"),
        ({"a": 1.0}, b"2", "^y is b'2', expected a number"),
        ([1.0], 1.0, "^x must be a dict of features by name, got list"),
    ],
)
def test_examples_of_another_kind_are_refused_by_name(x: Any, y: Any, message: str) -> None:
    model = SABOnlineRegressor(hidden_size=4)
    with pytest.raises(ValueError, match=message):
        model.learn_one(x, y)
    assert model.predict_one({"a": 1.0}) == 0


def test_a_refused_argument_leaves_nothing_learned() -> None:
    model = SABOnlineRegressor(hidden_size=2.5)  # pyright: ignore
    for _ in range(3):
        with pytest.raises(ValueError, match="hidden_size"):
            model.learn_one({"a": 1.0}, 100.0)
    assert (model._count, model._mean, model._place) == (0, 0.0, {})
