"""Errors that people can use, against loops of their own.

Shapes: T steps, B rows, C columns.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reminding.tasks import Batch
from reminding.tasks.kinds.tallies import ClassTally, Columns, ColumnTally, season_of


def chunks_of(values: NDArray[np.float64], chunk: int) -> list[Batch]:
    """Rows of streams, (T, B, C), as an evaluation cuts them."""
    last = len(values) - 1
    pieces = [(begin, min(begin + chunk, last)) for begin in range(0, last, chunk)]
    tensor = torch.as_tensor(values, dtype=torch.float32)
    rows = values.shape[1]
    return [
        Batch(tensor[begin:end], tensor[begin + 1 : end + 1], torch.full((rows,), begin == 0))
        for begin, end in pieces
    ]


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_errors_by_column_are_those_of_a_loop_in_the_columns_own_unit(chunk: int) -> None:
    rng = np.random.default_rng(0)
    season, mean, deviation = 5, np.array([10.0, -3.0]), np.array([4.0, 0.5])
    groups = [rng.normal(size=(23, 2, 2)).astype(np.float32).astype(np.float64) for _ in range(2)]
    tally = ColumnTally(Columns(("a", "b"), lambda input: input, mean, deviation, season))
    errors: dict[str, list[NDArray[np.float64]]] = {"model": [], "unchanged": [], "seasonal": []}
    for group in groups:
        for batch in chunks_of(group, chunk):
            tally.add(0.5 * batch.input, batch)
        for t in range(22):
            own = group * deviation + mean
            past = t + 1 - season
            errors["model"].append(0.5 * group[t] * deviation + mean - own[t + 1])
            errors["unchanged"].append(own[t] - own[t + 1])
            errors["seasonal"].append((own[past] if past >= 0 else own[t]) - own[t + 1])
    record = tally.record()
    assert record["predictions"] == 2 * 2 * 22
    for method, found in errors.items():
        table = np.concatenate(found)  # (n, C)
        for i, name in enumerate("ab"):
            told = record["columns"][name][method]
            assert told["rmse"] == pytest.approx(np.sqrt((table[:, i] ** 2).mean()), rel=1e-6)
            assert told["mae"] == pytest.approx(np.abs(table[:, i]).mean(), rel=1e-6)


def test_unknown_targets_do_not_count_and_each_row_has_its_own_season() -> None:
    rng = np.random.default_rng(1)
    season, begins = 3, [[0, 10], [0, 4]]  # row 1 begins anew at step 4
    values = rng.normal(size=(21, 2, 1)).astype(np.float32).astype(np.float64)
    target = values[1:].copy()
    target[rng.random(target.shape) < 0.3] = np.nan
    tally = ColumnTally(Columns(("a",), lambda input: input, np.zeros(1), np.ones(1), season))
    for begin in range(0, 20, 2):
        piece = torch.as_tensor(values[begin : begin + 2]).float()
        reset = torch.tensor([begin in row for row in begins])
        tally.add(0 * piece, Batch(piece, torch.as_tensor(target[begin : begin + 2]).float(), reset))
    errors: dict[str, list[float]] = {"model": [], "unchanged": [], "seasonal": []}
    for row in range(2):
        for t in range(20):
            wanted, age = target[t, row, 0], t - max(begin for begin in begins[row] if begin <= t)
            if not np.isnan(wanted):
                past = t + 1 - season if age + 1 >= season else t
                errors["model"].append(-wanted)
                errors["unchanged"].append(values[t, row, 0] - wanted)
                errors["seasonal"].append(values[past, row, 0] - wanted)
    record = tally.record()
    assert record["predictions"] == len(errors["model"]) < 40
    for method, found in errors.items():
        assert record["columns"]["a"][method]["mae"] == pytest.approx(np.abs(found).mean(), rel=1e-5)
        assert record["columns"]["a"][method]["rmse"] == pytest.approx(np.sqrt(np.square(found).mean()), rel=1e-5)


@pytest.mark.parametrize("chunk", [1, 3, 20])
def test_no_change_repeats_the_last_known_value_of_a_stream(chunk: int) -> None:
    """Also that of an earlier chunk, and never that of another stream. Before it, no error counts, of any method."""
    rng = np.random.default_rng(2)
    season, streams = 4, [rng.normal(size=(21, 2, 1)).astype(np.float32).astype(np.float64) for _ in range(2)]
    tally = ColumnTally(Columns(("a",), lambda input: input, np.zeros(1), np.ones(1), season))
    errors: dict[str, list[float]] = {"model": [], "unchanged": [], "seasonal": []}
    for values in streams:
        shown = np.where(rng.random(values.shape) < 0.5, np.nan, values)
        shown[0] = np.nan
        for batch, own in zip(chunks_of(shown, chunk), chunks_of(values, chunk), strict=True):
            tally.add(0 * own.input, Batch(batch.input, own.target, batch.reset))
        for row in range(2):
            last = np.nan
            for t in range(20):
                last = last if np.isnan(shown[t, row, 0]) else shown[t, row, 0]
                if np.isnan(last):
                    continue
                errors["model"].append(-values[t + 1, row, 0])
                before = shown[t + 1 - season, row, 0] if t + 1 >= season else np.nan
                errors["unchanged"].append(last - values[t + 1, row, 0])
                errors["seasonal"].append((last if np.isnan(before) else before) - values[t + 1, row, 0])
    told = tally.record()["columns"]["a"]
    for method, found in errors.items():
        assert told[method]["mae"] == pytest.approx(np.abs(found).mean(), rel=1e-5)
        assert told[method]["rmse"] == pytest.approx(np.sqrt(np.square(found).mean()), rel=1e-5)


def test_only_the_predicted_columns_count() -> None:
    values = np.random.default_rng(0).normal(size=(9, 1, 3))
    tally = ColumnTally(Columns(("c", "a"), lambda input: input[..., [2, 0]], np.zeros(2), np.ones(2), None))
    (whole,) = chunks_of(values, 100)
    tally.add(whole.target[..., [2, 0]], Batch(whole.input, whole.target[..., [2, 0]], whole.reset))
    told = tally.record()["columns"]
    assert [told[name]["model"]["rmse"] for name in ("c", "a")] == [0, 0]
    assert told["c"]["unchanged"]["mae"] == pytest.approx(np.abs(np.diff(values[:, 0, 2])).mean(), rel=1e-5)
    assert "seasonal" not in told["c"]


def test_a_season_longer_than_what_is_evaluated_is_left_out() -> None:
    """Its errors would be those of no change under another name."""
    tally = ColumnTally(Columns(("a",), lambda input: input, np.zeros(1), np.ones(1), 50))
    values = torch.randn(21, 2, 1)
    tally.add(torch.zeros(20, 2, 1), Batch(values[:-1], values[1:], torch.ones(2, dtype=torch.bool)))
    record = tally.record()
    assert record["season"] is None
    assert list(record["columns"]["a"]) == ["model", "unchanged"]


@pytest.mark.parametrize("seed", range(5))
def test_noise_on_a_slow_course_is_no_season(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slow = np.sin(np.arange(900) / 200) + rng.normal(0, 0.3, 900)  # its period is longer than a third of the rows
    drift = np.cumsum(rng.normal(size=900)) / 10 + rng.normal(0, 0.1, 900)
    assert season_of(slow[:, None]) is None
    found = season_of(drift[:, None])
    assert found is None or found > 20, "chance makes long waves in a random walk, but no short ones"
    waves = np.sin(np.arange(900) / 30) + rng.normal(0, 0.3, 900)
    assert season_of(waves[:, None]) == pytest.approx(60 * np.pi, abs=12)


def test_the_season_is_found_in_noise_and_drift_and_none_is_made_up() -> None:
    rng, t = np.random.default_rng(0), np.arange(2000)
    daily = np.sin(2 * np.pi * t / 24) + 0.3 * rng.normal(size=2000)
    assert season_of(np.stack([daily, rng.normal(size=2000)], axis=1)) == 24
    spiky = (t % 7 == 0).astype(float)
    assert season_of(spiky[:, None]) % 7 == 0  # pyright: ignore[reportOptionalOperand]
    for values in (rng.normal(size=2000), np.ones(2000), np.linspace(0, 1, 2000), np.arange(5.0)):
        assert season_of(values[:, None]) is None


@pytest.mark.parametrize("seed", range(5))
def test_noise_does_not_move_the_top_of_a_long_season(seed: int) -> None:
    """Rows every ten minutes, whose day is 144 rows: a value a few rows off is no better than no change."""
    rng, t = np.random.default_rng(seed), np.arange(20_000)
    daily = np.sin(2 * np.pi * t / 144) + 0.2 * rng.normal(size=len(t))
    assert season_of(np.stack([daily, rng.normal(size=len(t))], axis=1)) == 144


def test_classes_are_told_apart() -> None:
    tally = ClassTally(("cat", "dog", "nan"), majority=1)
    answers = torch.tensor([0, 1, 1, 1, 0])
    prediction = torch.stack([torch.zeros(5, 3), torch.nn.functional.one_hot(answers, 3).float()])
    tally.add(prediction, Batch(torch.zeros(2, 5, 1), torch.tensor([0, 0, 1, 1, 1])))
    record = tally.record()
    assert record["confusion"] == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert record["recall"] == {"cat": 0.5, "dog": pytest.approx(2 / 3), "nan": None}
    assert record["majority"] == {"class": "dog", "share": 0.6}
