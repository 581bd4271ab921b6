"""Runs without their training data: everything but training goes on, on the scale and with the classes of training.

Shapes: T rows, C columns.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reminding.cli import main
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import ModelOptions, RunConfig, TrainOptions
from reminding.lab.runs.facts import FACTS_NAME
from reminding.lab.train import trainer
from reminding.tasks import FileStream, Series
from tests.lab.stream_runs import assert_same_run, small
from tests.lab.stream_runs import text as text

SCALED = 300
"""Rows that set the scale."""


def rows_of(seed: int, rows: int = 400, at: float = 50.0) -> NDArray[np.float64]:
    """(T, 2): a season of 12 rows, and a random walk."""
    rng, t = np.random.default_rng(seed), np.arange(rows)
    return np.stack([at + 9 * np.sin(t * np.pi / 6) + rng.normal(size=rows), rng.normal(size=rows).cumsum()], axis=1)


def write_table(path: Path, values: NDArray[np.float64], names: tuple[str, ...] = ("load", "price")) -> Path:
    lines = [",".join(names), *(",".join(map(repr, map(float, row))) for row in values)]
    path.write_text("\n".join(lines) + "\n")
    return path


def stream(path: Path) -> FileStream:
    return FileStream(path, chunk=20, held_out=40, eval_rows=2, window=SCALED)


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table that is no longer there."""
    folder = tmp_path_factory.mktemp("table")
    data = write_table(folder / "trained.csv", rows_of(0))
    trainer.train(small(stream(data)), folder / "run")
    data.unlink()
    return folder / "run"


def write_labelled(path: Path, seed: int, labels: str, each: int = 10) -> Path:
    rng = np.random.default_rng(seed)
    lines = [f"{label} " + " ".join(f"{v:.3f}" for v in rng.normal(ord(label) % 7, 1, 15)) for label in labels * each]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on labelled series that are no longer there."""
    folder = tmp_path_factory.mktemp("labelled")
    data = write_labelled(folder / "trained.txt", 0, "abbc")
    config = RunConfig(
        Series(data), ModelOptions(hidden_size=8), TrainOptions(steps=20, batch_size=5, eval_every=20, device="cpu")
    )
    trainer.train(config, folder / "run")
    data.unlink()
    return folder / "run"


def last_evaluation(run: Path) -> dict[str, Any]:
    return checkpoint.read_evaluations(run)[-1]


def test_facts_are_those_of_the_training_rows_alone(moved: Path) -> None:
    facts = json.loads((moved / FACTS_NAME).read_text())
    first = rows_of(0)[:SCALED]
    np.testing.assert_allclose(facts["facts"]["mean"], first.mean(0), rtol=1e-12)
    np.testing.assert_allclose(facts["facts"]["deviation"], first.std(0), rtol=1e-12)
    assert facts["facts"]["columns"] == facts["facts"]["targets"] == ["load", "price"]
    assert facts["facts"]["season"] == 12
    assert facts["facts"]["data"]["steps"] == {"train": [400]}
    read = facts["facts"]["data"]["reading"]
    assert read["files"] == [{"path": "trained.csv", "steps": 400}], "no place on this machine"
    assert read["settings"]["separator"] == "," and [column["name"] for column in read["columns"]] == [
        "load",
        "price",
    ]


def test_eval_scores_another_file_on_the_training_scale_with_columns_by_name(
    moved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = rows_of(1, rows=101, at=70.0)
    path = write_table(tmp_path / "new.csv", new[:, ::-1], ("price", "load"))
    main(["eval", str(moved), "--data", str(path)])
    assert "a season before" in capsys.readouterr().out
    record = last_evaluation(moved)
    config, model = checkpoint.load_run(moved)
    first = rows_of(0)[:SCALED]
    scaled = (new - first.mean(0)) / first.std(0)
    each = len(new) // config.task.eval_rows
    found: list[NDArray[np.float64]] = []
    baseline: list[NDArray[np.float64]] = []
    for row in range(config.task.eval_rows):
        part = torch.as_tensor(scaled[row * each : (row + 1) * each], dtype=torch.float32)[:, None]
        with torch.no_grad():
            prediction = model(part[:-1])[0][:, 0].double().numpy()
        found.append((prediction - scaled[row * each + 1 : (row + 1) * each]) * first.std(0))
        baseline.append(np.diff(new[row * each : (row + 1) * each], axis=0))
    for i, name in enumerate(("load", "price")):
        errors = record["errors"]["columns"][name]
        assert errors["model"]["rmse"] == pytest.approx(np.sqrt((np.concatenate(found)[:, i] ** 2).mean()), rel=1e-4)
        assert errors["unchanged"]["mae"] == pytest.approx(np.abs(np.concatenate(baseline)[:, i]).mean(), rel=1e-5)
    mse = (np.concatenate(found) / first.std(0)) ** 2
    assert record["mse"] == pytest.approx(mse.mean(), rel=1e-4)
    assert record["new_data"] is True


def test_eval_of_the_test_split_needs_the_data_and_says_so(moved: Path) -> None:
    with pytest.raises(SystemExit, match=r"eval: .*trained.csv is missing; .* --data FILE evaluates another file"):
        main(["eval", str(moved)])


def test_explain_and_report_draw_no_other_data_than_those_of_training(tmp_path: Path) -> None:
    data, run = write_table(tmp_path / "a.csv", rows_of(0)), tmp_path / "run"
    trainer.train(small(stream(data)), run)
    main(["explain", str(run)])
    write_table(data, rows_of(1))  # the next export, in the place of the last one
    with pytest.raises(
        SystemExit, match=r"explain: .*a.csv was (changed|cut): .* --input FILE explains another file"
    ):
        main(["explain", str(run)])
    main(["report", str(run)])
    assert re.search(r"could not be drawn: data: .*a.csv was (changed|cut)", (run / "report/report.md").read_text())
    data.unlink()
    with pytest.raises(SystemExit, match=r"explain: .*a.csv is missing; .* --input FILE explains another file"):
        main(["explain", str(run)])
    main(["explain", str(run), "--input", str(write_table(data, rows_of(1)))])


def test_occlude_blanks_the_series_of_training_alone(labelled: Path) -> None:
    data = labelled.parent / "trained.txt"
    write_labelled(data, 1, "abbc")
    with pytest.raises(SystemExit, match=r"occlude: .*trained.txt was (changed|cut)"):
        main(["explain", str(labelled), "--input", str(data), "--sequence", "0", "--occlude", "5"])
    data.unlink()


def test_eval_gives_the_classes_the_numbers_they_had_in_training(labelled: Path, tmp_path: Path) -> None:
    path = write_labelled(tmp_path / "new.txt", 1, "cb")
    main(["eval", str(labelled), "--data", str(path)])
    record = last_evaluation(labelled)
    config, model = checkpoint.load_run(labelled)
    assert config.task.classes == ("a", "b", "c")
    confusion = np.zeros((3, 3), int)
    for line in path.read_text().splitlines():
        label, *cells = line.split()
        series = config.task.form.prepared(np.array(cells, float))[:, None]
        with torch.no_grad():
            answer = int(model(torch.as_tensor(series))[0][-1, 0].argmax())
        confusion["abc".index(label), answer] += 1
    assert record["errors"]["confusion"] == confusion.tolist()
    assert record["accuracy"] == pytest.approx(np.trace(confusion) / 20)
    assert record["errors"]["majority"] == {"class": "b", "share": 0.5}
    path = write_labelled(tmp_path / "other.txt", 1, "dc")
    with pytest.raises(SystemExit, match="label 'd' is not one of the training data, a, b, c"):
        main(["eval", str(labelled), "--data", str(path)])


@pytest.mark.parametrize("option", ["--data", "--test"])
def test_eval_without_labels_says_which_verb_gives_them(labelled: Path, tmp_path: Path, option: str) -> None:
    path = write_labelled(tmp_path / "new.txt", 1, "?")
    message = f"{path}, line 1: the label, which is the first cell, is ?; training and eval need labels, and "
    with pytest.raises(SystemExit, match=re.escape(message + "`reminding predict RUN --input FILE` gives them")):
        main(["eval", str(labelled), option, str(path)])
    (tmp_path / "new.ts").write_text("@classLabel false\n@data\n1,2,3\n")
    with pytest.raises(SystemExit, match=r"the series has no label \(@classLabel false\); training and eval need"):
        main(["eval", str(labelled), option, str(tmp_path / "new.ts")])


def test_explain_and_report_need_no_training_data(moved: Path, tmp_path: Path) -> None:
    path = write_table(tmp_path / "new.csv", rows_of(2))
    main(["explain", str(moved), "--input", str(path), "--steps", "40"])
    assert (moved / "explain" / "index.html").is_file()
    main(["report", str(moved)])
    assert "Errors by column" in (moved / "report" / "report.md").read_text()


def grow_table(path: Path) -> None:
    with path.open("a") as file:
        file.write("".join(f"{a},{b}\n" for a, b in rows_of(5, 50, at=1e6)))


def test_a_resumed_run_keeps_the_split_and_the_scale_of_its_start(tmp_path: Path) -> None:
    whole, grown = (write_table(tmp_path / name, rows_of(0)) for name in ("whole.csv", "grown.csv"))
    trainer.train(small(stream(whole), 12), tmp_path / "whole")
    trainer.train(small(stream(grown), 6), tmp_path / "parts")
    grow_table(grown)
    away = grown.rename(tmp_path / "elsewhere.csv")
    trainer.train(small(stream(away), 12), tmp_path / "parts", resume=True)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_labelled_data_that_grew_are_resumed_with_the_series_of_the_start(tmp_path: Path) -> None:
    data = write_labelled(tmp_path / "data.txt", 0, "ab")
    config = RunConfig(
        Series(data), ModelOptions(hidden_size=4), TrainOptions(steps=2, batch_size=4, eval_every=2, device="cpu")
    )
    trainer.train(config, tmp_path / "run")
    before = {split: config.task.examples(split).values for split in ("train", "valid", "test")}
    with data.open("a") as file:
        file.write("c 1 2 3\n" * 5)
    informed = checkpoint.with_facts(config, tmp_path / "run", resume=True)
    for split, values in before.items():
        assert torch.equal(informed.task.examples(split).values, values)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def replace_first(path: Path) -> None:
    path.write_bytes(b"9" + path.read_bytes()[1:])


def grow_last_line(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"7\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, r"resume: .* was cut: it has 1,495 bytes, and had 1,500 when .*run was begun"),
        (replace_first, r"resume: .* was changed: its first 1,500 bytes are not those it had when .*run was begun"),
        (Path.unlink, r"resume: .* is missing; .*run was trained on it"),
    ],
)
def test_a_file_that_changed_otherwise_is_refused(
    text: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    trainer.train(small(FileStream(text, chunk=10), 3), tmp_path / "run")
    change(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        trainer.train(small(FileStream(text, chunk=10), 6), tmp_path / "run", resume=True)


def test_a_last_line_that_was_not_complete_must_not_be_continued(tmp_path: Path) -> None:
    path = write_table(tmp_path / "open.csv", rows_of(0))
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    trainer.train(small(stream(path), 3), tmp_path / "run")
    grow_last_line(path)
    with pytest.raises(ValueError, match="its last line, which had no line end, is longer than it was when"):
        trainer.train(small(stream(path), 6), tmp_path / "run", resume=True)


def test_a_run_of_version_0_1_is_read_with_its_data_and_refused_with_a_reason_without(tmp_path: Path) -> None:
    data = write_table(tmp_path / "old.csv", rows_of(0))
    trainer.train(small(stream(data), 3), tmp_path / "run")
    (tmp_path / "run" / FACTS_NAME).unlink()
    config, _ = checkpoint.load_run(tmp_path / "run")
    np.testing.assert_allclose(config.task.scale.mean, rows_of(0)[:SCALED].mean(0))
    trainer.train(small(stream(data), 6), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / FACTS_NAME).is_file(), "from now on it does without"
    (tmp_path / "run" / FACTS_NAME).unlink()
    data.unlink()
    with pytest.raises(ValueError, match=r"has no facts.json, .* cannot be read: data: .*old.csv is not a file"):
        checkpoint.load_run(tmp_path / "run")


def test_files_of_a_run_may_be_read_by_whom_the_umask_lets(tmp_path: Path, text: Path) -> None:
    before = os.umask(0o027)
    try:
        trainer.train(small(FileStream(text, chunk=10), 3), tmp_path / "run")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "run").iterdir() if path.is_file()}
    assert set(modes.values()) == {0o640}, modes
