"""Predictions of runs whose training data are gone, against loops that scale and feed back by hand.

Shapes: T rows, C columns, S steps.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.typing import NDArray

import reminding
from reminding.cli import main
from reminding.lab.predict import Predictor, hub
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import ModelOptions, RunConfig
from reminding.lab.runs.facts import save_facts
from reminding.lab.runs.model import SequenceModel
from reminding.tasks import PTB, Copying, FileStream
from tests.lab.explain.conftest import untrained
from tests.lab.test_portable import rows_of, stream, write_table

MEAN, DEVIATION = np.array([50.0, -3.0, 1000.0]), np.array([4.0, 0.5, 30.0])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A run on a table of the columns load and price, which is no longer there."""
    data = write_table(tmp_path / "trained.csv", rows_of(0))
    folder = untrained(tmp_path / "run", stream(data))
    save_facts(folder, stream(data))
    data.unlink()
    return folder


@pytest.fixture
def with_inputs(tmp_path: Path) -> Path:
    """A run that reads a, b and c and predicts c and a; b is a known input."""
    task = FileStream(tmp_path / "gone.csv").with_facts(
        {
            "kind": "table",
            "unit": "row",
            "vocabulary": None,
            "columns": ["a", "b", "c"],
            "targets": ["c", "a"],
            "mean": MEAN.tolist(),
            "deviation": DEVIATION.tolist(),
            "constant": [],
            "season": None,
            "data": {"steps": {"train": [100]}},
        }
    )
    return informed_run(tmp_path / "run", task)


def informed_run(folder: Path, task: Any, **options: Any) -> Path:
    torch.manual_seed(0)
    model = ModelOptions(hidden_size=8, k_trunc=3, capacity=8 if task.streamed else None, **options)
    config = RunConfig(task, model)
    folder.mkdir()
    config.save(folder / checkpoint.CONFIG_NAME)
    save_facts(folder, task, files=False)
    checkpoint.save_weights(folder, SequenceModel(task, config.model))
    return folder


def next_row(predictor: Predictor, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The row after some rows, in one call on all of them, scaled by hand."""
    mean, deviation = rows_of(0)[:300].mean(0), rows_of(0)[:300].std(0)
    with torch.no_grad():
        scaled = torch.as_tensor((values - mean) / deviation, dtype=torch.float32)[:, None]
        return predictor.model(scaled)[0][-1, 0].double().numpy() * deviation + mean


def test_a_forecast_is_a_loop_of_single_steps_that_are_fed_back(table: Path) -> None:
    predictor = reminding.load(table)
    assert (predictor.columns, predictor.targets, predictor.inputs) == (("load", "price"), ("load", "price"), ())
    values = rows_of(3, rows=70)
    found = predictor.predict(values, steps=5)
    rows = values
    for _ in range(5):
        rows = np.concatenate([rows, next_row(predictor, rows)[None]])
    np.testing.assert_allclose(found.to_numpy(), rows[70:], rtol=1e-4, atol=1e-4)
    assert list(found.columns) == ["load", "price"]
    assert list(found.index) == [70, 71, 72, 73, 74] and found.index.name == "row"
    again = values
    for step in range(5):
        single = predictor.predict(again)
        np.testing.assert_allclose(single.to_numpy()[0], found.to_numpy()[step], rtol=1e-5, atol=1e-5)
        again = np.concatenate([again, single.to_numpy()])


def test_long_tables_are_read_in_pieces_with_the_state_carried(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, values = reminding.load(table), rows_of(3, rows=70)
    whole = predictor.predict(values, steps=3)
    monkeypatch.setattr("reminding.lab.predict.forecast.CHUNK", 7)
    np.testing.assert_allclose(predictor.predict(values, steps=3), whole, rtol=1e-4, atol=1e-4)


def test_columns_are_found_by_name_in_every_kind_of_table(table: Path, tmp_path: Path) -> None:
    predictor, values = reminding.load(table), rows_of(3, rows=40)
    wanted = predictor.predict(values).to_numpy()
    frame = pd.DataFrame({"other": ["x"] * 40, "price": values[:, 1], "load": values[:, 0]})
    path = write_table(tmp_path / "new.csv", values[:, ::-1], ("price", "load"))

    polars = pl.from_pandas(frame)
    kinds: list[Any] = [frame, path, str(path), polars, polars.to_arrow(), predictor.opened(path)]
    for data in kinds:
        np.testing.assert_allclose(predictor.predict(data).to_numpy(), wanted, rtol=1e-6)


def test_numbered_columns_are_found(tmp_path: Path) -> None:
    data = tmp_path / "bare.csv"
    np.savetxt(data, rows_of(0), delimiter=",")
    folder = untrained(tmp_path / "run", stream(data))
    predictor = reminding.load(folder)
    values = rows_of(3, rows=9)
    assert np.array_equal(predictor.predict(pd.DataFrame(values)), predictor.predict(values))


def test_times_go_on(table: Path) -> None:
    predictor = reminding.load(table)
    hours = pd.date_range("2024-03-01 22:00", periods=40, freq="h", name="time")
    frame = pd.DataFrame(rows_of(3, rows=40), columns=["load", "price"], index=hours)
    found = predictor.predict(frame, steps=3)
    assert list(found.index) == list(pd.date_range("2024-03-03 14:00", periods=3, freq="h"))
    assert found.index.name == "time"
    irregular = frame.drop(hours[5])
    assert list(predictor.predict(irregular, steps=2).index) == list(found.index[:2])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pd.DataFrame({"load": [1.0]}), "data: there is no column 'price'; it has load"),
        (pd.DataFrame([[1.0, 2.0, 3.0]], columns=["load", "price", "load"]), "the column 'load' is there 2 times"),
        (pd.DataFrame({"load": ["1_0"], "price": [1.0]}), "the column 'load' is not numeric: it holds '1_0'"),
        (pd.DataFrame({"load": [1.0, 2.0], "price": [1.0, np.nan]}), "row 1 of the column 'price' is nan"),
        (np.zeros((5, 3)), r"data must be \(T, 2\), with the columns load, price, got \(5, 3\)"),
        (np.zeros((0, 2)), "data must have at least 1 row"),
        ("nowhere.csv", "data: nowhere.csv is not a file"),
    ],
)
def test_data_that_do_not_fit_are_refused(table: Path, data: Any, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        reminding.load(table).predict(data)


def test_known_inputs_of_the_future_are_asked_for_and_used(with_inputs: Path) -> None:
    predictor = reminding.load(with_inputs)
    assert (predictor.columns, predictor.targets, predictor.inputs) == (("a", "b", "c"), ("c", "a"), ("b",))
    rng = np.random.default_rng(0)
    past, future = rng.normal(MEAN, DEVIATION, (30, 3)), rng.normal(-3, 1, 4)
    with pytest.raises(ValueError, match="future: 4 steps need the inputs b of the next 3 rows"):
        predictor.predict(past, steps=4)
    with pytest.raises(ValueError, match="future must have at least 3 rows for 4 steps, got 2"):
        predictor.predict(past, steps=4, future=future[:2])
    found = predictor.predict(past, steps=4, future=pd.DataFrame({"b": future}))
    assert list(found.columns) == ["c", "a"]
    rows = past
    for step in range(4):
        with torch.no_grad():
            scaled = torch.as_tensor((rows - MEAN) / DEVIATION, dtype=torch.float32)[:, None]
            c, a = predictor.model(scaled)[0][-1, 0].double().numpy() * DEVIATION[[2, 0]] + MEAN[[2, 0]]
        np.testing.assert_allclose(found.to_numpy()[step], [c, a], rtol=1e-5)
        rows = np.concatenate([rows, [[a, future[step], c]]])
    assert predictor.predict(past).shape == (1, 2), "one step needs no future"


def test_a_stepper_gives_what_predict_gives(table: Path) -> None:
    predictor, values = reminding.load(table), rows_of(3, rows=25)
    stepper = predictor.stepper()
    for t, (load, price) in enumerate(values):
        row = {"price": price, "load": load} if t % 2 else (load, price)
        wanted = predictor.predict(values[: t + 1]).to_numpy()[0]
        told = stepper.step(row)
        np.testing.assert_allclose([told["load"], told["price"]], wanted, rtol=1e-4, atol=1e-4)
    assert stepper.steps == 25
    stepper.reset()
    wanted = predictor.predict(values[:1]).to_numpy()[0]
    np.testing.assert_allclose(list(stepper.step(values[0]).values()), wanted, rtol=1e-5)
    with pytest.raises(ValueError, match="value must have the columns load, price, and lacks 'price'"):
        stepper.step({"load": 1.0})


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return informed_run(tmp_path / "book", PTB())


def test_text_is_sampled_from_the_models_distribution(book: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictor = reminding.load(book)
    text = predictor.sample("the cat", 30, seed=1)
    assert len(text) == 30 and text == predictor.sample("the cat", 30, seed=1) != predictor.sample("the cat", 30)
    greedy, read = predictor.sample("the cat", 10, temperature=0), "the cat"
    symbols = PTB.symbols.decode()
    for character in greedy:
        tokens = torch.tensor([symbols.index(each) for each in read])[:, None]
        with torch.no_grad():
            assert symbols[int(predictor.model(tokens)[0][-1, 0].argmax())] == character
        read += character
    assert predictor.sample("the cat", 10, temperature=1e-320) == greedy
    main(["sample", str(book), "--prompt", "the cat", "--length", "10", "--temperature", "0"])
    assert capsys.readouterr().out.startswith("the cat" + greedy.split("\n")[0])
    with pytest.raises(ValueError, match="b'A' at character 0, expected one of the 50 symbols"):
        predictor.sample("A")
    with pytest.raises(ValueError, match="prompt must have at least one character"):
        predictor.sample("")


def test_what_a_run_cannot_do_is_refused(book: Path, table: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"predict is for tables, .* trained on ptb; sample continues a text"):
        reminding.load(book).predict(np.zeros(3))
    with pytest.raises(ValueError, match="sample is for text, and this run was trained on a table"):
        reminding.load(table).sample("a")
    copying = informed_run(tmp_path / "copying", Copying())
    with pytest.raises(ValueError, match=r"trained on copying$"):
        reminding.load(copying).predict(np.zeros(3))


def test_predict_writes_a_file_or_the_terminal(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = rows_of(3, rows=40)
    path = write_table(tmp_path / "new.csv", values)
    wanted = reminding.load(table).predict(values, steps=3)
    words = ["predict", str(table), "--input", str(path), "--steps", "3"]
    main(words)
    shown = capsys.readouterr().out
    rows = [list(map(float, line.split()[1:])) for line in shown.splitlines() if line[:4] in ("  40", "  41", "  42")]
    np.testing.assert_allclose(rows, wanted, atol=0.006 * values[-48:].std(0).max())
    main([*words, "--out", str(tmp_path / "out.csv")])
    np.testing.assert_allclose(pd.read_csv(tmp_path / "out.csv", index_col="row"), wanted, rtol=1e-5)
    main([*words, "--out", str(tmp_path / "out.parquet")])
    import duckdb

    found = duckdb.read_parquet(str(tmp_path / "out.parquet")).df()
    assert list(found.columns) == ["row", "load", "price"]
    np.testing.assert_allclose(found[["load", "price"]], wanted, rtol=1e-5)
    with pytest.raises(SystemExit, match=r"out must end in .csv or .parquet"):
        main([*words, "--out", str(tmp_path / "out.xlsx")])


def test_importing_the_package_loads_nothing_of_the_lab() -> None:
    script = "import sys, reminding; print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"reminding.lab", "reminding.tasks", "pandas", "huggingface_hub", "duckdb"} & set(shown)


def test_a_run_goes_to_the_hub_and_back(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, values = reminding.load(table), rows_of(3, rows=40)
    predictor.save_pretrained(tmp_path / "saved")
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"config.json", "facts.json", "model.safetensors", "README.md"}
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert saved["task"]["data"] == "trained.csv", "nothing of the machine it was trained on"
    for again in (Predictor.from_pretrained(tmp_path / "saved"), reminding.load(tmp_path / "saved")):
        assert np.array_equal(again.predict(values, steps=3), predictor.predict(values, steps=3))

    import huggingface_hub

    def download(repo_id: str, filename: str, revision: str | None = None, **_: Any) -> str:
        assert (repo_id, revision) == ("someone/load-forecast", "v1")
        return str(tmp_path / "saved" / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", download)
    fetched = Predictor.from_pretrained("someone/load-forecast", revision="v1")
    assert np.array_equal(fetched.predict(values), predictor.predict(values))

    sent: dict[str, Any] = {}

    class Api:
        """Stands for the Hub."""

        def __init__(self, **_: Any) -> None: ...

        def create_repo(self, repo_id: str, **_: Any) -> Any:
            return type("Repository", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id: str, folder_path: Any, **_: Any) -> str:
            sent[repo_id] = {path.name for path in Path(folder_path).iterdir()}
            return "sent"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    assert predictor.push_to_hub("someone/load-forecast") == "sent"
    assert set(hub.FILES) < sent["someone/load-forecast"]
