"""Runs with --target, --time and --missing, used where their training file is gone.

Shapes: T rows, C columns, S steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.typing import NDArray

import reminding
from reminding.cli import main
from reminding.lab.runs import checkpoint

HELD_OUT = 60
NAMES = ["heat", "load", "price"]


def rows_of(seed: int, rows: int = 400) -> Any:
    """Hourly rows with gaps: heat and price are known inputs, load follows both."""
    rng = np.random.default_rng(seed)
    heat, price = 15 + 5 * np.sin(np.arange(rows) / 4), rng.normal(40, 3, rows)
    load = 100 + 2 * heat + price + rng.normal(size=rows)
    frame: Any = pd.DataFrame(np.stack([heat, load, price], 1).round(3), columns=NAMES)
    frame = frame.mask(rng.random(frame.shape) < 0.05)
    frame.insert(0, "hour", pd.date_range("2024-03-01", periods=rows, freq="h"))
    return frame


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose training file was deleted."""
    folder = tmp_path_factory.mktemp("run")
    data = folder / "gone.csv"
    rows_of(0).to_csv(data, index=False)
    words = (
        f"train stream --data {data} --target load --time hour --missing carry --held-out {HELD_OUT} --eval-rows 2"
    )
    options = "--chunk 20 --capacity 8 --hidden-size 8 --steps 4 --eval-every 2 --batch-size 2 --device cpu"
    main([*words.split(), *options.split(), "--out", str(folder / "run")])
    data.unlink()
    return folder / "run"


def test_several_steps_are_a_loop_of_single_steps_with_the_known_inputs(run: Path, tmp_path: Path) -> None:
    model = reminding.load(run)
    assert (model.targets, model.inputs) == (("load",), ("heat", "price"))
    rows = rows_of(1, 90)
    past, future = rows[:80], rows[80:].drop(columns="load")
    future.iloc[0, 1:] = np.nan  # a missing value is carried over the border
    past.to_csv(tmp_path / "past.csv", index=False)
    future.to_csv(tmp_path / "future.csv", index=False)
    with pytest.raises(ValueError, match="future: 5 steps need the inputs heat, price of the next 4 rows"):
        model.predict(tmp_path / "past.csv", steps=5)
    found = model.predict(tmp_path / "past.csv", steps=5, future=tmp_path / "future.csv")
    assert list(found.index) == list(pd.date_range("2024-03-04 08:00", periods=5, freq="h"))
    assert found.index.name == "hour"
    pd.testing.assert_frame_equal(model.predict(past, steps=5, future=future), found, check_freq=False)
    known = past
    for step in range(5):
        single = model.predict(known)
        np.testing.assert_allclose(single.to_numpy()[0], found.to_numpy()[step], rtol=1e-5)
        following = future.iloc[[step]].assign(load=single.to_numpy()[0])
        known = pd.concat([known, following[known.columns]], ignore_index=True)


def test_tables_of_polars_and_arrow_have_missing_values_and_times(run: Path) -> None:
    model = reminding.load(run)
    rows: pd.DataFrame = rows_of(1, 80)
    wanted = model.predict(rows)
    polars = pl.from_pandas(rows)
    assert polars["heat"].null_count() > 0
    pd.testing.assert_frame_equal(model.predict(polars), wanted, check_freq=False, check_index_type=False)
    pd.testing.assert_frame_equal(model.predict(polars.to_arrow()), wanted, check_freq=False, check_index_type=False)


def test_missing_values_of_every_kind_of_column_are_missing(run: Path) -> None:
    model, rows = reminding.load(run), rows_of(1, 80)
    wanted = model.predict(rows)
    objects = rows.astype({"heat": object, "price": "string"})  # the NA of pandas among numbers and among texts
    objects["heat"] = objects["heat"].where(rows["heat"].notna(), pd.NA)
    for table in (rows.convert_dtypes(), objects, rows.astype({"heat": "category"})):
        pd.testing.assert_frame_equal(model.predict(table), wanted, check_freq=False)
    stepper = model.stepper()
    told = [stepper.step(row) for row in objects[NAMES].to_dict("records")][-1]
    np.testing.assert_allclose(told["load"], wanted.to_numpy()[0, 0], rtol=1e-5)
    objects["hour"] = objects["hour"].astype("string").where(rows.index != 3, pd.NA)
    with pytest.raises(ValueError, match="time: data, row 3, column 'hour': the cell holds no time"):
        model.predict(objects)


def test_nulls_of_a_dictionary_of_arrow_are_missing_and_not_its_last_value(run: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    model, rows = reminding.load(run), rows_of(1, 80)
    wanted = model.predict(rows)
    encoded = arrow.Table.from_pandas(rows.astype({"heat": "category", "hour": "category"}))
    for table in (encoded, encoded.combine_chunks().to_batches()[0]):
        found = model.predict(table)
        pd.testing.assert_frame_equal(found, wanted, check_freq=False, check_index_type=False)


def test_a_stepper_reads_missing_values_as_predict_does(run: Path) -> None:
    model, rows = reminding.load(run), rows_of(1, 30)
    stepper = model.stepper()
    told = [stepper.step(row) for row in rows[NAMES].to_dict("records")][-1]
    np.testing.assert_allclose(told["load"], model.predict(rows).to_numpy()[0, 0], rtol=1e-5)


def test_numbers_for_missing_values_are_missing_in_memory_too(tmp_path: Path) -> None:
    rows = rows_of(0, 200).fillna(-999.9)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    words = f"train stream --data {tmp_path / 'rows.csv'} --target load --time hour --missing carry --na -999.9"
    options = "--held-out 20 --eval-rows 2 --chunk 20 --hidden-size 8 --steps 2 --batch-size 2 --device cpu"
    main([*words.split(), *options.split(), "--out", str(tmp_path / "run")])
    model, future = reminding.load(tmp_path / "run"), rows.head(2)[["heat", "price"]].assign(price=-999.9)
    future.to_csv(tmp_path / "future.csv", index=False)
    found = model.predict(tmp_path / "rows.csv", steps=3, future=tmp_path / "future.csv")
    single = rows.astype(dict.fromkeys(NAMES, np.float32))
    forms: list[tuple[Any, Any]] = [(rows, future), (pl.from_pandas(rows), pl.from_pandas(future))]
    for given, following in forms:
        pd.testing.assert_frame_equal(model.predict(given, steps=3, future=following), found, check_freq=False)
    pd.testing.assert_frame_equal(model.predict(single), found[:1], check_freq=False, rtol=1e-4)
    stepper = model.stepper()
    step = [stepper.step(row) for row in rows[NAMES].to_dict("records")][-1]
    assert step["load"] == pytest.approx(found["load"].iloc[0], rel=1e-6)


def test_eval_finds_columns_by_name_and_scales_by_training(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = rows_of(2, 120)
    new.to_csv(tmp_path / "new.csv", index=False)
    new[["price", "hour", "load", "heat"]].to_csv(tmp_path / "other.csv", index=False)
    for name in ("new.csv", "other.csv"):
        main(["eval", str(run), "--data", str(tmp_path / name)])
    first, second = checkpoint.read_evaluations(run)
    assert first["mse"] == second["mse"] and first["errors"] == second["errors"]
    errors: list[NDArray[np.float64]] = []
    for half in (new["load"][:60], new["load"][60:]):  # --eval-rows 2
        carried = new["load"].ffill()[half.index].to_numpy()
        errors.append(half.to_numpy()[1:] - carried[:-1])
    off = np.concatenate(errors)
    off = off[~np.isnan(off)]
    load = rows_of(0)["load"].ffill()[: 400 - 2 * HELD_OUT]  # scale: carried values of the training rows
    assert first["errors"]["columns"]["load"]["unchanged"]["mae"] == pytest.approx(np.abs(off).mean(), rel=1e-5)
    assert first["mse_unchanged"] == pytest.approx(((off / load.std(ddof=0)) ** 2).mean(), rel=1e-4)
    assert first["errors"]["predictions"] == len(off) < 118


def test_what_was_read_of_the_input_is_said(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows_of(1, 50).to_csv(tmp_path / "new.csv", index=False)
    main(["predict", str(run), "--input", str(tmp_path / "new.csv")])
    shown = capsys.readouterr().out
    assert "new.csv: 50 rows" in shown and "time: hour, 2024-03-01 00:00:00 to 2024-03-03 01:00:00" in shown
    assert "2024-03-03 02:00:00" in shown


def test_gaps_that_training_did_not_have_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = rows_of(0)[["heat", "load"]].assign(load=range(400))
    frame.to_csv(tmp_path / "a.csv", index=False)
    words = f"train stream --data {tmp_path / 'a.csv'} --missing carry --held-out {HELD_OUT} --eval-rows 2 --chunk 20"
    options = "--model lstm --hidden-size 4 --steps 1 --device cpu"
    main([*words.split(), *options.split(), "--out", str(tmp_path / "run")])
    frame.loc[3, "load"] = np.nan
    frame.to_csv(tmp_path / "b.csv", index=False)
    capsys.readouterr()
    main(["predict", str(tmp_path / "run"), "--input", str(tmp_path / "b.csv")])
    assert "load: missing values are filled, and count as measured" in " ".join(capsys.readouterr().out.split())


def test_times_go_on_by_the_calendar(run: Path) -> None:
    model, rows = reminding.load(run), rows_of(1, 12)
    rows["hour"] = pd.date_range("2023-01-31", periods=12, freq="ME")
    assert model.predict(rows).index[0] == pd.Timestamp("2024-01-31")
    rows["hour"] = np.arange(12) * 0.5
    found = model.predict(rows, steps=2, future=rows.assign(hour=rows["hour"] + 6))
    assert list(found.index) == [6.0, 6.5] and found.index.name == "hour"


HOURS = pd.Series(pd.date_range("2024-03-01", periods=50, freq="h"))
TIMES: dict[str, Any] = {
    "iso": HOURS.astype(str),
    "day first": HOURS.dt.strftime("%d/%m/%Y %H:%M"),
    "numbers as text": (HOURS - HOURS[0]).dt.total_seconds().astype(int).astype(str),
    "durations": HOURS - HOURS[0],
    "durations as text": (HOURS - HOURS[0]).astype(str),
    "objects": (HOURS - HOURS[0]).astype(object),
}


@pytest.mark.parametrize("kind", TIMES)
def test_the_times_of_a_table_in_memory_are_read_as_those_of_a_file(run: Path, tmp_path: Path, kind: str) -> None:
    rows = rows_of(1, 50).assign(hour=TIMES[kind])
    rows.to_csv(tmp_path / "rows.csv", index=False)
    model = reminding.load(run)
    found, want = model.predict(rows, steps=1), model.predict(tmp_path / "rows.csv", steps=1)
    pd.testing.assert_frame_equal(found, want, check_freq=False)
    dated = kind in ("iso", "day first")
    assert found.index[0] == (pd.Timestamp("2024-03-03 02:00") if dated else 50 * 3600)
    with pytest.raises(ValueError, match=r"time: .*row 3.* is not later than .*row before"):
        model.predict(rows.iloc[[*range(3), *range(2, 50)]])
    with pytest.raises(ValueError, match=r"time: .*row 7.* holds no time"):
        model.predict(rows.assign(hour=rows["hour"].astype(object).where(rows.index != 7)))
    with pytest.raises(ValueError, match=r"time: .*row 49.* holds no time"):
        model.predict(rows.assign(hour=[*range(49), np.inf]))


def test_known_inputs_that_do_not_follow_the_data_are_refused(run: Path, tmp_path: Path) -> None:
    model, rows = reminding.load(run), rows_of(1, 90)
    past = rows[:80]
    for name, frame in {"past": past, "same": rows[79:], "next": rows[80:]}.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    files = {name: tmp_path / f"{name}.csv" for name in ("past", "same", "next")}
    told = "future must begin after the last row of the data, 2024-03-04 07:00:00, got 2024-03-04 07:00:00"
    for data in (past, files["past"]):
        for same, following in ((rows[79:], rows[80:]), (files["same"], files["next"])):
            with pytest.raises(ValueError, match=told):
                model.predict(data, steps=5, future=same)
            assert len(model.predict(data, steps=5, future=following)) == 5
    zoned = rows[79:].assign(hour=rows["hour"][79:].dt.tz_localize("UTC"))
    with pytest.raises(ValueError, match="future must begin after the last row of the data"):
        model.predict(files["past"], steps=5, future=zoned)
    untimed = rows[80:].drop(columns="hour")
    pd.testing.assert_frame_equal(
        model.predict(past, steps=5, future=untimed), model.predict(past, steps=5, future=rows[80:])
    )
    with pytest.raises(ValueError, match="future: its times and those of the data are of two kinds"):
        model.predict(past, steps=5, future=rows[80:].assign(hour=np.arange(10.0)))
    held = model.forecast(rows, steps=5, held_out=10, future=files["next"])
    pd.testing.assert_frame_equal(
        held.predicted, model.predict(past, steps=5, future=files["next"]), check_freq=False
    )


@pytest.mark.parametrize(
    ("hours", "told"),
    [
        (
            [24, 25, 26, 27],
            "future: row 0, 2024-03-05 07:00:00, is 1 d after the last row of the data, 2024-03-04 07:",
        ),
        (
            [1, 2, 3, 6],
            "future: row 3, 2024-03-04 13:00:00, is 3 h after row 2, 2024-03-04 10:00:00, and the rows of",
        ),
        ([1, 1.25, 1.5, 1.75], "is 15 min after row 0, .* the rows of the data are 1 h apart. If it is the next row"),
    ],
)
def test_known_inputs_of_other_rows_are_refused(run: Path, tmp_path: Path, hours: list[float], told: str) -> None:
    model, rows = reminding.load(run), rows_of(1, 90)
    past = rows[:80]
    times = [past["hour"].iloc[-1] + pd.Timedelta(hours=each) for each in hours]
    future = rows[80:84].assign(hour=times)
    future.to_csv(tmp_path / "future.csv", index=False)
    for given in (future, tmp_path / "future.csv"):
        with pytest.raises(ValueError, match=told):
            model.predict(past, steps=5, future=given)
    model.predict(past, steps=5, future=future.drop(columns="hour"))  # as the message says
    with pytest.raises(ValueError, match=r"row 0, .*, is .* after the last row of the data"):
        model.predict(rows[79:80], steps=2, future=rows[88:])  # one row has no distances: those of training count
    model.predict(rows[79:80], steps=2, future=rows[80:])


def test_times_of_known_inputs_name_the_rows_of_the_forecast(run: Path) -> None:
    model, rows = reminding.load(run), rows_of(1, 90)
    days = pd.Series(pd.bdate_range("2024-03-01", periods=90)).drop([30, 41, 83]).to_numpy()  # and three holidays
    table: Any = rows[:87].assign(hour=days)
    found = model.forecast(table[:80], steps=6, future=table[80:])
    assert list(found.predicted.index[:5]) == list(days[80:85]) and found.predicted.index[5] > days[84]
    held = model.forecast(table[:82], steps=6, future=table[80:], held_out=2)
    pd.testing.assert_frame_equal(held.predicted, found.predicted, check_freq=False)
    spring = pd.date_range("2024-03-30 12:00", periods=30, freq="h", tz="Europe/Berlin")
    for zone in (None, "Europe/Berlin", "UTC"):  # on the wall the clock goes from 1 to 3
        hours = spring.tz_localize(None) if zone is None else spring.tz_convert(zone)
        local = rows[:30].assign(hour=hours)
        told = model.predict(local[:10], steps=9, future=local[10:])
        assert list(told.index[:8]) == list(local["hour"][10:18])
        assert told.index.tz == local["hour"].dt.tz


def test_a_forecast_does_not_overwrite_what_it_is_made_from(run: Path, tmp_path: Path) -> None:
    rows = rows_of(1, 60)
    rows[:50].to_csv(tmp_path / "past.csv", index=False)
    rows[50:].to_csv(tmp_path / "next.csv", index=False)
    (tmp_path / "link.csv").symlink_to(tmp_path / "past.csv")
    before = {path: path.read_bytes() for path in tmp_path.glob("*.csv")}
    words = ["predict", str(run), "--input", str(tmp_path / "past.csv"), "--future", str(tmp_path / "next.csv")]
    for out, named in (("past.csv", "input"), ("link.csv", "input"), ("x/../next.csv", "future")):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(SystemExit, match=rf"out must be another file than {named}, got"):
            main([*words, "--steps", "3", "--out", str(tmp_path / out)])
    assert before == {path: path.read_bytes() for path in tmp_path.glob("*.csv")}


def test_a_future_file_must_exist_even_where_it_is_not_needed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows_of(1, 50).to_csv(tmp_path / "new.csv", index=False)
    words = ["predict", str(run), "--input", str(tmp_path / "new.csv"), "--future"]
    with pytest.raises(SystemExit, match=r"future: .*nosuch\.csv is not a file"):
        main([*words, str(tmp_path / "nosuch.csv")])
    main([*words, str(tmp_path / "new.csv")])
    assert "is not needed, as every column is predicted or steps is 1" in " ".join(capsys.readouterr().out.split())


def dropping(folder: Path, time: str) -> Path:
    """A run with --missing drop, whose training file was deleted."""
    data = folder / "gone.csv"
    rows_of(0).to_csv(data, index=False)
    words = f"train stream --data {data} --columns heat load price --missing drop --held-out {HELD_OUT} --eval-rows 2"
    options = f"{time} --chunk 20 --capacity 8 --hidden-size 8 --steps 1 --batch-size 2 --device cpu"
    main([*words.split(), *options.split(), "--out", str(folder / "run")])
    data.unlink()
    return folder / "run"


@pytest.mark.parametrize("time", ["", "--time hour"])
def test_rows_that_are_left_out_count_in_the_index(tmp_path: Path, time: str) -> None:
    """Of 120 rows the last is kept: the forecast is of row 120, five days after the first, whatever was dropped."""
    model, rows = reminding.load(dropping(tmp_path, time)), rows_of(3, 120)
    rows.iloc[110, 1], rows.iloc[119, 1:] = np.nan, [15.0, 170.0, 40.0]
    kept = rows.dropna()
    assert 90 < len(kept) < 119
    rows.to_csv(tmp_path / "new.csv", index=False)
    dates = list(pd.date_range("2024-03-06", periods=2, freq="h"))
    wanted: Any = dates if time else [120, 121]
    given: list[Any] = [rows, pl.from_pandas(rows), tmp_path / "new.csv"]
    for data in given:
        found = model.predict(data, steps=2)
        assert list(found.index) == wanted
        np.testing.assert_allclose(found.to_numpy(), model.predict(kept, steps=2).to_numpy(), rtol=1e-6)
    assert list(model.predict(rows[NAMES].to_numpy(), steps=2).index) == [120, 121]
    indexed = rows.set_index("hour")[NAMES]
    if not time:
        assert list(model.predict(indexed, steps=2).index) == dates
    held = model.forecast(rows, steps=3, held_out=3)
    places = kept.index[-3:]
    assert list(held.predicted.index) == (list(kept["hour"][-3:]) if time else list(places))
    np.testing.assert_allclose(held.measured.to_numpy()[-3:], kept[NAMES].to_numpy()[-3:])


def test_a_new_file_must_have_the_targets_and_the_time(run: Path, tmp_path: Path) -> None:
    rows_of(1, 50).drop(columns="hour").to_csv(tmp_path / "untimed.csv", index=False)
    with pytest.raises(ValueError, match=r"time: .*untimed\.csv has no 'hour'"):
        reminding.load(run).predict(tmp_path / "untimed.csv")
    rows_of(1, 50).drop(columns="load").to_csv(tmp_path / "blind.csv", index=False)
    with pytest.raises(ValueError, match="has no 'load'"):
        reminding.load(run).predict(tmp_path / "blind.csv")
    with pytest.raises(SystemExit, match="target must be those of the training data, load, got price"):
        main(["eval", str(run), "--data", str(tmp_path / "blind.csv"), "--target", "price"])


def test_a_table_that_is_only_a_plan_or_has_complex_numbers_is_refused(run: Path) -> None:
    model = reminding.load(run)
    rows = pd.DataFrame({name: np.ones(4) for name in model.columns})
    with pytest.raises(ValueError, match="data is a LazyFrame, expected a table in memory; collect it first"):
        model.predict(pl.from_pandas(rows).lazy())
    for given in (rows + 0j, rows.to_numpy() + 0j):
        with pytest.raises(ValueError, match=r"data.* its numbers are complex, expected real ones"):
            model.predict(given)


def test_a_column_without_a_value_is_missing_throughout(run: Path, tmp_path: Path) -> None:
    model = reminding.load(run)
    rows = rows_of(1, 60)
    rows["price"] = np.nan
    rows.to_csv(tmp_path / "rows.csv", index=False)
    found = model.predict(tmp_path / "rows.csv")
    pd.testing.assert_frame_equal(found, model.predict(rows), check_freq=False)
    assert np.isfinite(found.to_numpy()).all()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"heat": 1.0, "load": 2.0, "price": "cheap"}, "value: the column 'price' is not numeric"),
        ({"heat": 1.0, "load": 2.0, "price": 1j}, "value: the column 'price' is not numeric"),
        ({"heat": 1.0, "load": [2.0, 3.0], "price": 1.0}, "value: the column 'load' must be one number, got 2"),
        ([1.0, 2.0, "cheap"], "value must be numbers: could not convert string to float"),
    ],
)
def test_a_step_that_is_no_number_is_named(run: Path, value: Any, told: str) -> None:
    stepper = reminding.load(run).stepper()
    with pytest.raises(ValueError, match=told):
        stepper.step(value)
    assert stepper.steps == 0
    known = {"heat": 1.0, "load": None, "price": np.float32(2.0)}  # a missing value is carried
    assert list(stepper.step(known)) == ["load"]
