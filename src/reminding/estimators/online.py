"""Estimators with river's contract: a regressor and a classifier that learn from one example at a time.

Shapes: F features, C outputs.
"""

# pyright: basic
# river has types in part.

from __future__ import annotations

import copy
import math
import secrets
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from river import base
from torch import Tensor, nn

from reminding.checks import above_zero, at_least, require
from reminding.estimators.network import Outline, Update, network, own_modes, plain
from reminding.lab.runs.config import STREAM
from reminding.lab.runs.model import SequenceModel
from reminding.nn import SAB

Features = Mapping[Any, Any]


class _Online(base.Base):
    """A network that reads one stream of examples, and the place of each feature in its input.

    `SABOnlineRegressor` explains the arguments; F is max_features.
    """

    def __init__(
        self,
        hidden_size: int = 16,
        k_top: int = 3,
        k_trunc: int = 5,
        capacity: int = 32,
        max_features: int = 64,
        learning_rate: float = 0.01,
        seed: int | None = None,
    ) -> None:
        self.hidden_size = hidden_size
        self.k_top = k_top
        self.k_trunc = k_trunc
        self.capacity = capacity
        self.max_features = max_features
        self.learning_rate = learning_rate
        self.seed = seed
        self._place: dict[Any, int] = {}
        self._model: SequenceModel | None = None
        self._update: Update | None = None
        self._state: Any = None
        self._begin()

    def _begin(self) -> None:
        """Make what is learned besides the model."""
        raise NotImplementedError

    def clone(self, new_params: dict[str, Any] | None = None, include_attributes: bool = False) -> Self:
        """A new model with the same arguments.

        Args:
            new_params: arguments that are to differ.
            include_attributes: whether it has learned what this one has, and goes on from there.

        Raises:
            ValueError: it is to go on from there with a network of another form; names the argument.
        """
        arguments = self._get_params()
        if include_attributes and self._model is not None:
            for name, value in (new_params or {}).items():
                same = name in ("learning_rate", "seed") or value == arguments.get(name)
                require(same, name, f"be {arguments.get(name)} in a clone that has learned something", value)
        clone = super().clone(new_params)
        if include_attributes:
            learned = {name: value for name, value in vars(self).items() if name not in arguments}
            # One copy of all: the optimizer of a copy must hold the parameters of that copy's network.
            vars(clone).update(copy.deepcopy(learned))
            if clone._update is not None:
                above_zero("learning_rate", clone.learning_rate)
                clone._update.change_rate(plain(clone.learning_rate))
        return clone

    def _learn(self, x: NDArray[np.float64]) -> tuple[Tensor, Update]:
        """Read an example (F,), and return the prediction (C,) with its graph, and the update that learns from it."""
        assert self._model is not None and self._update is not None
        prediction, self._state, _ = self._model(_alone(x), self._state)
        return prediction[0, 0], self._update

    @own_modes()
    def _predict(self, x: Features) -> Tensor | None:
        """The prediction (C,) of an example that would come next; None before the first."""
        if self._model is None:
            return None
        with torch.no_grad():
            return self._model(_alone(self._values(x)), self._state)[0][0, 0]

    def _found(self, x: Features, outputs: int) -> NDArray[np.float64]:
        """The values of an example to learn from, (F,), once places are found for its new features and outputs.

        Raises:
            ValueError: an argument of the estimator is out of range, a value is no finite number, or there are too
                many features; nothing has changed.
        """
        _check_features(x)
        at_least("max_features", self.max_features, 1)
        if self._model is None:
            above_zero("learning_rate", self.learning_rate)
            at_least("k_trunc", self.k_trunc, 1)
            _check_seed(self.seed)
        new = sorted((name for name in x if name not in self._place), key=str)
        room = self.max_features - len(self._place)
        for name in x:
            _number("x", x[name], f"the feature {name!r}")
        if len(new) > room:
            raise ValueError(f"max_features must be above {self.max_features}: {new[room]!r} is one more feature")
        self._build(outputs)
        self._place |= {name: len(self._place) + place for place, name in enumerate(new)}
        return self._values(x)

    def _values(self, x: Features) -> NDArray[np.float64]:
        """(F,); features that an example lacks are 0, and those never learned from are left out."""
        _check_features(x)
        values = np.zeros(self.max_features)
        for name, value in x.items():
            if name in self._place:
                values[self._place[name]] = _number("x", value, f"the feature {name!r}")
        return values

    def _build(self, outputs: int) -> None:
        """Make the network with so many outputs at the first example, and widen it for new outputs."""
        if self._model is None or self._update is None:
            options = replace(
                STREAM,
                hidden_size=plain(self.hidden_size),
                k_top=plain(self.k_top),
                k_att=None,
                k_trunc=plain(self.k_trunc),
                capacity=plain(self.capacity),
            )
            outline = Outline(plain(self.max_features), outputs, chunk=1)
            seed = secrets.randbits(63) if self.seed is None else int(self.seed)
            self._model, _ = network(outline, options, seed)
            self._update = Update(self._model, plain(self.learning_rate), adaptive=False)
        elif self._model.hidden_readout.out_features < outputs:
            _widen(self._model, outputs)
            self._update = Update(self._model, plain(self.learning_rate), adaptive=False)

    @property
    def layer(self) -> SAB | None:
        """The recurrent layer; None before the first example."""
        return None if self._model is None else self._model.layer  # pyright: ignore[reportReturnType]

    @property
    def state(self) -> Any:
        """The `SABState` after the examples so far; None before the first."""
        return self._state


class SABOnlineRegressor(_Online, base.Regressor):
    """Predict a number from each example of a stream, and learn from it, one example at a time.

    An example may recall any of the last `capacity` memories, and its credit goes to them: to the examples at which
    they were stored. Memory and time per example do not grow. Scale the features in front of it, for example with
    river's `StandardScaler`; y is standardised by its mean and deviation so far.

    Args:
        hidden_size: features of the hidden state.
        k_top: memories that an example may recall.
        k_trunc: a state is stored, and the recurrent gradient cut, every k_trunc examples.
        capacity: at most this many memories; the oldest is evicted.
        max_features: the most features that examples may have in all.
        learning_rate: Adam's.
        seed: of the weights.
    """

    def _begin(self) -> None:
        self._count, self._mean, self._spread = 0, 0.0, 0.0  # the root of the sum of squared distances

    @own_modes()
    def learn_one(self, x: Features, y: float) -> None:
        """Learn from an example.

        Raises:
            ValueError: a value is no finite number, or there are too many features, and nothing is learned; or ten
                gradients in a row were not finite.
        """
        value = _number("y", y)
        change = value - self._mean
        mean = self._mean + change / (self._count + 1)
        spread = math.hypot(self._spread, change * math.sqrt(self._count / (self._count + 1)))
        if not math.isfinite(spread * spread):
            raise ValueError(f"y is {y!r}, too far from the mean so far, {self._mean:g}")
        values = self._found(x, 1)
        self._count, self._mean, self._spread = self._count + 1, mean, spread
        prediction, update = self._learn(values)
        wanted = prediction.new_tensor((value - self._mean) / self._deviation)
        update((prediction[0] - wanted) ** 2)

    def predict_one(self, x: Features) -> float:
        """Predict the next example, without learning from it; 0 before the first."""
        prediction = self._predict(x)
        return 0.0 if prediction is None else float(prediction[0]) * self._deviation + self._mean

    @property
    def _deviation(self) -> float:
        return self._spread / math.sqrt(self._count) or 1.0


class SABOnlineClassifier(_Online, base.Classifier):
    """Classify each example of a stream, and learn from it, one example at a time.

    Classes are added as they appear. An example may recall any of the last `capacity` memories, and its credit goes
    to the examples at which they were stored. Memory and time per example do not grow. Scale the features in front of
    it, for example with river's `StandardScaler`. The arguments are those of `SABOnlineRegressor`.
    """

    def _begin(self) -> None:
        self._classes: list[Any] = []

    @property
    def _multiclass(self) -> bool:
        return True

    @own_modes()
    def learn_one(self, x: Features, y: Any) -> None:
        """Learn from an example.

        Raises:
            ValueError: y is no class: it is None, which stands for no prediction, NaN, which equals no class, or an
                array, a list or what else cannot be hashed, and nothing is learned; or as of
                `SABOnlineRegressor.learn_one`.
        """
        _refuse_no_class(y)
        numbers = {each: number for number, each in enumerate(self._classes)}
        number = numbers.get(y, len(numbers))
        logits, update = self._learn(self._found(x, max(len(numbers), number + 1)))
        if number == len(numbers):
            self._classes.append(y)
        update(nn.functional.cross_entropy(logits, torch.tensor(number)))

    def predict_proba_one(self, x: Features) -> dict[Any, float]:
        """The probability of each class seen so far, without learning; {} before the first example."""
        logits = self._predict(x)
        return {} if logits is None else dict(zip(self._classes, logits.softmax(0).tolist(), strict=True))


def _check_features(x: Any) -> None:
    """Refuse an example that is no dictionary."""
    if not isinstance(x, Mapping):
        raise ValueError(f"x must be a dict of features by name, got {type(x).__name__}")


def _number(name: str, value: Any, what: str = "") -> float:
    """A value as a finite number.

    Raises:
        ValueError: it is none; names the argument.
    """
    told = f"{name}: {what}" if what else name
    try:
        if isinstance(value, str | bytes):  # which float() may read
            raise TypeError("a text")
        number = float(value)
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{told} is {value!r}, expected a number") from error
    if not math.isfinite(number):
        raise ValueError(f"{told} is {value!r}, expected a finite number")
    return number


def _check_seed(seed: Any) -> None:
    """Refuse a seed that PyTorch cannot begin with: it takes integers of 64 bits, of either sign."""
    integer = not isinstance(seed, bool) and isinstance(seed, Integral)
    valid = seed is None or (integer and -(2**63) <= int(seed) < 2**64)
    require(valid, "seed", "be an integer of 64 bits, or None", seed)


def _refuse_no_class(y: Any) -> None:
    """Refuse a label that is no key of a dictionary, or for which "the same class" has no one answer.

    Raises:
        ValueError: it is refused; names y.
    """
    try:
        hash(y)
        same = y == y
    except Exception as error:  # a class of the caller's may raise any
        raise ValueError(f"y is {y!r}, expected a class, which can be hashed and compared") from error
    if y is None or not isinstance(same, bool | np.bool_) or not same:
        raise ValueError(f"y is {y!r}, expected a class")


def _alone(values: NDArray[np.float64]) -> Tensor:
    """An example (F,) as a sequence of one step, (1, 1, F)."""
    return torch.as_tensor(values).view(1, 1, -1)


def _widen(model: SequenceModel, outputs: int) -> None:
    """Add outputs to the readouts; their weights are 0."""
    for name in ("hidden_readout", "summary_readout"):
        old: nn.Linear | None = getattr(model, name)
        if old is None:
            continue
        size, kind = (old.in_features, outputs, old.bias is not None), old.weight.dtype
        wide: Any = nn.utils.skip_init(nn.Linear, *size, dtype=kind)  # draws nothing from the caller's generator
        with torch.no_grad():
            for parameter, before in zip(wide.parameters(), old.parameters(), strict=True):
                parameter.zero_()
                parameter[: len(before)] = before
        setattr(model, name, wide)
