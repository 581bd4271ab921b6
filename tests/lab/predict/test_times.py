"""Times of tables that are given to a run: read and continued as those of its training file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import reminding
from reminding.cli import main
from reminding.disk.writing import write_text
from reminding.lab.predict.frames import times_after
from reminding.lab.predict.future import following as next_rows
from reminding.lab.runs import checkpoint
from reminding.tasks import FileStream
from reminding.tasks.data.times.written import whole_times
from reminding.tasks.files.known import Known

US = "%m/%d/%Y"


def written(path: Path, times: Any, *, column: str = "when") -> Path:
    """A table with one column beside its times."""
    pd.DataFrame({column: times, "v": np.sin(np.arange(len(times)))}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], Path]:
    """What trains a run on a table with some times."""
    runs: dict[str, Path] = {}

    def make(name: str, times: Any) -> Path:
        if name not in runs:
            folder = tmp_path_factory.mktemp("run")
            data = written(folder / "data.csv", times)
            words = f"train stream --data {data} --time when --held-out 30 --eval-rows 1 --chunk 20"
            options = "--capacity 8 --hidden-size 4 --steps 1 --batch-size 1 --device cpu"
            main([*words.split(), *options.split(), "--out", str(folder / "run")])
            data.unlink()
            runs[name] = folder / "run"
        return runs[name]

    return make


Trained = Callable[[str, Any], Path]
DAYS = pd.date_range("2023-01-01", periods=200)
HOURS = pd.date_range("2023-01-01", periods=200, freq="h")


def test_the_order_of_day_and_month_is_that_of_training(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained("us", DAYS.strftime(US))
    short = pd.DataFrame({"when": DAYS[:10].strftime(US), "v": np.arange(10.0)})
    short.to_csv(tmp_path / "short.csv", index=False)
    model = reminding.load(run)
    several: list[Any] = [tmp_path / "short.csv", short, pl.from_pandas(short), short[:1]]
    for given in several:
        found = model.predict(given, steps=2)
        assert list(found.index) == list(DAYS[len(given) if isinstance(given, pd.DataFrame) else 10 :][:2])
    written(tmp_path / "long.csv", DAYS[:12].strftime(US))
    main(["eval", str(run), "--data", str(tmp_path / "long.csv"), "--eval-rows", "1"])
    main(["explain", str(run), "--input", str(tmp_path / "short.csv"), "--out", str(tmp_path / "page")])
    assert "Over 9 rows from 2023-01-01 to 2023-01-09" in " ".join(capsys.readouterr().out.split())
    clear = written(tmp_path / "clear.csv", pd.date_range("2023-01-13", periods=3).strftime("%d/%m/%Y"))
    assert model.predict(clear).index[0] == pd.Timestamp("2023-01-16")


def test_a_run_that_kept_no_order_goes_on_working(trained: Trained, tmp_path: Path) -> None:
    config, _ = checkpoint.load_run(trained("hours", HOURS.strftime("%Y-%m-%d %H:%M:%S")))
    assert isinstance(config.task, FileStream)
    facts = {name: value for name, value in config.task.facts().items() if name != "timing"}
    task = config.task.with_facts(facts)
    assert isinstance(task, FileStream)
    known = Known.of_facts(facts).timing
    assert known is not None
    assert (known.order, known.dated, known.step) == (None, True, 3600)
    assert task.open(written(tmp_path / "a.csv", HOURS[:3])).steps() == 3


def test_a_single_row_goes_on_by_the_step_of_training(trained: Trained, tmp_path: Path) -> None:
    model = reminding.load(trained("hours", HOURS.strftime("%Y-%m-%d %H:%M:%S")))
    at = HOURS[0]
    for given, following in (
        ([0], [1, 2]),
        ([0, 5], [6, 7]),
        ([0, 1, 6], [7, 8]),
        ([0, 0.5, 1], [1.5, 2]),
        ([0, 24, 48, 72, 200], [224, 248]),
    ):
        times = [at + pd.Timedelta(hours=hours) for hours in given]
        wanted = [at + pd.Timedelta(hours=hours) for hours in following]
        path = written(tmp_path / "a.csv", times)
        for data in (path, pd.read_csv(path)):
            assert list(model.predict(data, steps=2).index) == wanted


@pytest.mark.parametrize("ends", [False, True])
def test_a_single_row_goes_on_by_months(trained: Trained, tmp_path: Path, ends: bool) -> None:
    months = pd.date_range("2001-01-31", periods=200, freq="ME" if ends else "MS")
    model = reminding.load(trained(f"months {ends}", months.strftime("%Y-%m-%d")))
    path = written(tmp_path / "a.csv", months[:1].strftime("%Y-%m-%d"))
    assert list(model.predict(path, steps=3).index) == list(months[1:4])


def on_the_30th(ends: pd.DatetimeIndex) -> list[pd.Timestamp]:
    """The 30th of some months, or their ends where they are shorter."""
    return [end - pd.Timedelta(days=max(end.day - 30, 0)) for end in ends]


def test_few_rows_go_on_on_the_day_of_training(trained: Trained, tmp_path: Path) -> None:
    """The 30th of each month, which February cuts to its end."""
    months = on_the_30th(pd.date_range("2001-01-31", periods=200, freq="ME"))
    model = reminding.load(trained("on the 30th", [f"{month:%Y-%m-%d}" for month in months]))
    for first, last in ((0, 200), (180, 182), (181, 182), (193, 194)):
        path = written(tmp_path / "a.csv", [f"{month:%Y-%m-%d}" for month in months[first:last]])
        wanted = pd.date_range(months[last - 1] + pd.Timedelta(days=5), periods=3, freq="ME")
        assert list(model.predict(path, steps=3).index) == on_the_30th(wanted)
    path = written(tmp_path / "a.csv", ["2020-05-17"])
    assert list(model.predict(path, steps=2).index) == [pd.Timestamp("2020-06-17"), pd.Timestamp("2020-07-17")]


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_rounded_times_do_not_drift(zone: str | None) -> None:
    since = pd.to_timedelta(np.rint(np.arange(900) * 1000 / 30), unit="ms")
    frames = pd.DatetimeIndex(since + pd.Timestamp("2024-01-01", tz=zone))
    found = times_after(frames[:600], "when", 300)
    assert found.tz == frames.tz
    assert abs(found - frames[600:]).max() <= pd.Timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("minutes", "zone", "taken"),
    [
        (1, None, True),
        (1, "UTC", True),
        (31, None, False),
        (59, None, False),
        (61, None, True),  # from 1:59 to 3:00 on a wall in spring
        (61, "UTC", False),
        (62, None, False),
        (62, "UTC", False),
    ],
)
def test_known_inputs_of_a_later_minute_are_refused(minutes: int, zone: str | None, taken: bool) -> None:
    """Clocks are put forward by an hour, which is no leave to leave out half of one."""
    before = pd.date_range("2024-01-01", periods=60, freq="min", tz=zone)
    for place in (0, 3):
        given = pd.date_range(before[-1] + pd.Timedelta(minutes=1), periods=6, freq="min")
        given = given[:place].append(given[place:] + pd.Timedelta(minutes=minutes - 1))
        if taken:
            assert list(next_rows(given, before, 60.0)) == list(given)
        else:
            with pytest.raises(ValueError, match=f"future: row {place}, .* is .* after "):
                next_rows(given, before, 60.0)


def test_a_table_in_memory_without_the_times_is_refused(trained: Trained) -> None:
    model = reminding.load(trained("hours", HOURS.strftime("%Y-%m-%d %H:%M:%S")))
    frame = pd.DataFrame({"v": np.ones(20)})
    for given in (frame, pl.from_pandas(frame)):
        with pytest.raises(ValueError, match=r"time: data has no 'when'; it has v\. The index of a pandas table may"):
            model.predict(given)
    for index in (HOURS[:20], HOURS[:20].to_period("h")):
        assert model.predict(frame.set_index(index)).index[0] == HOURS[20]


@pytest.mark.parametrize("kind", ["seconds", "durations"])
def test_decimal_times_go_on_exactly(trained: Trained, tmp_path: Path, kind: str) -> None:
    """A last digit that float64 rounds does not add up, also where the interval is that of training."""
    if kind == "seconds":
        told = [f"{1_700_000_000 + i / 10_000:.4f}" for i in range(1300)]
        memory: Any = np.array([float(each) for each in told])
    else:
        told = [f"0:{i // 600:02}:{i // 10 % 60:02}.{i % 10}" for i in range(1300)]
        memory = pd.to_timedelta(np.arange(1300) * 100, unit="ms")
    wanted = [float(each) if kind == "seconds" else i / 10 for i, each in enumerate(told)]
    model = reminding.load(trained(kind, told[:200]))
    for rows in (200, 1):
        path = written(tmp_path / "a.csv", told[:rows])
        frame = pd.DataFrame({"when": memory[:rows], "v": np.ones(rows)})
        for data in (path, frame, frame.assign(when=told[:rows])):
            assert model.predict(data, steps=1000).index.tolist() == wanted[rows : rows + 1000]


def test_whole_numbers_go_on_exactly(trained: Trained, tmp_path: Path) -> None:
    numbers = 1700000000123456789 + 10**6 * np.arange(200)
    model = reminding.load(trained("nanoseconds", numbers))
    rows = pd.DataFrame({"when": numbers[:20], "v": np.ones(20)})
    rows.to_csv(tmp_path / "a.csv", index=False)
    rows.to_parquet(tmp_path / "a.parquet")
    for given in (rows, rows.astype({"when": str}), tmp_path / "a.csv", tmp_path / "a.parquet"):
        assert model.predict(given, steps=3).index.tolist() == numbers[20:23].tolist()
    assert model.predict(rows[:1], steps=3).index.tolist() == numbers[1:4].tolist()


@pytest.mark.parametrize(
    ("frequency", "written_as", "kind"),
    [
        ("MS", "%Y%m", "months"),
        ("D", "%Y%m%d", "dates"),
        ("h", "%Y%m%d%H", "dates and times of day"),
        ("10min", "%Y%m%d%H%M", "dates and times of day"),
        ("10s", "%Y%m%d%H%M%S", "dates and times of day"),
    ],
)
def test_points_in_time_as_whole_numbers_go_on_by_the_calendar(
    trained: Trained, tmp_path: Path, frequency: str, written_as: str, kind: str
) -> None:
    times = pd.date_range("2023-02-01", periods=200, freq=frequency)
    numbers = times.strftime(written_as).astype(int)
    model = reminding.load(trained(written_as, numbers))
    rows = pd.DataFrame({"when": numbers[:28], "v": np.ones(28)})
    rows.to_csv(tmp_path / "a.csv", index=False)
    opened: Any = model.opened(tmp_path / "a.csv")
    assert f"when: whole numbers such as {numbers[0]} are read as {kind}" in opened.reading.notes
    for given in (opened, rows, rows.astype({"when": float}), rows.astype({"when": str})):
        assert list(model.predict(given, steps=2).index) == list(times[28:30])
    counted = reminding.load(trained("counts", np.arange(200)))
    last = numbers[27]
    assert counted.predict(rows, steps=1).index.tolist() == [last + last - numbers[26]], "training had numbers"


@pytest.mark.parametrize("first", [2024022923, 1990010100, 202413, 2024, 20230229, 20240230235900, 1800010100])
@pytest.mark.parametrize("distance", [1, 60])
def test_whole_numbers_that_are_no_points_in_time_stay_numbers(first: int, distance: int) -> None:
    """Seconds since 1970 have ten digits, too."""
    assert whole_times(first + distance * np.arange(100)) is None


def test_a_zone_of_a_table_in_memory_stays(trained: Trained, tmp_path: Path) -> None:
    texts = HOURS.tz_localize("UTC").tz_convert("Europe/Berlin").strftime("%Y-%m-%dT%H:%M:%S%z")
    model = reminding.load(trained("berlin", texts))
    rows = pd.DataFrame({"when": HOURS[:9].tz_localize("UTC").tz_convert("Asia/Tokyo"), "v": np.ones(9)})
    assert str(model.predict(rows).index[0]) == "2023-01-01 18:00:00+09:00"
    write_text(tmp_path / "a.csv", rows.to_csv(index=False))
    assert str(model.predict(tmp_path / "a.csv").index[0]) == "2023-01-01 09:00:00"


def test_the_times_of_known_inputs_are_read_in_the_order_of_training(tmp_path: Path) -> None:
    """In another order, each of these future days would be months later or earlier than the data."""
    rows: Any = pd.DataFrame(
        {"when": DAYS.strftime(US), "known": np.cos(np.arange(200)), "v": np.sin(np.arange(200))}
    )
    rows.to_csv(tmp_path / "data.csv", index=False)
    words = (
        f"train stream --data {tmp_path / 'data.csv'} --time when --target v --held-out 30 --eval-rows 1 --chunk 20"
    )
    options = "--capacity 8 --hidden-size 4 --steps 1 --batch-size 1 --device cpu"
    main([*words.split(), *options.split(), "--out", str(tmp_path / "run")])
    model, past = reminding.load(tmp_path / "run"), rows[:34]  # the last day is 02/03/2023
    following, before = rows[34:37].drop(columns="v"), rows[31:34].drop(columns="v")
    for name, table in {"following": following, "before": before}.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    for future in (following, tmp_path / "following.csv"):
        assert list(model.predict(past, steps=4, future=future).index) == list(DAYS[34:38])
    for future in (before, tmp_path / "before.csv"):
        with pytest.raises(ValueError, match="future must begin after the last row of the data, 2023-02-03"):
            model.predict(past, steps=4, future=future)


def test_rows_at_another_distance_than_those_of_training_are_told(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained("hours", HOURS.strftime("%Y-%m-%d %H:%M:%S"))
    note = "note: time: a row every {}, where training had one every 1 h; the network reads rows, and not their times"
    for freq, said in (("2h", "2 h"), ("15min", "15 min"), ("h", None)):
        path = written(tmp_path / "new.csv", pd.date_range("2024-01-01", periods=20, freq=freq))
        for words in (["predict", str(run), "--input", str(path)], ["eval", str(run), "--data", str(path)]):
            capsys.readouterr()
            main([*words, *(["--eval-rows", "1"] if words[0] == "eval" else [])])
            shown = capsys.readouterr().out
            assert (note.format(said) in shown) if said else ("note: time" not in shown)


def test_a_single_row_is_at_no_distance(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained("hours", HOURS.strftime("%Y-%m-%d %H:%M:%S"))
    path = written(tmp_path / "one.csv", HOURS[:1])
    main(["predict", str(run), "--input", str(path)])
    shown = capsys.readouterr().out
    assert "time: when, 2023-01-01 00:00:00\n" in shown
    assert "2023-01-01 01:00:00" in shown


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.csv", r"^data: .*a\.csv has no rows$"),
        (
            "a.feather",
            r"^format: .*a\.feather is a table in a form that is not read; save it as CSV or Parquet$",
        ),
    ],
)
def test_a_file_that_holds_no_rows_that_can_be_read_is_named(
    trained: Trained, tmp_path: Path, name: str, said: str
) -> None:
    run = trained("hours", HOURS.strftime("%Y-%m-%d %H:%M:%S"))
    (tmp_path / name).write_bytes(b"when,v\n" if name.endswith("csv") else b"ARROW1\x00\x00" + bytes(range(200)))
    with pytest.raises(ValueError, match=said):
        reminding.load(run).predict(tmp_path / name)
