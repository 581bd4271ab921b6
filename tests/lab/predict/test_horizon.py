"""Forecasts of several rows beside the rows that were measured: alignment, baselines, errors and picture.

Shapes: T rows, C columns, S steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import reminding
from reminding.cli import main
from reminding.tasks import Copying, FileStream, Series
from tests.lab.explain.conftest import untrained
from tests.lab.explain.tables import HOURS, ROWS, table
from tests.lab.predict.test_predictor import informed_run

SEASON = 6


def facts_of(columns: list[str], targets: list[str]) -> dict[str, Any]:
    return {
        "kind": "table",
        "unit": "row",
        "vocabulary": None,
        "columns": columns,
        "targets": targets,
        "mean": [0.0] * len(columns),
        "deviation": [1.0] * len(columns),
        "constant": [],
        "season": SEASON,
        "data": {"steps": {"train": [100]}},
    }


@pytest.fixture
def seasonal(tmp_path: Path) -> Path:
    """A run on a column x with a season of 6 rows."""
    return informed_run(tmp_path / "run", FileStream(tmp_path / "gone.csv").with_facts(facts_of(["x"], ["x"])))


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_it_is_the_prediction_after_the_rows_before_with_the_truth_beside_it(tmp_path: Path, steps: int) -> None:
    path, run, values = table(tmp_path)
    model = reminding.load(run)
    future = pd.DataFrame(values[-9:], columns=["warm", "flow"])
    found = model.forecast(path, steps, held_out=9)
    wanted = model.predict(values[:-9], steps, future=future)
    np.testing.assert_allclose(found.predicted.to_numpy(), wanted.to_numpy(), rtol=1e-5)
    shown = found.measured["warm"]
    np.testing.assert_allclose(shown, values[ROWS - 9 - found.origin : ROWS - 9 + steps, 0])
    assert [f"{time:%Y-%m-%d %H:%M}" for time in found.predicted.index] == HOURS[-9 : steps - 9 or None]
    assert list(found.measured.index[found.origin :]) == list(found.predicted.index)


def test_a_context_is_the_last_rows_that_are_read(seasonal: Path, tmp_path: Path) -> None:
    model, values = reminding.load(seasonal), np.random.default_rng(0).normal(size=(3000, 1))
    whole, found = model.forecast(values, 5, held_out=4), model.forecast(values, 5, held_out=4, context=50)
    np.testing.assert_allclose(found.predicted, model.predict(values[-54:-4], 5), rtol=1e-5)
    assert not np.allclose(found.predicted, whole.predicted, rtol=1e-5)
    pd.testing.assert_frame_equal(found.measured, whole.measured)
    assert list(found.predicted.index) == list(whole.predicted.index)
    np.testing.assert_array_equal(found.baselines["seasonal"], whole.baselines["seasonal"])
    pd.testing.assert_frame_equal(model.predict(values, context=9999), model.predict(values))
    with pytest.raises(ValueError, match="context must be an integer of at least 1, or None, got 0"):
        model.predict(values, context=0)
    pd.DataFrame(values, columns=["x"]).to_csv(tmp_path / "x.csv", index=False)
    out = tmp_path / "out.csv"
    main(["predict", str(seasonal), "--input", str(tmp_path / "x.csv"), "--context", "40", "--out", str(out)])
    assert pd.read_csv(out)["x"].to_numpy() == pytest.approx(model.predict(values[-40:])["x"].to_numpy(), rel=1e-4)


def test_without_rows_held_out_it_is_what_predict_gives_and_has_no_errors(seasonal: Path) -> None:
    model, values = reminding.load(seasonal), np.random.default_rng(0).normal(size=(30, 1))
    found = model.forecast(values, 5)
    pd.testing.assert_frame_equal(found.predicted, model.predict(values, 5))
    assert found.errors() is None
    assert list(found.measured["x"]) == list(values[:, 0])


def test_as_many_rows_are_forecast_as_are_held_out(seasonal: Path, tmp_path: Path) -> None:
    """On the command line, too, and one where none is held out."""
    model, values = reminding.load(seasonal), np.arange(40.0)[:, None]
    assert [len(model.forecast(values, held_out=rows).predicted) for rows in (0, 1, 7)] == [1, 1, 7]
    assert len(model.forecast(values, 2, held_out=7).predicted) == 2
    pd.DataFrame({"x": np.arange(40.0)}).to_csv(tmp_path / "a.csv", index=False)
    words = ["predict", str(seasonal), "--input", str(tmp_path / "a.csv"), "--out", str(tmp_path / "b.csv")]
    for given, rows in (([], 1), (["--held-out", "7"], 7), (["--held-out", "7", "--steps", "2"], 2)):
        main([*words, *given])
        assert len(pd.read_csv(tmp_path / "b.csv")) == rows


@pytest.mark.parametrize(("steps", "held_out"), [(4, 4), (9, 9), (9, 3), (2, 5)])
def test_errors_are_those_over_the_known_rows_beside_both_baselines(
    seasonal: Path, steps: int, held_out: int
) -> None:
    model, values = reminding.load(seasonal), np.random.default_rng(0).normal(size=40)
    found = model.forecast(values, steps, held_out=held_out)
    known = min(steps, held_out)
    before, truth = values[: 40 - held_out], values[40 - held_out :][:known]
    cycle = [before[len(before) - SEASON + i % SEASON] for i in range(known)]
    wanted = {"model": found.predicted["x"].to_numpy()[:known], "unchanged": before[-1], "seasonal": np.array(cycle)}
    errors = found.errors()
    assert errors is not None
    assert (errors["horizon"], errors["predictions"], errors["season"]) == (steps, known, SEASON)
    assert list(errors["columns"]["x"]) == list(wanted)
    for name, values in wanted.items():
        off = np.abs(values - truth)
        told = errors["columns"]["x"][name]
        assert told["mae"] == pytest.approx(off.mean())
        assert told["rmse"] == pytest.approx(np.sqrt((off**2).mean()))


def test_a_season_longer_than_the_rows_is_no_baseline(seasonal: Path) -> None:
    found = reminding.load(seasonal).forecast(np.arange(7.0), 2, held_out=2)
    errors = found.errors()
    assert errors is not None
    assert errors["season"] is None
    assert list(errors["columns"]["x"]) == ["model", "unchanged"]


def test_a_missing_value_is_neither_drawn_nor_counted(tmp_path: Path) -> None:
    rows = "".join(f"{i % 5}\n" if i not in (250, 297) else "NA\n" for i in range(300))
    (tmp_path / "a.csv").write_text("a\n" + rows)
    run = untrained(tmp_path / "run", FileStream(tmp_path / "a.csv", missing="carry", chunk=10, eval_rows=1))
    found = reminding.load(run).forecast(tmp_path / "a.csv", 4, held_out=4)
    missing = np.flatnonzero(found.measured["a"].isna()) + 296 - found.origin
    assert list(missing) == [250, 297]
    errors = found.errors()
    assert errors is not None and errors["predictions"] == 3
    off = np.abs(found.predicted["a"].to_numpy() - [296 % 5, 0, 298 % 5, 299 % 5])[[0, 2, 3]]
    assert errors["columns"]["a"]["model"]["mae"] == pytest.approx(off.mean())


@pytest.mark.parametrize("missing", ["carry", "zero"])
def test_no_change_repeats_the_last_known_value(tmp_path: Path, missing: Any) -> None:
    """So does a season before where its own value is missing. A column without any known value has none."""
    values = np.stack([np.arange(300) % 5, np.arange(300) % 7], axis=1).astype(float)
    values[[262, 294, 295], 0] = np.nan  # 262: in the rows that the season repeats
    rows = "".join(f"{row[0]},{row[1]}\n".replace("nan", "NA") for row in values)
    (tmp_path / "a.csv").write_text("a,b\n" + rows)
    run = untrained(tmp_path / "run", FileStream(tmp_path / "a.csv", missing=missing, chunk=10, eval_rows=1))
    found = reminding.load(run).forecast(tmp_path / "a.csv", 4, held_out=4)
    np.testing.assert_array_equal(found.baselines["unchanged"], [[293 % 5, 295 % 7]] * 4)
    season = found.season
    assert season is not None
    cycle = np.where(np.isnan(values), 293 % 5, values)[296 - season : 296]
    np.testing.assert_array_equal(found.baselines["seasonal"], cycle[np.arange(4) % season])
    if missing == "zero":
        values[:296, 0] = np.nan
        found = reminding.load(run).forecast(values, 4, held_out=4)
        errors = found.errors()
        assert errors is not None
        assert errors["columns"]["a"]["unchanged"] == {"rmse": None, "mae": None}
        assert errors["columns"]["b"]["unchanged"]["rmse"] > 0


def test_the_picture_has_both_lines_at_their_times(tmp_path: Path) -> None:
    path, run, values = table(tmp_path)
    found = reminding.load(run).forecast(path, 9, held_out=9)
    (axes,) = found.figure(tmp_path / "next.png", "a title").axes
    measured, forecast, origin = (line.get_ydata() for line in axes.lines[:3])
    np.testing.assert_allclose(measured, values[-9 - found.origin :, 0])
    assert np.isnan(forecast[: found.origin]).all()
    np.testing.assert_allclose(forecast[found.origin :], found.predicted["warm"])
    assert list(axes.lines[2].get_xdata()) == [found.origin + 0.5] * 2 and len(origin) == 2
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert (labels[0], labels[-1]) == (HOURS[-9 - found.origin], HOURS[-1])
    assert axes.get_ylabel() == "warm, degC"
    assert (tmp_path / "next.png").stat().st_size > 5000


def test_rows_that_are_not_known_are_drawn_after_the_known_ones(tmp_path: Path) -> None:
    path, run, _ = table(tmp_path)
    future = pd.DataFrame({"flow": np.full(8, 300.0)})
    (axes,) = reminding.load(run).forecast(path, 9, future=future).figure().axes
    assert axes.get_xticklabels()[-1].get_text() == "2024-01-18 00:00", "9 hours after 2024-01-17 15:00"


def test_what_cannot_be_forecast_is_refused(seasonal: Path, tmp_path: Path) -> None:
    model = reminding.load(seasonal)
    with pytest.raises(ValueError, match="held_out must be from 0 to 4, for 5 rows, got 5"):
        model.forecast(np.zeros((5, 1)), held_out=5)
    with pytest.raises(ValueError, match="held_out must be an integer of at least 0, got -1"):
        model.forecast(np.zeros((5, 1)), held_out=-1)
    with pytest.raises(ValueError, match="steps must be an integer of at least 1, got 0"):
        model.forecast(np.zeros((5, 1)), 0)
    with pytest.raises(ValueError, match="forecast is for tables, and this run was trained on copying"):
        reminding.load(untrained(tmp_path / "copying", Copying(T=5))).forecast(np.zeros((5, 1)))


def test_the_command_line_draws_compares_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, run, _ = table(tmp_path)
    picture = tmp_path / "new" / "next.png"
    words = ["predict", str(run), "--input", str(path), "--steps", "5", "--held-out", "5"]
    main([*words, "--figure", str(picture)])
    shown = " ".join(capsys.readouterr().out.split())
    assert picture.is_file()
    assert "Errors of one forecast of 5 rows over the 5 that are known" in shown
    with pytest.raises(SystemExit, match=r"figure must end in \.png, \.svg, \.pdf, got next\.jpeg"):
        main([*words, "--figure", "next.jpeg"])
    knocks = tmp_path / "knocks.tsv"
    knocks.write_text("".join(f"{'ab'[i % 2]}\t{i}\t1\t2\n" for i in range(20)))
    labels = untrained(tmp_path / "labels", Series(knocks))
    for option, value in (("held_out", "2"), ("figure", "a.png"), ("context", "5")):
        with pytest.raises(SystemExit, match=f"{option} is for forecasts of tables"):
            main(["predict", str(labels), "--input", str(knocks), f"--{option.replace('_', '-')}", value])


DAYS = pd.date_range("2024-01-01", periods=8)
INDICES = {
    "days": DAYS,
    "zone": DAYS.tz_localize("Europe/Berlin"),
    "objects": pd.Index(list(DAYS.to_pydatetime()), dtype=object),
    "dates": pd.Index(list(DAYS.date), dtype=object),
    "periods": DAYS.to_period("D"),
    "durations": DAYS - DAYS[0],
}


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
def test_an_index_of_times_that_is_not_in_order_is_refused(seasonal: Path, index: Any) -> None:
    """As a time column is; the rows would be read in the order in which they stand, and forecast without a word."""
    model = reminding.load(seasonal)
    places = np.array([0, 1, 2, 2, 3, 4, 5, 6])
    frame: Any = pd.DataFrame({"x": np.arange(8.0)}, index=index)
    model.predict(frame)
    for given, row in ((frame[::-1], 1), (frame.iloc[places], 3), (frame.iloc[[0, 2, 1, 3]], 2)):
        message = f"time: row {row} of the index, .*, is not later than the row before; sort the rows"
        with pytest.raises(ValueError, match=message):
            model.predict(given)
        with pytest.raises(ValueError, match=message):
            model.forecast(given["x"], held_out=1)
    with pytest.raises(ValueError, match="time: row 4 of the index holds no time"):
        model.predict(frame.set_axis(index.where(np.arange(8) != 4, pd.NaT)))


def test_an_index_of_numbers_or_names_says_nothing_of_the_order(seasonal: Path) -> None:
    model = reminding.load(seasonal)
    wanted = model.predict(np.arange(3.0))
    pairs = pd.MultiIndex.from_tuples([(1, 2), (0, 1), (0, 1)])
    for index in ([2, 1, 1], [2.5, 0.5, np.nan], ["b", "a", "a"], pairs):
        pd.testing.assert_frame_equal(model.predict(pd.DataFrame({"x": np.arange(3.0)}, index=index)), wanted)
