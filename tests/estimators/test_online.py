"""river's own checks of the online estimators; their bounded state, and the credit that goes to past examples."""

# pyright: basic
# river has types in part.

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from river import checks, compose, datasets, evaluate, metrics, preprocessing

from reminding.estimators import SABOnlineClassifier, SABOnlineRegressor

SMALL: dict[str, Any] = {"hidden_size": 4, "capacity": 4, "seed": 1}
LONG = "check_bounded_memory_growth"
"""Reads 2,000 examples."""


def river_checks() -> list[Any]:
    """Each check for each estimator; the long one, and those on a second data set, are marked as slow."""
    cases: list[Any] = []
    for model in (SABOnlineRegressor(**SMALL), SABOnlineClassifier(**SMALL)):
        seen: set[str] = set()
        for number, check in enumerate(checks.yield_checks(model)):
            name = getattr(check, "__name__", str(check))
            marks = [pytest.mark.slow] if name == LONG or name in seen else []
            seen.add(name)
            cases.append(pytest.param(model, check, id=f"{type(model).__name__}-{number}-{name}", marks=marks))
    return cases


@pytest.mark.parametrize(("model", "check"), river_checks())
def test_rivers_checks(model: Any, check: Callable[[Any], None]) -> None:
    check(model.clone())


def cues(count: int, lag: int) -> list[tuple[dict[Any, Any], bool]]:
    """A stream in which each label is the sign that was shown `lag` examples before."""
    signs = np.random.default_rng(0).choice([-1.0, 1.0], count)
    return [({"sign": float(signs[t])}, bool(signs[max(t - lag, 0)] > 0)) for t in range(count)]


def test_progressive_validation_with_a_scaler() -> None:
    model = compose.Pipeline(preprocessing.StandardScaler(), SABOnlineClassifier(seed=0))
    accuracy = evaluate.progressive_val_score(datasets.Phishing().take(250), model, metrics.Accuracy())
    assert accuracy.get() > 0.7


def test_what_the_example_before_showed_is_learned() -> None:
    """Each example is a call of its own, so only the carried state can tell."""
    stream = cues(300, 1)
    learned = SABOnlineClassifier(hidden_size=8, k_trunc=4, learning_rate=0.05, seed=0)
    right: list[bool] = []
    for x, y in stream:
        right.append(learned.predict_one(x) == y)
        learned.learn_one(x, y)
    assert np.mean(right[-100:]) > 0.75
    without = [x["sign"] > 0 == y for x, y in stream[-100:]]
    assert np.mean(without) < 0.6, "the example itself does not tell"


def test_it_recalls_as_streams_do_on_the_command_line() -> None:
    model = SABOnlineRegressor(seed=0)
    model.learn_one({"a": 1.0}, 0.5)
    assert model.layer is not None
    rule = model.layer.rule
    assert (rule.normalizer, rule.stored, rule.recall_scale) == ("softmax1", "proposal", 1.0)
    assert (rule.k_att, rule.k_trunc, rule.capacity, rule.horizon) == (5, 5, 32, None)


def test_the_state_does_not_grow() -> None:
    model = SABOnlineRegressor(hidden_size=4, k_trunc=2, capacity=3, seed=0)
    sizes: list[int] = []
    for t in range(60):
        model.learn_one({"a": float(np.sin(t))}, float(t % 3))
        sizes.append(model.state.nbytes)
    assert len(set(sizes[20::2])) == 1
    assert model.state.memory_step.shape[2] == 3


def test_credit_reaches_examples_before() -> None:
    """A step of learning changes the weights through memories of past examples: without them it changes others."""
    alike = [SABOnlineRegressor(hidden_size=4, k_trunc=2, capacity=3, seed=0) for _ in range(2)]
    for model in alike:
        for t in range(12):
            model.learn_one({"a": float(np.sin(t))}, float(t % 3))
    cut = alike[1]
    cut._state = cut.state.detach()  # pyright: ignore[reportPrivateUsage]
    for model in alike:
        model.learn_one({"a": 0.5}, 4.0)
    one, other = (next(iter(model.layer.parameters())) for model in alike if model.layer is not None)
    assert not torch.equal(one, other)


def test_classes_and_features_that_appear_late_keep_what_was_learned() -> None:
    model = SABOnlineClassifier(seed=0, learning_rate=1e-12)
    model.learn_one({"a": 1.0}, "x")
    model.learn_one({"a": 1.0}, "y")
    before = model.predict_proba_one({"a": 1.0})
    assert set(before) == {"x", "y"}
    model.learn_one({"a": 1.0, "b": 2.0}, "z")
    after = model.predict_proba_one({"a": 1.0})
    assert set(after) == {"x", "y", "z"} and sum(after.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ({"a": math.nan, "b": 1.0}, 1.0, "x: the feature 'a' is nan, expected a finite number"),
        ({"a": 1.0, "c": -math.inf}, 1.0, "x: the feature 'c' is -inf, expected a finite number"),
        ({"a": 1.0, "b": "red"}, 1.0, "x: the feature 'b' is 'red', expected a number"),
        ({"a": 1.0, "c": 1.0, "d": 1.0}, 1.0, "max_features must be above 3: 'd' is one more feature"),
        ({"a": 1.0}, math.nan, "y is nan, expected a finite number"),
        ({"a": 1.0}, None, "y is None, expected a number"),
        ({"a": 1.0}, 10**400, "y is 10+, expected a number"),
        ({"a": 10**400, "b": 1.0}, 1.0, "x: the feature 'a' is 10+, expected a number"),
        ({"a": 1.0}, 1e200, "y is 1e\\+200, too far from the mean so far"),
    ],
)
def test_a_bad_example_leaves_everything_as_it_was(x: dict[str, Any], y: Any, message: str) -> None:
    models = [SABOnlineRegressor(hidden_size=4, max_features=3, seed=0) for _ in range(2)]
    for step in range(30):
        if step % 7 == 3:
            with pytest.raises(ValueError, match=message):
                models[0].learn_one(x, y)
        for model in models:
            model.learn_one({"a": math.sin(step), "b": 1.0}, math.cos(step))
    for model in models:
        model.learn_one({"c": 2.0}, 0.5)
    first, second = (model.predict_one({"a": 0.5, "c": 1.0}) for model in models)
    assert first == second and math.isfinite(first)


@pytest.mark.parametrize("size", [1e-200, 1e-120, 1e140])
def test_the_size_of_y_changes_nothing_but_the_size_of_predictions(size: float) -> None:
    plain, sized = (SABOnlineRegressor(hidden_size=4, seed=0) for _ in range(2))
    for step in range(30):
        plain.learn_one({"a": math.sin(step)}, math.cos(step))
        sized.learn_one({"a": math.sin(step)}, size * math.cos(step))
    assert sized.predict_one({"a": 0.5}) / size == pytest.approx(plain.predict_one({"a": 0.5}), rel=1e-4)


def test_a_prediction_refuses_what_is_not_finite() -> None:
    model = SABOnlineClassifier(hidden_size=4, seed=0)
    model.learn_one({"a": 1.0}, "x")
    with pytest.raises(ValueError, match="x: the feature 'a' is nan, expected a finite number"):
        model.predict_proba_one({"a": math.nan})


def stream(kind: type[Any], first: int, examples: int) -> list[tuple[dict[Any, Any], Any]]:
    """Examples whose target can be learned: numbers for a regressor, classes for a classifier."""
    found: list[tuple[dict[Any, Any], Any]] = []
    for step in range(first, first + examples):
        value = math.sin(step)
        found.append(({"a": value}, value if kind is SABOnlineRegressor else "up" if value > 0 else "down"))
    return found


def read_on(model: Any, examples: list[tuple[dict[Any, Any], Any]]) -> list[Any]:
    """What a model predicts of each example before it learns from it."""
    found: list[Any] = []
    for x, y in examples:
        found.append(model.predict_proba_one(x) if isinstance(y, str) else model.predict_one(x))
        model.learn_one(x, y)
    return found


@pytest.mark.parametrize("kind", [SABOnlineRegressor, SABOnlineClassifier])
@pytest.mark.parametrize("piped", [False, True])
def test_a_clone_with_attributes_goes_on_as_the_original(kind: type[Any], piped: bool) -> None:
    """Else the optimizer of the clone would move the parameters of no network."""
    model: Any = kind(**SMALL)
    if piped:
        model = compose.Pipeline(preprocessing.StandardScaler(), model)
    read_on(model, stream(kind, 0, 12))
    clone, copied = model.clone(include_attributes=True), copy.deepcopy(model)
    rest = stream(kind, 12, 12)
    cloned = read_on(clone, rest)
    assert cloned == read_on(copied, rest) == read_on(model, rest)
    last = clone[kind.__name__] if piped else clone
    own = {id(parameter) for parameter in last._model.parameters()}  # pyright: ignore[reportPrivateUsage]
    assert {id(each) for each in last._update.parameters} == own  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("kind", [SABOnlineRegressor, SABOnlineClassifier])
def test_a_clone_with_attributes_learns_apart_from_the_original(kind: type[Any]) -> None:
    model: Any = kind(**SMALL)
    read_on(model, stream(kind, 0, 12))
    before = model.predict_one({"a": 0.5})
    clone = model.clone({"learning_rate": 0.02}, include_attributes=True)
    weights = [each.detach().clone() for each in clone.layer.parameters()]
    read_on(clone, stream(kind, 12, 4))
    assert any(not torch.equal(new, old) for new, old in zip(clone.layer.parameters(), weights, strict=True))
    assert model.predict_one({"a": 0.5}) == before
    assert model.clone().layer is None, "without attributes it begins anew"


@pytest.mark.parametrize("y", [[1], np.array([1, 2]), np.array(1), {"a": 1}, ([1],), torch.tensor(1), pd.NA, pd.NaT])
def test_what_is_no_class_is_refused_and_changes_nothing(y: Any) -> None:
    models = [SABOnlineClassifier(**SMALL) for _ in range(2)]
    for step, (x, label) in enumerate(stream(SABOnlineClassifier, 0, 8)):
        if step in (0, 5):
            with pytest.raises(ValueError, match=r"y is .*, expected a class"):
                models[0].learn_one({"a": 1.0, "b": 2.0}, y)
        for model in models:
            model.learn_one(x, label)
    first, second = (model.predict_proba_one({"a": 0.5}) for model in models)
    assert first == second and set(first) == {"up", "down"}


def test_labels_of_numpy_are_classes() -> None:
    model = SABOnlineClassifier(**SMALL)
    for label in (np.int64(1), np.str_("one"), (1, 2), True):
        model.learn_one({"a": 1.0}, label)
    assert list(model.predict_proba_one({"a": 1.0})) == [1, "one", (1, 2)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": "a"}, "learning_rate must be above 0, got 'a'"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"seed": "a"}, "seed must be an integer of 64 bits, or None, got 'a'"),
        ({"seed": 2**70}, "seed must be an integer of 64 bits"),
        ({"hidden_size": 2.5}, "hidden_size must be an integer of at least 1, got 2.5"),
    ],
)
@pytest.mark.parametrize("kind", [SABOnlineRegressor, SABOnlineClassifier])
def test_arguments_that_are_no_numbers_are_named(kind: type[Any], options: dict[str, Any], message: str) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            kind(**options).learn_one({"a": 1.0}, 1.0)


def test_numbers_of_numpy_are_arguments() -> None:
    options = {"hidden_size": 3, "k_top": 2, "k_trunc": 2, "capacity": 4, "max_features": 5, "seed": 7}
    of_numpy: dict[str, Any] = {name: np.int64(value) for name, value in options.items()}
    models: list[Any] = [SABOnlineRegressor(**options), SABOnlineRegressor(**of_numpy)]
    models[1].learning_rate = np.float64(0.01)
    first, second = (read_on(model, stream(SABOnlineRegressor, 0, 12)) for model in models)
    assert first == second
    read_on(SABOnlineRegressor(learning_rate=np.float32(0.01)), stream(SABOnlineRegressor, 0, 2))  # pyright: ignore


def test_nan_is_no_class() -> None:
    model = SABOnlineClassifier(hidden_size=4, seed=0)
    model.learn_one({"a": 1.0}, "x")
    with pytest.raises(ValueError, match="y is nan, expected a class"):
        model.learn_one({"a": 1.0}, math.nan)
    assert set(model.predict_proba_one({"a": 1.0})) == {"x"}


def test_a_learning_rate_at_which_nothing_is_learned_is_told() -> None:
    model = SABOnlineRegressor(hidden_size=4, learning_rate=1e300, seed=0)
    with pytest.raises(ValueError, match="learning_rate: the last 10 gradients were not finite; try one below 1e"):
        learn(model, 100)


def learn(model: Any, examples: int) -> None:
    for step in range(examples):
        model.learn_one({"a": math.sin(step)}, math.cos(step))


def test_what_is_no_number_and_too_many_features_are_refused() -> None:
    model = SABOnlineRegressor(max_features=1)
    with pytest.raises(ValueError, match="the feature 'a' is 'red', expected a number"):
        model.learn_one({"a": "red"}, 1.0)
    with pytest.raises(ValueError, match="max_features must be above 1: 'b' is one more feature"):
        model.learn_one({"a": 1.0, "b": 2.0}, 1.0)
    assert SABOnlineRegressor().predict_one({"a": 1.0}) == 0
    assert SABOnlineClassifier().predict_proba_one({"a": 1.0}) == {}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.device("meta")])
@pytest.mark.parametrize("kind", [SABOnlineClassifier, SABOnlineRegressor])
def test_the_callers_modes_of_torch_do_not_count(kind: Any, mode: Any) -> None:
    wanted, found = kind(seed=0), kind(seed=0)
    for step in range(12):
        x, y = {"a": float(step % 3)}, step % 2
        wanted.learn_one(x, y)
        with mode() if step % 4 < 2 else nullcontext():
            found.learn_one(x, y)
            assert found.predict_one(x) == wanted.predict_one(x)
