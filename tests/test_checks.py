"""Checks of arguments and options: the values that pass, and the message for a bad value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from reminding import checks


@pytest.mark.parametrize(
    ("check", "rest", "good", "bad", "expected"),
    [
        (
            checks.at_least,
            (2,),
            [2, 3, np.int64(2)],
            [1, 2.0, True, "2", None, np.int64(1), np.float64(2)],
            "be an integer of at least 2",
        ),
        (checks.at_least_or_none, (1,), [None, 1], [0, 1.5, False], "be an integer of at least 1, or None"),
        (
            checks.seed,
            (),
            [0, 2**64 - 1, np.int64(1)],
            [-1, 2**64, 1.0, True, None],
            "be an integer of at least 0 and below 2**64",
        ),
        (checks.above_zero, (), [1e-9, 1, np.float32(1)], [0, -1.0, math.nan, "a", None, True], "be above 0"),
        (checks.above_zero_or_none, (), [None, 0.5], [0.0, math.nan, "a"], "be above 0, or None"),
        (checks.at_least_zero, (), [0, 2.5], [-1e-9, math.nan, "a"], "be at least 0"),
        (checks.share, (), [0, 0.5, 1], [-0.1, 1.1, math.nan, "a", True], "be a number from 0 to 1"),
        (
            checks.share_above_zero,
            (),
            [1e-9, np.float32(0.5), 1],
            [0, 1.1, "a", True],
            "be a number above 0 and at most 1",
        ),
        (checks.yes_or_no, (), [True, np.False_], ["no", 1, None], "be True or False"),
        (checks.one_of, (["a", "b"],), ["a", "b"], ["c"], "be one of ['a', 'b']"),
    ],
)
def test_a_bad_value_gets_a_sentence_with_name_and_value(
    check: Callable[..., None], rest: tuple[Any, ...], good: list[Any], bad: list[Any], expected: str
) -> None:
    for value in good:
        check("option", value, *rest)
    for value in bad:
        with pytest.raises(ValueError, match=re.escape(f"option must {expected}, got {value!r}")):
            check("option", value, *rest)


@pytest.mark.parametrize(
    ("check", "rest", "bad", "expected"),
    [
        (checks.at_least, (1, 1024), 1025, "be at most 1,024, got 1025"),
        (checks.at_least_or_none, (1, 1024), 1025, "be at most 1,024, or None, got 1025"),
        (checks.above_zero, (), math.inf, "be finite, got inf"),
        (checks.above_zero, (100,), 100.5, "be at most 100, got 100.5"),
        (checks.at_least_zero, (100,), math.inf, "be at most 100, got inf"),
        (checks.above_zero, (), 10**400, "be finite, got 10000"),
        (checks.at_least, (1,), 10**400, "be at most 2,305,843,009,213,693,952, got 10000"),
    ],
)
def test_a_value_that_is_too_large_gets_a_short_sentence(
    check: Callable[..., None], rest: tuple[Any, ...], bad: Any, expected: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(f"option must {expected}")) as refused:
        check("option", bad, *rest)
    assert len(str(refused.value)) < 120


def test_infinity_is_taken_where_it_means_no_limit() -> None:
    checks.above_zero("limit", math.inf, math.inf)
    checks.above_zero("rate", 1e30)
    checks.above_zero_or_none("limit", math.inf)
    checks.at_least_zero("limit", math.inf)


def test_lists_are_checked_item_by_item() -> None:
    checks.each_at_least("steps", (), 1)
    checks.each_at_least("steps", (1, 2), 1)
    with pytest.raises(ValueError, match=re.escape("steps must be integers of at least 1, got [2, 0]")):
        checks.each_at_least("steps", (2, 0), 1)
    checks.one_or_more("steps", (2, 1))
    for bad in ((), (2, 1, 2)):
        with pytest.raises(ValueError, match=re.escape(f"one or more different numbers, got {list(bad)}")):
            checks.one_or_more("steps", bad)
    checks.each_one_of("models", ("b", "a"), ("a", "b"))
    with pytest.raises(ValueError, match=re.escape("models must be among ['a', 'b'], got ['c']")):
        checks.each_one_of("models", ("a", "c"), ("a", "b"))


def test_what_a_layer_keeps_is_of_pythons_own_types() -> None:
    """A number of numpy would overflow where Python's does not, and no C++ op takes it."""
    assert type(checks.at_least("size", np.int8(3), 1)) is int
    assert type(checks.at_least_or_none("size", np.int8(3), 1)) is int
    assert checks.at_least_or_none("size", None, 1) is None
    assert type(checks.share("dropout", np.float32(0.5))) is float
    assert type(checks.share_above_zero("scale", np.float32(0.5))) is float
    assert checks.each_yes_or_no(bias=np.True_, backtrack=False) == [True, False]
    assert checks.one_of("score", "dot", ["dot"]) == "dot"
