"""Forecasts, values and times of a table are in its own units, and are those of `reminding.load`."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from reminding.lab.explain.excerpts import ExplainOptions
from reminding.lab.explain.explanation import Explanation, explain
from reminding.lab.explain.legend import legend_of
from reminding.lab.explain.page import lines_of, write_explanations
from reminding.lab.explain.summary import summary
from reminding.lab.explain.times import recorded, seconds
from reminding.lab.predict.predictor import load
from reminding.lab.show.forecasts import MOST_COLUMNS, Lines, forecast_figure
from reminding.tasks import FileStream
from reminding.tasks.series import Series
from tests.lab.explain.conftest import untrained
from tests.lab.explain.tables import HOURS, table


def one(folder: Path, **options: object) -> Explanation:
    (explanation,) = explain(folder, ExplainOptions(**options))  # pyright: ignore[reportArgumentType]
    return explanation


def test_it_is_what_predict_says_of_the_rows_so_far(tmp_path: Path) -> None:
    path, run, values = table(tmp_path)
    found = one(run, input=path, steps=60)
    forecast = found.forecast
    assert forecast is not None
    assert (forecast.names, forecast.units, forecast.places) == (("warm",), ("degC",), (0,))
    predictor = load(run)
    for step in (1, 30, 60):
        frame = predictor.predict(values[:step])
        assert forecast.predicted[step - 1, 0] == pytest.approx(float(frame["warm"].iloc[0]), rel=1e-4)
    np.testing.assert_allclose(forecast.truth[:, 0], values[1:61, 0], rtol=1e-5)
    np.testing.assert_allclose(forecast.present[:, 0], values[:60, 0], rtol=1e-5)
    np.testing.assert_allclose(found.legend.values(found.input), values[:60], rtol=1e-5)
    assert found.legend.units == ("degC", "l/h")
    own, unchanged = forecast.errors()[0]
    assert own == pytest.approx(np.abs(forecast.predicted[:, 0] - values[1:61, 0]).mean(), rel=1e-4)
    assert unchanged == pytest.approx(np.abs(np.diff(values[:61, 0])).mean(), rel=1e-4)


def test_steps_have_the_dates_of_their_rows(tmp_path: Path) -> None:
    path, run, values = table(tmp_path)
    found = one(run, input=path, start=30, steps=50)
    assert found.times is not None
    assert found.times.texts == tuple(HOURS[30:81]), "and that of the row after the last"
    assert found.place(2) == "2024-01-02 07:00"
    for row in (0, 1):  # two streams of 50 rows in a test part of 100
        held = one(run, sequence=(row,))
        assert held.times is not None
        begin = 300 + 50 * row
        assert held.times.texts == tuple(HOURS[begin : begin + 50])
        np.testing.assert_allclose(held.legend.values(held.input), values[begin : begin + 49], rtol=1e-5)


def test_a_table_without_a_time_column_has_numbers_of_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n" + "".join(f"{i % 7}\n" for i in range(300)))
    found = one(untrained(tmp_path / "run", FileStream(tmp_path / "a.csv", chunk=10, eval_rows=1)))
    assert (found.place(1), found.place(14)) == ("row 286", "row 299"), "as in the file, and not in the excerpt"
    assert found.place(1200) == "row 1,200"


def test_errors_are_of_the_steps_at_which_no_change_says_something(tmp_path: Path) -> None:
    path, run, _ = table(tmp_path)
    forecast = one(run, input=path, steps=10).forecast
    assert forecast is not None
    forecast.present[:4] = np.nan
    wanted = np.abs(np.stack([forecast.predicted, forecast.present]) - forecast.truth)[:, 4:]
    np.testing.assert_allclose(np.array(forecast.errors()).T, np.nanmean(wanted, axis=1))


def test_an_error_without_a_known_truth_is_not_a_number(tmp_path: Path) -> None:
    path, run, _ = table(tmp_path)
    forecast = one(run, input=path, steps=10).forecast
    assert forecast is not None
    unknown = type(forecast)(*vars(forecast).values())
    unknown.truth[:] = np.nan
    assert np.isnan(unknown.errors()).all()


def test_the_figure_draws_each_forecast_at_the_step_it_is_of(tmp_path: Path) -> None:
    path, run, values = table(tmp_path)
    found = one(run, input=path, steps=40)
    assert found.forecast is not None
    assert found.times is not None
    figure = forecast_figure(lines_of(found.forecast), found.times.texts, "a title")
    (axes,) = figure.axes
    measured, forecast = (line.get_ydata() for line in axes.lines)
    np.testing.assert_allclose(measured, values[:40, 0], rtol=1e-5)
    assert np.isnan(forecast[0])
    np.testing.assert_allclose(forecast[1:], found.forecast.predicted[:-1, 0])
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert (labels[0], labels[-1]) == (HOURS[0], HOURS[39])
    assert axes.get_ylabel() == "warm, degC"
    files = write_explanations([found], tmp_path / "out", "a run")
    assert "forecast-oven.csv.png" in [file.name for file in files]


def test_a_forecast_of_several_rows_begins_at_its_origin() -> None:
    truth, forecast = np.array([1.0, 2, 3, np.nan]), np.array([np.nan, np.nan, 5, 6])
    (axes,) = forecast_figure([Lines("a", truth, forecast)], (), "t", origin=2).axes
    measured, drawn, origin = axes.lines
    np.testing.assert_array_equal(measured.get_ydata(), truth)
    np.testing.assert_array_equal(drawn.get_ydata(), forecast)
    assert drawn.get_label() == "forecast"
    assert list(origin.get_xdata()) == [2.5, 2.5]


def test_a_value_between_missing_ones_is_a_dot() -> None:
    """A line that joins values does not reach it."""
    truth = np.array([1.0, np.nan, 3, 4, np.nan, 6])
    (axes,) = forecast_figure([Lines("a", truth, np.full(6, 2.0))], (), "t").axes
    measured, forecast = axes.lines
    assert (measured.get_marker(), measured.get_markevery()) == (".", [0, 5])
    assert forecast.get_marker() == "None"


def test_a_figure_of_many_columns_says_how_many_it_shows() -> None:
    columns = [Lines(str(i), np.zeros(3), np.zeros(3)) for i in range(20)]
    figure = forecast_figure(columns, (), "t")
    assert len(figure.axes) == MOST_COLUMNS
    assert figure.get_suptitle() == f"t (the first {MOST_COLUMNS} of 20 columns)"


def test_dates_have_the_digits_that_they_need() -> None:
    hours = np.array(["2024-01-01T00:00", "2024-01-01T06:00"], "datetime64[us]")
    assert recorded("when", hours).texts == ("2024-01-01 00:00", "2024-01-01 06:00")
    assert recorded("when", hours[:1]).texts == ("2024-01-01",)
    assert recorded("when", hours + np.timedelta64(5, "s")).texts[0] == "2024-01-01 00:00:05"
    assert recorded("when", hours + np.timedelta64(5, "ms")).texts[0] == "2024-01-01 00:00:00.005000"
    numbered = recorded("t", np.array([3.0, 4.5]))
    assert numbered.texts == ("3", "4.5")
    assert numbered.of(2) == "t 4.5"
    assert numbered.of(3) is None


def test_sound_is_forecast_by_the_amplitude_that_is_expected(tmp_path: Path) -> None:
    samples = (np.sin(np.arange(600) / 5) * 20000).astype("<i2")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, len(samples), "NONE", ""))
        file.writeframes(samples.tobytes())
    run = untrained(tmp_path / "run", FileStream(tmp_path / "a.wav", chunk=20, eval_rows=1))
    found = one(run, input=tmp_path / "a.wav", steps=50)
    forecast = found.forecast
    assert forecast is not None
    shares = np.exp(found.prediction - found.prediction.max(1, keepdims=True))
    squeezed = np.arange(256) / 255 * 2 - 1
    levels = np.sign(squeezed) * (256 ** np.abs(squeezed) - 1) / 255
    np.testing.assert_allclose(forecast.predicted[:, 0], shares @ levels / shares.sum(1), atol=1e-9)
    np.testing.assert_allclose(forecast.truth[:, 0], samples[1:51] / 2**15, atol=0.02)
    np.testing.assert_allclose(forecast.present[:, 0], samples[:50] / 2**15, atol=0.02)
    assert "the model forecast the next one: amplitude with a mean error of" in summary(found)
    files = write_explanations([found], tmp_path / "out", "a run")
    assert "forecast-a.wav.png" in [file.name for file in files]


def test_sound_has_seconds_from_its_own_beginning(tmp_path: Path) -> None:
    assert seconds(3, 0.008, -1).texts == ("-0.008 s", "0.000 s", "0.008 s")
    assert seconds(3, 0.008, -1).of(1) == "0.008 s before its beginning"
    assert seconds(2, 2.0).texts == ("0 s", "2 s")
    for label in "ab":
        for take in range(6):
            samples = (np.sin(np.arange(240 - 16 * take)) * 9000 + 10000).astype("<i2")
            (tmp_path / "words" / label).mkdir(parents=True, exist_ok=True)
            with wave.open(str(tmp_path / "words" / label / f"{take}.wav"), "wb") as file:
                file.setparams((1, 2, 8000, len(samples), "NONE", ""))
                file.writeframes(samples.tobytes())
    task = Series(tmp_path / "words", frame=16)
    found = one(untrained(tmp_path / "run", task), sequence=(0,))
    assert found.times is not None
    silent = int((found.input == 0).all(1).sum())
    assert silent > 0
    assert found.times.texts[silent] == "0.000 s"
    assert found.times.texts[-1] == f"{(len(found.input) - 1 - silent) * 0.002:.3f} s"
    shown = legend_of(task).values(found.input)
    assert shown[silent:].max() == pytest.approx(19000 / 2**15, abs=0.01), "amplitudes, not deviations"
