"""Estimators with scikit-learn's contract: a classifier and a regressor of series, and a forecaster of a stream.

Shapes: N series, T steps or rows, I values per step or columns, K targets.
"""

# pyright: basic
# scikit-learn has types in part.

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from reminding.checks import above_zero, at_least, require
from reminding.estimators.network import (
    Fitting,
    Outline,
    fit_series,
    fit_stream,
    last_outputs,
    own_modes,
    plain,
    stream_outputs,
)
from reminding.lab.runs.config import STREAM, ModelOptions
from reminding.tasks.data.scale import scale_of


class _Network(BaseEstimator):
    """An estimator with a network: its options, and how it is fitted."""

    epochs: int
    batch_size: int
    learning_rate: float
    random_state: Any

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def _options(self, defaults: ModelOptions, *further: str) -> ModelOptions:
        """The options of the network: some arguments of the estimator, `further` among them, and the defaults."""
        names = ("hidden_size", "num_layers", "k_top", "k_att", "k_trunc", *further)
        return replace(defaults, **{name: plain(getattr(self, name)) for name in names})

    def _fitting(self) -> Fitting:
        at_least("epochs", self.epochs, 1)
        at_least("batch_size", self.batch_size, 1)
        above_zero("learning_rate", self.learning_rate)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        return Fitting(plain(self.epochs), plain(self.batch_size), plain(self.learning_rate), seed)


class _Series(_Network):
    """A network that reads each series to its end; `SABRegressor` explains the arguments."""

    def __init__(
        self,
        hidden_size: int = 32,
        *,
        num_layers: int = 1,
        k_top: int = 5,
        k_att: int | None = None,
        k_trunc: int | None = 10,
        epochs: int = 100,
        batch_size: int = 32,
        learning_rate: float = 0.01,
        random_state: Any = None,
    ) -> None:
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.k_top = k_top
        self.k_att = k_att
        self.k_trunc = k_trunc
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def _set_scale(self, series: NDArray[np.float64]) -> NDArray[np.float64]:
        """Learn the scale of some series, (N, T, I), and return them scaled."""
        self.mean_, self.scale_ = _scale("X", series.reshape(-1, series.shape[2]))
        return (series - self.mean_) / self.scale_

    def _scaled(self, X: Any) -> NDArray[np.float64]:
        """New series, checked and scaled, (N, T, I)."""
        check_is_fitted(self, "network_")
        at_least("batch_size", self.batch_size, 1)
        given: Any = validate_data(self, X, reset=False, dtype=np.float64, allow_nd=True)
        series = _with_values(given)
        if series.shape[2] != len(self.mean_):
            raise ValueError(f"X must have {len(self.mean_)} values per step, as in fit, got {series.shape[2]}")
        return (series - self.mean_) / self.scale_


class SABClassifier(ClassifierMixin, _Series):
    """Classify series.

    X is (N, T), N series of T values, or (N, T, I), with I values per step. Each series is read step by step, and
    classified at its last step. Values are standardised with the mean and deviation of the training data, over all
    steps. The arguments are those of `SABRegressor`.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to series X, (N, T) or (N, T, I), and their labels y, (N,).

        Raises:
            ValueError: y has fewer than 2 classes; X or y has another shape or numbers that are not finite; or an
                argument of the estimator is out of range.
        """
        _forget(self)
        X, y = validate_data(self, X, y, dtype=np.float64, allow_nd=True)
        check_classification_targets(y)
        self.classes_, number = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must have at least 2 classes, got 1 class: {self.classes_[0]!r}")
        series = self._set_scale(_with_values(X))
        outline = Outline(series.shape[2], len(self.classes_))
        loss = torch.nn.functional.cross_entropy
        self.network_ = fit_series(outline, self._options(ModelOptions()), series, number, loss, self._fitting())
        return self

    @own_modes()
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """The probability of each of `classes_`, (N, C)."""
        series = self._scaled(X)
        return torch.as_tensor(last_outputs(self.network_, series, self.batch_size)).softmax(1).numpy()

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable label of each series, (N,)."""
        number = self.predict_proba(X).argmax(1)
        return self.classes_[number]


class SABRegressor(RegressorMixin, _Series):
    """Predict one or several numbers of each series.

    X is (N, T), N series of T values, or (N, T, I), with I values per step. Each series is read step by step, and y,
    (N,) or (N, K), is predicted at its last step. Values and y are standardised with the mean and deviation of the
    training data.

    Args:
        hidden_size: features of the hidden state.
        num_layers: stacked layers.
        k_top: memories that a step may recall; 0: none, which is truncated BPTT.
        k_att: a state is stored every k_att steps; None: every k_trunc steps.
        k_trunc: the recurrent gradient is cut every k_trunc steps; None: never.
        epochs: passes over the training data.
        batch_size: series per update.
        learning_rate: Adam's.
        random_state: of the weights and of the order of the series.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to series X, (N, T) or (N, T, I), and their targets y, (N,) or (N, K).

        Raises:
            ValueError: X or y has another shape or numbers that are not finite; or an argument of the estimator is
                out of range.
        """
        _forget(self)
        _check_targets(y)
        X, y = validate_data(self, X, y, dtype=np.float64, allow_nd=True, multi_output=True, y_numeric=True)
        wanted = np.asarray(y, np.float64)
        self.one_target_ = wanted.ndim == 1
        columns = wanted.reshape(len(wanted), -1)
        self.target_mean_, self.target_scale_ = _scale("y", columns)
        series = self._set_scale(_with_values(X))
        targets = (columns - self.target_mean_) / self.target_scale_
        outline = Outline(series.shape[2], columns.shape[1])
        loss = torch.nn.functional.mse_loss
        self.network_ = fit_series(outline, self._options(ModelOptions()), series, targets, loss, self._fitting())
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """The targets of each series, in the form of the y of fit."""
        series = self._scaled(X)
        values = last_outputs(self.network_, series, self.batch_size) * self.target_scale_ + self.target_mean_
        return values[:, 0] if self.one_target_ else values


class SABForecaster(RegressorMixin, _Network):
    """Forecast a stream: X is (T, I), one row per step, in the order of time.

    fit(X) learns to predict each next row. predict(X) predicts the row after each row, and forecast(X, steps) the
    rows after the last one, by feeding predictions back. fit(X, y) learns instead to predict y, (T,) or (T, K), from
    the rows up to and including each row. Every call begins a new stream. Columns are standardised.

    Args:
        hidden_size: features of the hidden state.
        num_layers: stacked layers.
        k_top: memories that a step may recall; 0: none, which is truncated BPTT.
        k_att: a state is stored every k_att rows; None: every k_trunc rows.
        k_trunc: the recurrent gradient is cut every k_trunc rows; None: once an update.
        capacity: at most this many memories; the oldest is evicted.
        epochs: passes over the stream.
        batch_size: rows per update. The state is carried from update to update.
        learning_rate: Adam's.
        random_state: of the weights.
    """

    def __init__(
        self,
        hidden_size: int = 32,
        *,
        num_layers: int = 1,
        k_top: int = 5,
        k_att: int | None = 10,
        k_trunc: int | None = None,
        capacity: int = 64,
        epochs: int = 30,
        batch_size: int = 100,
        learning_rate: float = 0.01,
        random_state: Any = None,
    ) -> None:
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.k_top = k_top
        self.k_att = k_att
        self.k_trunc = k_trunc
        self.capacity = capacity
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.required = False
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit to a stream and, if given, its targets."""
        _forget(self)
        checks: dict[str, Any] = {"dtype": np.float64, "ensure_min_samples": 2}
        if y is None:
            rows: Any = validate_data(self, X, **checks)
            _scale("X", rows)  # the last row is a target too
            inputs, wanted = rows[:-1], rows[1:]
        else:
            _check_targets(y)
            rows = validate_data(self, X, y, multi_output=True, y_numeric=True, **checks)
            inputs, wanted = rows
        self.forecasts_rows_ = y is None
        self.one_target_ = np.ndim(wanted) == 1
        columns = np.asarray(wanted, np.float64).reshape(len(wanted), -1)
        self.mean_, self.scale_ = _scale("X", inputs)
        self.target_mean_, self.target_scale_ = (self.mean_, self.scale_) if y is None else _scale("y", columns)
        self.network_ = fit_stream(
            Outline(inputs.shape[1], columns.shape[1], chunk=plain(self.batch_size)),
            self._options(STREAM, "capacity"),
            (inputs - self.mean_) / self.scale_,
            (columns - self.target_mean_) / self.target_scale_,
            self._fitting(),
        )
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """The row after each row, (T, I); or, after fit(X, y), the targets of each row."""
        values = self._read(X)[0]
        return values[:, 0] if self.one_target_ else values

    @own_modes()
    def forecast(self, X: Any, steps: int) -> NDArray[np.float64]:
        """The `steps` rows after the last row of X, (steps, I).

        Raises:
            ValueError: steps is below 1, or the estimator was fitted to targets of their own.
        """
        at_least("steps", steps, 1)
        values, state = self._read(X)
        require(self.forecasts_rows_, "y", "be None in fit for a forecast of rows", "targets")
        found = [values[-1]]
        with torch.no_grad():
            for _ in range(steps - 1):
                row = torch.as_tensor((found[-1] - self.mean_) / self.scale_).view(1, 1, -1)
                prediction, state, _ = self.network_(row, state)
                found.append(prediction[0, 0].numpy() * self.target_scale_ + self.target_mean_)
        return np.stack(found)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """R² of `predict`, against y or, without one, against the rows that follow.

        Args:
            X: (T, I).
            y: (T,) or (T, K); None only after fit(X).
            sample_weight: of each row, (T,). Without y that of the first row does not count: nothing predicts it.

        Raises:
            ValueError: y is None, and the estimator was fitted to targets of their own; or the shapes do not fit.
        """
        found = self.predict(X)
        if y is None:
            require(self.forecasts_rows_, "y", "be given to score what was fitted to targets", None)
            wanted = np.asarray(X, np.float64)[1:]
            if sample_weight is not None and np.shape(sample_weight) == (len(found),):
                sample_weight = np.asarray(sample_weight)[1:]
            return float(r2_score(wanted, found[:-1], sample_weight=sample_weight))
        return float(r2_score(y, found, sample_weight=sample_weight))

    def _read(self, X: Any) -> tuple[NDArray[np.float64], Any]:
        check_is_fitted(self, "network_")
        at_least("batch_size", self.batch_size, 1)
        rows: Any = validate_data(self, X, reset=False, dtype=np.float64)
        values, state = stream_outputs(self.network_, (rows - self.mean_) / self.scale_, self.batch_size)
        return values * self.target_scale_ + self.target_mean_, state


def _forget(estimator: BaseEstimator) -> None:
    """Forget the network of an earlier fit: if this one fails or is stopped, the estimator is not fitted."""
    vars(estimator).pop("network_", None)


def _check_targets(y: Any) -> None:
    """Refuse targets that are no numbers, in words that name y."""
    if y is None:
        return
    anything: dict[str, Any] = {
        "dtype": None,
        "ensure_all_finite": False,
        "ensure_2d": False,
        "ensure_min_samples": 0,
    }
    values: Any = check_array(y, input_name="y", **anything)
    if values.dtype.kind in "mM":
        raise ValueError(f"y must be numbers, got {values.dtype}")
    if values.dtype.kind in "OSUT":
        try:
            values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"y must be numbers: {error}") from error


def _with_values(X: NDArray[np.float64]) -> NDArray[np.float64]:
    """Series as (N, T, I), of (N, T) or (N, T, I)."""
    if X.ndim not in (2, 3):
        raise ValueError(f"X must be (N, T), or (N, T, I) with I values per step, got {X.shape}")
    if 0 in X.shape:
        raise ValueError(f"X must have at least 1 step, and 1 value per step, got {X.shape}")
    return X[:, :, None] if X.ndim == 2 else X


def _scale(name: str, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each column, (I,); the deviation of a constant column is 1.

    Raises:
        ValueError: they are beyond float range; names the argument.
    """
    scale = scale_of([values], values.shape[1])
    mean, deviation = scale.mean, scale.deviation
    if len(beyond := np.flatnonzero(~(np.isfinite(mean) & np.isfinite(deviation)))):
        largest = np.abs(values[:, beyond[0]]).max()
        where = f" in column {beyond[0]}" if values.shape[1] > 1 else ""
        raise ValueError(
            f"{name} must have a mean and a deviation within float range, got values as large as {largest:g}{where}"
        )
    return mean, np.where(deviation > 1e-12 * np.abs(mean), deviation, 1.0)
