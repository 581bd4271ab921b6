"""An explanation in words: the answer and whether it is right, and a sentence that sums up the page.

Shapes: T time, C outputs, K columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reminding.lab.explain.decimals import LARGE, in_digits
from reminding.lab.explain.explanation import Explanation, Reminders, reminders_of
from reminding.lab.explain.forecast import Forecast

NAMED = 3
"""Columns that a sentence names one by one."""
LEAST_WEIGHT = 0.005
"""A weight below it would be said as 0.00."""
LITTLE = 0.1
"""Weights that sum to less, at a step or on average, are said to be little; a step may recall next to nothing."""
PERCENT = 20
"""From this number of answers on, their share is told in per cent."""
SECOND = 0.5
"""The second of two shares is told if it is at least this part of the first."""


@dataclass(frozen=True)
class Verdict:
    """The answer of the network in a few words, and whether it is right.

    Args:
        right: None of values, of answers that are right in part, and where the truth is not known.
    """

    text: str
    right: bool | None


def verdict(explanation: Explanation) -> Verdict:
    """What the network answered, and whether it was right: at one step if the explanation is of one, else in all."""
    if explanation.forecast is not None:
        return _of_forecast(explanation, explanation.forecast)
    step = asked_step(explanation)
    if step is not None:
        return _at_step(explanation, step)
    return _of_many(explanation)


def summary(explanation: Explanation, layer: int | None = None) -> str:
    """One sentence: what was predicted and whether it was right, what was recalled, and where the gradient arrived.

    Args:
        layer: from 1; None: the last.
    """
    reminders = reminders_of(explanation, layer)
    parts = [verdict(explanation).text, _recalled(explanation, reminders), _reached(explanation, reminders)]
    sentence = "; ".join(part for part in parts if part)
    return f"{sentence[0].upper()}{sentence[1:]}."


def asked_step(explanation: Explanation) -> int | None:
    """The step that an explanation is about: the chosen one, or the only one with a target; None: several."""
    if explanation.at:
        return explanation.at[0] if len(explanation.at) == 1 else None
    steps = np.flatnonzero(_asked(explanation)) + 1
    return int(steps[0]) if len(steps) == 1 else None


def _asked(explanation: Explanation) -> NDArray[np.bool_]:
    """Whether each step has a target, (T,); without targets, whether the credit is of the prediction at the step."""
    target, steps = explanation.target, len(explanation.input)
    if target is None:
        first = steps if "at the last step" in explanation.credit_of else 1
        return np.arange(1, steps + 1) >= first
    return np.asarray(target >= 0 if target.ndim == 1 else ~np.isnan(target).all(1))


def _at_step(explanation: Explanation, step: int) -> Verdict:
    """The answer at a step."""
    place, row = explanation.place(step), explanation.prediction[step - 1]
    aside = "," * (step <= explanation.padding)  # the place ends in a clause of its own
    lead = "" if step == len(explanation.input) and not explanation.at else f"at {place}{aside} "
    target = None if explanation.target is None else explanation.target[step - 1]
    classes = explanation.legend.classes
    if not classes:
        told = f"{lead}the model answered {_numbers(row)}"
        known = target is not None and not np.isnan(target).all()
        return Verdict(f"{told} (true {_numbers(target)})" if known and target is not None else told, None)
    number = int(row.argmax())
    told = f"{lead}the model answered {_quoted(classes[number])} with a probability of {_probability(row):.2f}"
    if target is None or target < 0:
        return Verdict(f"{told}, and the truth is not known", None)
    right = int(target) == number
    return Verdict(f"{told}, which is {'right' if right else f'wrong: it is {_quoted(classes[int(target)])}'}", right)


def _of_many(explanation: Explanation) -> Verdict:
    """The share of right answers, or the error of values."""
    target, prediction = explanation.target, explanation.prediction
    unit = explanation.legend.unit
    if explanation.at:
        where = f"at {_places(explanation)} the model"
        rows = np.array(explanation.at) - 1
    else:
        where, rows = "the model", np.flatnonzero(_asked(explanation))
    if target is None:
        return Verdict(f"{where} predicted {len(rows):,} {unit}s, of which the truth is not known", None)
    if target.ndim == 2:
        error = float(np.nanmean(np.square(prediction[rows] - target[rows])))
        return Verdict(f"{where} answered with a mean squared error of {error:.3g}", None)
    rows = rows[target[rows] >= 0]
    noun = f"{unit}s"
    if unit == "step" and explanation.legend.quiet:  # blanks are no answers
        rows, noun = rows[~np.isin(target[rows], explanation.legend.quiet)], "symbols"
    right = int((prediction[rows].argmax(1) == target[rows]).sum())
    share = f" ({right / len(rows):.0%})" if len(rows) >= PERCENT else ""
    return Verdict(f"{where} predicted {right:,} of {len(rows):,} {noun} right{share}", right == len(rows) or None)


def _places(explanation: Explanation) -> str:
    """The chosen steps: by their numbers, or by their times or numbers in the file."""
    if explanation.times is None:
        return f"the {explanation.legend.unit}s {', '.join(map(str, explanation.at))}"
    return _listed([explanation.place(step) for step in explanation.at])


def _of_forecast(explanation: Explanation, forecast: Forecast) -> Verdict:
    """The forecast of one row, or the errors over all rows beside those of no change."""
    if len(explanation.at) == 1:
        return _forecast_at(explanation, forecast, explanation.at[0])
    errors, names = forecast.errors(), forecast.names
    known = [i for i, (own, _) in enumerate(errors) if math.isfinite(own)]
    steps = len(explanation.input)
    span = f" from {explanation.place(1)} to {explanation.place(steps)}" if explanation.times else ""
    over = f"over {steps:,} {explanation.legend.unit}{'s' * (steps > 1)}{span * (steps > 1)}"
    lead = f"{f'at {explanation.place(1)}' if span and steps == 1 else over} the model forecast the next one"
    if not known:
        return Verdict(f"{lead}, which is not known", None)
    if len(known) <= NAMED:
        said = [
            f"{names[i]} with a mean error of {_error(forecast, i)} (no change: {_number(errors[i][1])})"
            for i in known
        ]
        return Verdict(f"{lead}: {_listed(said)}", None)
    better = [i for i in known if errors[i][0] < errors[i][1]]
    ranked = sorted(known, key=lambda i: _ratio(*errors[i]))
    told = [
        f"{word} in {names[i]} (mean error {_error(forecast, i)}; no change: {_number(errors[i][1])})"
        for word, i in (("best", ranked[0]), ("worst", ranked[-1]))
    ]
    columns = f"{len(better)} of {len(known)} columns"
    return Verdict(f"{lead} better than no change in {columns}, {' and '.join(told)}", None)


def _ratio(own: float, unchanged: float) -> float:
    """Of two errors; without bound where no change makes none."""
    return own / unchanged if unchanged else math.inf if own else 1.0


def _forecast_at(explanation: Explanation, forecast: Forecast, step: int) -> Verdict:
    following = None if explanation.times is None else explanation.times.of(step + 1)
    when = following or f"{explanation.legend.unit} {step + 1:,}"
    said: list[str] = []
    for i, (name, unit, digits) in enumerate(zip(forecast.names, forecast.units, forecast.decimals(), strict=True)):
        told, true = float(forecast.predicted[step - 1, i]), float(forecast.truth[step - 1, i])
        known = f" (true {in_digits(true, digits)})" if math.isfinite(true) else " (the true value is missing)"
        said.append(f"{name} {in_digits(told, digits)}{' ' + unit if unit else ''}{known}")
    more = f" and {len(said) - NAMED} more columns" if len(said) > NAMED + 1 else ""
    listed = ", ".join(said[:NAMED]) + more if more else _listed(said)
    return Verdict(f"for {when} the model forecast {listed}", None)


def _recalled(explanation: Explanation, reminders: Reminders) -> str:
    """The most recalled memories: of the step that the explanation is about, or of all steps."""
    step = asked_step(explanation)
    if step is None:
        amounts, signed = _by_memory(explanation, reminders.step, reminders.weight)
        if not amounts.any():
            return "it recalled nothing"
        told = {step: f"{amounts[step] / amounts.sum():.0%} of the weight" for step in _largest(amounts)}
        told = {step: f"{text}{', mostly negative' * bool(signed[step] < 0)}" for step, text in told.items()}
        mean = amounts.sum() / len(reminders.step)
        little = f"little, with weights of {mean:.2f} a step in all, " if mean < LITTLE else ""
        return f"over all steps it recalled {little}mostly {_memories(explanation, told)}"
    amounts, signed = _by_memory(explanation, reminders.step[step - 1], reminders.weight[step - 1])
    if not amounts.any():
        return "it recalled nothing at that step"
    told = {memory: f"weight {signed[memory]:.2f}" for memory in _largest(amounts)}
    if amounts.max() < LEAST_WEIGHT:
        return f"it recalled almost nothing, no memory with a weight of {LEAST_WEIGHT} or more"
    little = f"little, with weights of {amounts.sum():.2f} in all, " if amounts.sum() < LITTLE else ""
    return f"it recalled {little}mostly {_memories(explanation, told)}"


def _by_memory(
    explanation: Explanation, step: NDArray[np.int64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The sums of |weight| and of the weights, of which some may be negative, by step of the memory, (T + 1,)."""
    sums: list[NDArray[np.float64]] = []
    for each in (np.abs(weight), weight):
        sums.append(np.zeros(len(explanation.input) + 1))
        np.add.at(sums[-1], step.ravel(), (each * (step > 0)).ravel())
    return sums[0], sums[1]


def _largest(amounts: NDArray[np.float64]) -> list[int]:
    """The memory with the largest amount, (T + 1,) by step, and the second if it is nearly as large."""
    first, second = np.argsort(-amounts, kind="stable")[:2].tolist()
    return [first, second] if amounts[second] >= SECOND * amounts[first] and amounts[second] > 0 else [first]


def _memories(explanation: Explanation, told: Mapping[int, str]) -> str:
    """Memories by their steps, each with what is said of it."""
    return " and ".join(f"{_memory(explanation, step)} ({text})" for step, text in told.items())


def _memory(explanation: Explanation, step: int) -> str:
    """The time of a memory, or its step; of tokens also what was read last before it was stored."""
    place = explanation.place(step)
    if explanation.legend.kind != "tokens":
        return place if explanation.times is not None else f"the memory of {place}"
    read: list[int] = explanation.input[max(0, step - explanation.interval) : step].tolist()
    names = [explanation.legend.names[token] for token in read]
    running = explanation.legend.unit != "step" and all(len(name) == 1 for name in names)
    return f"the memory of {place}, after {_quoted(('' if running else ' ').join(names))}"


def _reached(explanation: Explanation, reminders: Reminders) -> str:
    """Where the gradient arrived: at the input or, of tokens, at the most credited memory."""
    reached = explanation.reached
    if reached is not None and reached.sum() > 0:
        step = int(reached.argmax()) + 1
        share = reached[step - 1] / reached.sum()
        return f"the gradient met the input most strongly at {explanation.place(step)} ({share:.1%} of all)"
    total = reminders.amount.sum()
    if not total:
        return "no memory received credit"
    received = np.bincount(reminders.memory, weights=reminders.amount) / total
    best = int(received.argmax())
    return f"most credit went to {_memory(explanation, best)} ({received[best]:.0%})"


def _probability(logits: NDArray[np.float64]) -> float:
    """Of the most probable class."""
    return float(1 / np.exp(logits - logits.max()).sum())


def _error(forecast: Forecast, column: int) -> str:
    unit = forecast.units[column]
    return f"{_number(forecast.errors()[column][0])}{' ' + unit if unit else ''}"


def _numbers(values: NDArray[np.float64]) -> str:
    return ", ".join(_number(float(value)) for value in values)


def _number(value: float) -> str:
    """With three digits or, of a large one, all before the point, up to 1e15: two errors of 1.01e+05 look alike."""
    if abs(value) >= LARGE:
        return f"{value:.6g}"
    return f"{value:.3g}" if abs(value) < 1000 else in_digits(value, 0)


def _quoted(name: str) -> str:
    return f'"{name}"'


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
