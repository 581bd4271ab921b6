"""The sentence that sums up an explanation follows from its numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reminding.lab.explain.excerpts import ExplainOptions
from reminding.lab.explain.explanation import Explanation, Reminders, explain
from reminding.lab.explain.forecast import Forecast
from reminding.lab.explain.legend import Legend
from reminding.lab.explain.summary import summary, verdict
from reminding.lab.explain.times import StepTimes
from tests.lab.explain.tables import by_hand, table

WORDS = Legend("wave", classes=("yes", "no"), channels=("value",))
LETTERS = Legend("tokens", "character", names=tuple("abc"), classes=tuple("abc"))
COPIES = Legend("tokens", names=("·", "1", "2"), quiet=(0,), classes=("·", "1", "2"))


def one_answer(target: int) -> Explanation:
    prediction = [[0.0, 0.0]] * 3 + [[np.log(3.0), 0.0]]
    found = by_hand(WORDS, prediction, [-1, -1, -1, target], {3: [(2, 0.9)], 4: [(2, 0.7), (1, 0.3)]})
    return replace(found, reached=np.array([0.0, 1.0, 3.0, 0.0]))


def test_an_answer_is_told_with_its_probability_and_whether_it_is_right() -> None:
    assert verdict(one_answer(0)).right is True
    assert verdict(one_answer(1)).right is False
    assert summary(one_answer(0)) == (
        'The model answered "yes" with a probability of 0.75, which is right; it recalled mostly the memory of step '
        "2 (weight 0.70); the gradient met the input most strongly at step 3 (75.0% of all)."
    )
    assert 'which is wrong: it is "no";' in summary(one_answer(1))


def test_a_second_memory_is_told_if_it_weighs_nearly_as_much() -> None:
    found = one_answer(0)
    near = replace(found, layers=(replace(found.layers[0], weight=np.array([[0, 0]] * 3 + [[0.6, 0.4]])),))
    assert "mostly the memory of step 2 (weight 0.60) and the memory of step 1 (weight 0.40);" in summary(near)


def test_an_answer_whose_truth_is_unknown_is_neither_right_nor_wrong() -> None:
    found = replace(one_answer(0), target=None, credit_of="the class predicted at the last step (unknown)")
    assert verdict(found).right is None
    assert 'answered "yes" with a probability of 0.75, and the truth is not known;' in summary(found)


def test_times_take_the_place_of_steps() -> None:
    found = replace(one_answer(0), times=StepTimes(("-0.1 s", "0.0 s", "0.1 s", "0.2 s")))
    assert "it recalled mostly 0.0 s (weight 0.70); the gradient met the input most strongly at 0.1 s" in summary(
        found
    )
    padded = replace(found, reached=np.array([1.0, 0.0, 0.0, 0.0]))
    assert summary(padded).endswith("at 0.1 s before its beginning (100.0% of all).")


def test_text_is_counted_and_memories_are_quoted() -> None:
    prediction = np.eye(3)[[0, 1, 2, 0]]
    found = by_hand(LETTERS, prediction, [0, 1, 0, -1], {3: [(2, 0.5)], 4: [(2, 0.5), (3, 0.25)]})
    assert summary(found) == (
        "The model predicted 2 of 3 characters right; over all steps it recalled mostly the memory of character 2, "
        'after "ab" (80% of the weight); most credit went to the memory of character 2, after "ab" (80%).'
    )


def test_blanks_are_no_answers_of_copying() -> None:
    prediction = np.eye(3)[[0, 0, 1, 2]]
    found = by_hand(COPIES, prediction, [0, 0, 1, 1], {4: [(2, 1.0)]})
    assert summary(found).startswith("The model predicted 1 of 2 symbols right;")
    assert 'the memory of step 2, after "· 1" (100% of the weight)' in summary(found)
    assert verdict(found).right is None
    assert verdict(by_hand(COPIES, prediction, [0, 0, 1, 2], {})).right is True


def test_a_chosen_step_is_what_the_sentence_is_about() -> None:
    prediction = np.eye(3)[[0, 1, 2, 0]]
    found = by_hand(LETTERS, prediction, [0, 1, 0, -1], {3: [(2, 0.5)]})
    assert summary(replace(found, at=(3,))).startswith(
        'At character 3 the model answered "c" with a probability of 0.58, which is wrong: it is "a"; it recalled '
        'mostly the memory of character 2, after "ab" (weight 0.50);'
    )
    assert "at the characters 1, 2 the model predicted 2 of 2" in summary(replace(found, at=(1, 2))).lower()


def test_a_place_in_padding_is_set_off_by_commas() -> None:
    found = replace(one_answer(0), at=(2,), padding=2)
    assert summary(found).startswith('At step 2, which is padding, the model answered "yes" with')


def test_a_negative_weight_counts_by_its_size_and_is_told_with_its_sign() -> None:
    prediction = np.eye(3)[[0, 1, 2, 0]]
    found = by_hand(LETTERS, prediction, [0, 1, 0, 1], {3: [(1, 0.5), (2, -0.5)], 4: [(2, -1.5), (3, 0.5)]})
    assert 'mostly the memory of character 2, after "ab" (67% of the weight, mostly negative);' in summary(found)
    assert 'mostly the memory of character 2, after "ab" (weight -1.50);' in summary(replace(found, at=(4,)))


def test_nothing_recalled_and_no_credit_are_told() -> None:
    found = by_hand(LETTERS, np.eye(3)[[0, 1]], [0, 1], {})
    assert summary(found).endswith("; it recalled nothing; no memory received credit.")


def test_each_layer_has_its_own_sentence() -> None:
    found = one_answer(0)
    none = np.zeros(0, np.int64)
    other = Reminders(np.array([[0], [0], [0], [1]]), np.array([[0.0]] * 3 + [[0.8]]), none, none, np.zeros(0))
    both = replace(found, layers=(other, *found.layers))
    assert "mostly the memory of step 1 (weight 0.80)" in summary(both, 1)
    assert "mostly the memory of step 2 (weight 0.70)" in summary(both, 2) == summary(both)


def forecast(columns: int, **changes: Any) -> Explanation:
    """Two steps of a table; column i is off by i + 1, and no change by 2."""
    names = tuple(f"c{i}" for i in range(columns))
    truth, off = np.full((2, columns), 10.0), np.arange(1.0, columns + 1)
    units, places = ("V", *("",) * (columns - 1)), tuple(range(columns))
    values = Forecast(names, units, places, truth + off, truth, truth - 2, truth - 2)
    legend = Legend("lines", "row", channels=names)
    found = by_hand(legend, np.zeros((2, columns)), np.zeros((2, columns)), {2: [(1, 0.5)]})
    return replace(found, forecast=values, reached=np.array([3.0, 1.0]), **changes)


def test_a_forecast_is_told_beside_no_change() -> None:
    assert summary(forecast(1)) == (
        "Over 2 rows the model forecast the next one: c0 with a mean error of 1 V (no change: 2); over all steps it "
        "recalled mostly the memory of row 1 (100% of the weight); the gradient met the input most strongly at row 1 "
        "(75.0% of all)."
    )
    assert verdict(forecast(1)).right is None, "a value is no answer that is right or wrong"
    assert verdict(forecast(5)).text == (
        "over 2 rows the model forecast the next one better than no change in 1 of 5 columns, best in c0 (mean error "
        "1 V; no change: 2) and worst in c4 (mean error 5; no change: 2)"
    )


def test_a_forecast_of_one_row_is_told_at_its_row() -> None:
    found, one = forecast(1), slice(0, 1)
    assert found.forecast is not None
    kept = {name: getattr(found.forecast, name)[one] for name in ("predicted", "truth", "present", "measured")}
    single = replace(found, input=found.input[one], forecast=replace(found.forecast, **kept))
    assert verdict(single).text.startswith("over 1 row the model forecast the next one: c0 with")
    told = verdict(replace(single, times=StepTimes(("2,999", "3,000"), "row"))).text
    assert told.startswith("at row 2,999 the model forecast the next one: c0 with")


def test_large_errors_have_an_exponent() -> None:
    found = forecast(1)
    assert found.forecast is not None
    large = replace(found.forecast, predicted=found.forecast.truth + 3.9974251185e29)
    assert "c0 with a mean error of 3.99743e+29 V (no change: 2);" in summary(replace(found, forecast=large))


def test_a_column_that_does_not_change_is_not_the_best() -> None:
    """No change makes no error there, so that any error of the model is infinitely larger."""
    found = forecast(5)
    assert found.forecast is not None
    present = found.forecast.present.copy()
    present[:, 2] = found.forecast.truth[:, 2]
    told = verdict(replace(found, forecast=replace(found.forecast, present=present))).text
    assert "best in c0 (mean error 1 V; no change: 2) and worst in c2 (mean error 3; no change: 0)" in told


def test_a_forecast_at_a_chosen_step_is_told_with_its_date_and_the_truth() -> None:
    dated = StepTimes(("2018-02-20 13:00", "2018-02-20 14:00", "2018-02-20 15:00"))
    assert summary(forecast(1, at=(2,), times=dated)) == (
        "For 2018-02-20 15:00 the model forecast c0 11.0 V (true 10.0); it recalled mostly 2018-02-20 13:00 (weight "
        "0.50); the gradient met the input most strongly at 2018-02-20 13:00 (75.0% of all)."
    )
    assert verdict(forecast(1, at=(2,))).text.startswith("for row 3 the model forecast")
    found = forecast(2, at=(1,))
    assert found.forecast is not None
    found.forecast.truth[0, 1] = np.nan
    assert verdict(found).text.endswith("and c1 12.0 (the true value is missing)")
    assert verdict(forecast(6, at=(1,))).text == (
        "for row 2 the model forecast c0 11.0 V (true 10.0), c1 12.0 (true 10.0), c2 13 (true 10) and 3 more columns"
    )


def test_weights_that_would_be_said_as_nothing_are_almost_nothing() -> None:
    found = forecast(1, at=(2,))
    found.layers[0].weight[...] *= 0.001
    assert "; it recalled almost nothing, no memory with a weight of 0.005 or more; the gradient" in summary(found)


def test_weights_that_sum_to_little_are_said_to_be_little() -> None:
    found = forecast(1, at=(2,))
    whole = found.layers[0].weight[1].sum()
    found.layers[0].weight[...] *= 0.05 / whole
    assert "; it recalled little, with weights of 0.05 in all, mostly " in summary(found)
    prediction = np.eye(3)[[0, 1, 2, 0]]
    found = by_hand(LETTERS, prediction, [0, 1, 0, -1], {3: [(2, 0.1)], 4: [(2, 0.1), (3, 0.04)]})
    assert "over all steps it recalled little, with weights of 0.06 a step in all, mostly the memory of" in summary(
        found
    )


def test_a_real_table_is_summed_up(tmp_path: Path) -> None:
    path, run, _ = table(tmp_path)
    (found,) = explain(run, ExplainOptions(input=path, steps=48, at=(40,)))
    assert found.forecast is not None
    assert found.reached is not None
    told, true = found.forecast.predicted[39, 0], found.forecast.truth[39, 0]
    layer = found.layers[0]
    memory = layer.step[39, layer.weight[39].argmax()]
    assert summary(found).startswith(
        f"For 2024-01-02 16:00 the model forecast warm {told:.2f} degC (true {true:.2f}); "
    )
    assert f"it recalled mostly {found.place(memory)} (weight {layer.weight[39].max():.2f})" in summary(found)
    assert f"met the input most strongly at {found.place(int(found.reached.argmax()) + 1)} (" in summary(found)


@pytest.mark.parametrize("value", [1.25, -3.0])
def test_a_value_is_told_beside_the_truth(value: float) -> None:
    legend = Legend("lines", channels=("value", "marker"))
    target = [[np.nan], [np.nan], [1.5]]
    found = by_hand(legend, [[0.0], [0.0], [value]], target, {})
    assert summary(found).startswith(f"The model answered {value:.3g} (true 1.5); it recalled nothing at that step;")
