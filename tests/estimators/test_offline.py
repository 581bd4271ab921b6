"""scikit-learn's own checks of the estimators, and what those checks do not see: layout, order, feedback.

Shapes: N series, T steps or rows, I values per step.
"""

# pyright: basic
# scikit-learn has types in part.

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from reminding.estimators import SABClassifier, SABForecaster, SABRegressor

QUICK: dict[str, Any] = {"hidden_size": 12, "learning_rate": 0.03}
STREAM = "rows are the steps of one stream, so a prediction depends on the rows before it"
NOT_FOR_STREAMS = {
    "check_methods_sample_order_invariance": STREAM,
    "check_methods_subset_invariance": STREAM,
}
"""Checks of scikit-learn that do not apply to a forecaster, with the reason. All others are passed."""


def left_out(estimator: Any) -> dict[str, str]:
    return NOT_FOR_STREAMS if isinstance(estimator, SABForecaster) else {}


@parametrize_with_checks(
    [
        SABClassifier(epochs=15, **QUICK),
        SABRegressor(epochs=20, **QUICK),
        SABForecaster(epochs=15, batch_size=20, **QUICK),
    ],
    expected_failed_checks=left_out,
)
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def series(seed: int, count: int, steps: int = 30) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Series (N, T) with a cue at a step of the first third, and its sign as the label."""
    rng = np.random.default_rng(seed)
    values, sign = 0.1 * rng.normal(size=(count, steps)), rng.choice([-1.0, 1.0], count)
    values[np.arange(count), rng.integers(0, steps // 3, count)] += 2 * sign
    return values, np.where(sign > 0, "up", "down")


def test_a_cue_is_remembered_and_the_layouts_agree() -> None:
    X, y = series(0, 200)
    flat = SABClassifier(k_trunc=5, epochs=20, random_state=0, **QUICK).fit(X, y)
    assert flat.score(*series(1, 100)) > 0.95
    copied: Any = clone(flat)
    deep = copied.fit(X[:, :, None], y)
    assert np.array_equal(deep.predict_proba(X[:, :, None]), flat.predict_proba(X))
    with pytest.raises(ValueError, match="X must have 1 values per step, as in fit, got 2"):
        flat.predict(np.stack([X, X], axis=2))


def test_pipelines_and_grid_search() -> None:
    X, y = series(0, 60, 12)
    pipeline = make_pipeline(MinMaxScaler(), SABClassifier(epochs=2, random_state=0, **QUICK))
    search = GridSearchCV(pipeline, {"sabclassifier__hidden_size": [4, 8]}, cv=2).fit(X, y)
    assert search.best_params_["sabclassifier__hidden_size"] in (4, 8)
    assert search.predict(X).shape == (60,)


def test_several_targets_are_predicted_in_their_own_units() -> None:
    X, _ = series(0, 150)
    y = np.stack([1e6 + 1e3 * X[:, :10].sum(1), X[:, -1]], axis=1)
    regressor = SABRegressor(epochs=40, random_state=0, **QUICK).fit(X, y)
    assert regressor.score(X, y) > 0.9
    assert abs(regressor.predict(X)[:, 0].mean() - 1e6) < 1e3


def waves(rows: int) -> NDArray[np.float64]:
    """(T, 2)."""
    t = np.arange(rows)
    return np.stack([20 + 5 * np.sin(t * np.pi / 6), -3 + np.cos(t * np.pi / 6)], axis=1)


def test_a_forecast_is_a_loop_of_predictions_that_are_fed_back() -> None:
    X = waves(400)
    forecaster = SABForecaster(random_state=0, **QUICK).fit(X)
    assert forecaster.score(X) > 0.95
    assert forecaster.score(X) == pytest.approx(forecaster.score(X[:-1], X[1:]), abs=0.01)
    found, rows = forecaster.forecast(X[:50], 6), X[:50]
    for step in range(6):
        rows = np.concatenate([rows, forecaster.predict(rows)[-1:]])
        np.testing.assert_allclose(found[step], rows[-1], rtol=1e-9)
    np.testing.assert_allclose(found, waves(56)[50:], atol=2.5)


def test_a_prediction_depends_on_the_past_alone() -> None:
    X = waves(60)
    forecaster = SABForecaster(epochs=1, random_state=0, **QUICK).fit(X)
    changed = X.copy()
    changed[40:] += 100
    np.testing.assert_allclose(forecaster.predict(changed)[:40], forecaster.predict(X)[:40], rtol=1e-12)
    assert abs(forecaster.predict(changed)[40] - forecaster.predict(X)[40]).max() > 1e-3


def test_a_forecaster_of_targets_forecasts_no_rows() -> None:
    X = waves(60)
    forecaster = SABForecaster(epochs=1, **QUICK).fit(X, X[:, 0])
    assert forecaster.predict(X).shape == (60,)
    with pytest.raises(ValueError, match="y must be None in fit for a forecast of rows"):
        forecaster.forecast(X, 2)


def test_one_seed_gives_one_network_and_the_callers_random_numbers_go_on() -> None:
    X, y = series(0, 40, 8)
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = (SABClassifier(epochs=1, random_state=seed, **QUICK).fit(X, y) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), wanted)
    assert np.array_equal(one.predict_proba(X), same.predict_proba(X))
    assert not np.array_equal(one.predict_proba(X), other.predict_proba(X))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"epochs": np.int64(0)}, "epochs must be an integer of at least 1"),
        ({"epochs": True}, "epochs must be an integer of at least 1, got True"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": "a"}, "learning_rate must be above 0, got 'a'"),
        ({"k_top": -1}, "k_top must be"),
    ],
)
def test_options_out_of_range_are_named_in_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SABClassifier(**options).fit(*series(0, 10, 8))


@pytest.mark.parametrize("kind", [SABRegressor, SABForecaster])
def test_a_learning_rate_at_which_nothing_is_learned_is_told(kind: Any) -> None:
    X, y = np.random.default_rng(0).normal(size=(80, 3)), np.arange(80.0)
    with pytest.raises(ValueError, match=r"learning_rate: the last .* not finite; try one below 1e"):
        kind(hidden_size=4, learning_rate=1e200).fit(X, y)


WHOLE: dict[str, Any] = {"hidden_size": 3, "k_top": 2, "k_att": 2, "k_trunc": 2, "epochs": 2, "batch_size": 5}


@pytest.mark.parametrize("kind", [SABClassifier, SABRegressor, SABForecaster])
def test_numbers_of_numpy_are_arguments(kind: Any) -> None:
    X, y = series(0, 24, 6)
    y = y if kind is SABClassifier else X[:, 0]
    plain = kind(**WHOLE, learning_rate=0.25, random_state=0).fit(X, y)
    of_numpy: dict[str, Any] = {name: np.int64(value) for name, value in WHOLE.items()}
    of_numpy |= {"learning_rate": np.float32(0.25), "random_state": np.int64(0)}
    same = kind(**of_numpy).fit(X, y)
    assert np.array_equal(same.predict(X), plain.predict(X))


def test_a_grid_of_numpys_ranges_is_searched() -> None:
    X, _ = series(0, 24, 6)
    grid = {"hidden_size": np.arange(2, 4), "epochs": np.arange(1, 3)}
    strict: dict[str, Any] = {"error_score": "raise"}
    search = GridSearchCV(SABRegressor(k_trunc=2), grid, cv=2, **strict).fit(X, X[:, 0])
    assert search.best_params_["hidden_size"] in (2, 3)


def test_the_steps_of_a_forecast_may_be_of_numpy() -> None:
    X = waves(40)
    forecaster = SABForecaster(epochs=1, random_state=0, **QUICK).fit(X)
    assert np.array_equal(forecaster.forecast(X, np.int64(3)), forecaster.forecast(X, 3))  # pyright: ignore


def test_a_weight_of_each_row_scores_the_rows_that_are_predicted() -> None:
    X = waves(24)
    forecaster = SABForecaster(epochs=2, random_state=0, **QUICK).fit(X)
    weight = np.arange(24.0) ** 2
    wanted = r2_score(X[1:], forecaster.predict(X)[:-1], sample_weight=weight[1:])
    assert forecaster.score(X, sample_weight=weight) == wanted != forecaster.score(X)
    assert forecaster.score(X, sample_weight=list(weight[1:])) == wanted
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        forecaster.score(X, sample_weight=weight[:5])


def test_targets_are_not_scored_against_the_rows_that_follow() -> None:
    X = waves(24)
    forecaster = SABForecaster(epochs=1, random_state=0, **QUICK).fit(X, X[:, ::-1])
    with pytest.raises(ValueError, match="y must be given to score what was fitted to targets, got None"):
        forecaster.score(X)
    assert forecaster.score(X, X[:, ::-1]) == r2_score(X[:, ::-1], forecaster.predict(X))


@pytest.mark.parametrize("kind", [SABRegressor, SABForecaster])
def test_numbers_whose_scale_is_beyond_float_range_are_refused(kind: Any) -> None:
    X = np.random.default_rng(0).normal(size=(20, 3))
    with pytest.raises(
        ValueError, match="y must have a mean and a deviation within float range, got values as large"
    ):
        kind(epochs=1, **QUICK).fit(X, 1e200 * X[:, 0])
    with pytest.raises(ValueError, match="X must have a mean and a deviation within float range") as raised:
        kind(epochs=1, **QUICK).fit(X * [1, 1e200, 1], X[:, 0])
    assert str(raised.value).endswith(" in column 1") == (kind is SABForecaster)  # a series has one value per step


@pytest.mark.parametrize("kind", [SABRegressor, SABForecaster])
@pytest.mark.parametrize("size", [1e-200, 1e-120, 1e140])
def test_the_size_of_numbers_changes_nothing_but_the_size_of_predictions(kind: Any, size: float) -> None:
    X = waves(30)
    plain, sized = (kind(epochs=2, random_state=0, **QUICK).fit(by * X, by * X[:, 0]) for by in (1.0, size))
    assert sized.scale_ / size == pytest.approx(plain.scale_)
    assert sized.predict(size * X) / size == pytest.approx(plain.predict(X), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.device("meta")])
@pytest.mark.parametrize("kind", [SABClassifier, SABRegressor, SABForecaster])
def test_the_callers_modes_of_torch_do_not_count(kind: Any, mode: Any) -> None:
    X, y = series(0, 24, 6)
    y = y if kind is SABClassifier else X[:, 0]
    wanted = kind(epochs=1, random_state=0, **QUICK).fit(X, y)
    with mode():
        found = kind(epochs=1, random_state=0, **QUICK).fit(X, y)
        assert np.array_equal(found.predict(X), wanted.predict(X))
    again = SABForecaster(epochs=1, random_state=0, **QUICK).fit(X)
    with mode():
        ahead = again.forecast(X, 3)
    assert np.array_equal(ahead, again.forecast(X, 3))


@pytest.mark.parametrize("kind", [SABClassifier, SABRegressor, SABForecaster])
def test_after_a_fit_that_failed_an_estimator_is_not_fitted(kind: Any) -> None:
    """The network of the fit before would read values on the scale of the new data."""
    X, y = series(0, 24, 6)
    y = y if kind is SABClassifier else X[:, 0]
    estimator = kind(epochs=1, **QUICK).fit(X, y)
    estimator.set_params(learning_rate=0.0)
    with pytest.raises(ValueError, match="learning_rate must be above 0"):
        estimator.fit(1e3 * X, y)
    with pytest.raises(NotFittedError):
        estimator.predict(X)


@pytest.mark.parametrize("size", [0, 2.5])
def test_the_size_of_a_batch_is_checked_in_predict(size: Any) -> None:
    X, y = series(0, 24, 6)
    for estimator in (SABClassifier(epochs=1).fit(X, y), SABForecaster(epochs=1).fit(X)):
        estimator.set_params(batch_size=size)
        with pytest.raises(ValueError, match=f"batch_size must be an integer of at least 1, got {size}"):
            estimator.predict(X)


@pytest.mark.parametrize("shape", [(6, 0, 2), (6, 4, 0)])
def test_series_of_nothing_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"X must have at least 1 step, and 1 value per step, got \(6, "):
        SABRegressor().fit(np.zeros(shape), np.arange(6.0))


def test_a_forecaster_is_cut_once_an_update_unless_it_is_cut_otherwise() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2))
    for given, cut in (({}, 20), ({"k_trunc": 7}, 7)):
        fitted = SABForecaster(hidden_size=4, epochs=1, batch_size=20, random_state=0, **given).fit(rows)
        layer: Any = fitted.network_.layer
        assert (layer.k_trunc, layer.k_att) == (cut, 10)
