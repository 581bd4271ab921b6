"""Tables as streams: split, scale, targets, missing values and several files, each recomputed by hand.

Shapes: n rows, C columns, I inputs, T time, B batch.
"""

from __future__ import annotations

import math
import re
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from reminding.tasks import Batch, FileStream, Series, mean_metrics
from reminding.tasks.data.tables import TableSource, Wanted, database


def table(rows: int, columns: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(rows, columns)).round(4)


def write(path: Path, values: NDArray[np.float64], head: str = "a,b,c") -> Path:
    lines = [",".join("" if np.isnan(x) else repr(float(x)) for x in row) for row in values]
    path.write_text("\n".join([",".join(head.split(",")[: values.shape[1]]), *lines]) + "\n")
    return path


def test_split_scale_and_no_change_are_those_of_the_training_rows(tmp_path: Path) -> None:
    values = table(1000, 3) * [3.0, 0.0, 1e-3] + [5.0, 7.0, 1e9]
    task = FileStream(write(tmp_path / "a.csv", values), chunk=50, held_out=0.1, eval_rows=1)
    train, test = values[:800], values[900:]
    mean, deviation = train.mean(0), train.std(0)
    deviation[1] = 1
    np.testing.assert_allclose(task.scale.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(task.scale.deviation, deviation, rtol=1e-6)
    scaled = ((test - mean) / deviation).astype(np.float32)
    batches = list(task.eval_batches("test", 1))
    found = torch.cat([batch.input for batch in batches])[:, 0]
    np.testing.assert_allclose(found[:, [0, 1]], scaled[:-1, [0, 1]], atol=1e-4)
    metrics = mean_metrics(task.metrics(batch.input, batch) for batch in batches)
    own = np.diff(test[:, :2] / deviation[:2], axis=0) ** 2
    third = np.diff(found[:, 2].numpy()) ** 2
    assert metrics["mse"] == metrics["mse_unchanged"]
    assert metrics["mse"] == pytest.approx((own.sum() + third.sum()) / (99 * 3), rel=0.05)


def test_small_changes_of_large_values_are_inputs_of_size_one(tmp_path: Path) -> None:
    signs = np.where(np.random.default_rng(0).random(500) < 0.5, -1.0, 1.0)
    task = FileStream(write(tmp_path / "a.csv", 1e9 + signs[:, None]), chunk=50)
    batch = next(task.train_batches(1, 0))
    mean, deviation = signs[:450].mean(), signs[:450].std()
    np.testing.assert_allclose(batch.input[:, 0, 0], (signs[:50] - mean) / deviation, atol=1e-6)


def test_a_constant_column_that_changes_counts_in_its_own_units(tmp_path: Path) -> None:
    values = np.concatenate([np.full((400, 1), 0.1), np.full((100, 1), 0.3)])
    task = FileStream(write(tmp_path / "a.csv", np.concatenate([values, table(500, 1)], axis=1)), held_out=0.1)
    assert task.scale.deviation[0] == 1
    assert any("a is constant in the training rows" in note for note in task.reading().notes)
    batch = next(task.eval_batches("test", 8))
    np.testing.assert_allclose(batch.input[..., 0], 0.2, atol=1e-6)


def test_a_column_that_drifts_after_the_first_rows_does_not_swamp_the_metric(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(12_000, 2))
    noise[:, 1] *= 0.001
    noise[6000:, 1] += np.arange(6000) * 0.1
    task = FileStream(write(tmp_path / "a.csv", noise), held_out=0.05)
    metrics = mean_metrics(task.metrics(torch.zeros_like(b.target), b) for b in task.eval_batches("valid", 8))
    assert metrics["mse"] < 10, "the scale is that of all training rows"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e154, 1.7e308])
def test_values_whose_deviation_is_beyond_float64_are_refused(tmp_path: Path, scale: float) -> None:
    values = np.where(np.arange(200)[:, None] % 7 == 3, [1.0, -scale], table(200, 2))
    path = write(tmp_path / "a.csv", values)
    with pytest.raises(ValueError, match=r"data: .*a\.csv, column 'b': the values are too large, their"):
        FileStream(path).learn()
    series = tmp_path / "series.tsv"
    series.write_text("".join(f"{i % 2}\t{scale}\t{-scale}\t{i}\n" for i in range(20)))
    with pytest.raises(ValueError, match="data: dimension 1: the values are too large, their squares"):
        Series(series).train_batches(2, 0)


def test_targets_are_predicted_and_the_others_are_known_inputs(tmp_path: Path) -> None:
    values = table(500, 3)
    task = FileStream(write(tmp_path / "a.csv", values), target=("c", "a"), chunk=40)
    assert (task.input_names, task.targets) == (("a", "b", "c"), ("a", "c"))
    assert (task.input_size, task.output_size) == (3, 2)
    batch = next(task.train_batches(2, 0))
    assert batch.input.shape == (40, 2, 3)
    assert torch.equal(batch.target[:-1], batch.input[1:][..., [0, 2]])
    unchanged = batch.input[..., [0, 2]]
    metrics = mean_metrics([task.metrics(unchanged, batch)])
    assert metrics["mse"] == metrics["mse_unchanged"] == pytest.approx(float(task.loss(unchanged, batch)), rel=1e-5)
    roles = {column.name: column.role for column in task.reading().columns}
    assert roles == {"a": "input and target", "b": "known input", "c": "input and target"}


@pytest.mark.parametrize("missing", ["carry", "zero"])
def test_missing_values_are_filled_marked_and_no_targets(tmp_path: Path, missing: Any) -> None:
    values = table(300, 2)
    values[[4, 5, 17, 290], 0] = np.nan
    path = write(tmp_path / "a.csv", values)
    with pytest.raises(ValueError, match=r"a\.csv, line 6, column 'a': the value is missing, one of 4"):
        FileStream(path).train_batches(1, 0)
    task = FileStream(path, missing=missing, chunk=30)
    assert task.input_names == ("a", "b", "a missing")
    batch = next(task.train_batches(1, 0))
    masks = np.isnan(values[:31, 0])
    np.testing.assert_array_equal(batch.input[:, 0, 2], masks[:30])
    np.testing.assert_array_equal(batch.target[:, 0, 0].isnan(), masks[1:])
    scale = task.scale
    np.testing.assert_allclose(scale.mean[:2], np.nanmean(values[:270], 0) if missing == "zero" else scale.mean[:2])
    filled = 0.0 if missing == "zero" else (values[3, 0] - scale.mean[0]) / scale.deviation[0]
    np.testing.assert_allclose(batch.input[4:6, 0, 0], filled, atol=1e-6)
    prediction = torch.zeros(30, 1, 2, requires_grad=True)
    loss = task.loss(prediction, batch)
    known = batch.target[~batch.target.isnan()]
    assert len(known) == 60 - 3
    assert float(loss.detach()) == pytest.approx(float((known**2).mean()), rel=1e-5)
    loss.backward()
    assert prediction.grad is not None
    assert bool(prediction.grad.isfinite().all())
    metrics = mean_metrics([task.metrics(prediction.detach(), batch)])
    assert math.isfinite(metrics["mse"])
    scaled = (values[:31] - scale.mean[:2]) / scale.deviation[:2]
    present = scaled[:30].copy()
    present[[4, 5, 17], 0] = present[[3, 3, 16], 0]  # no change repeats the last known value
    assert metrics["mse_unchanged"] == pytest.approx(np.nanmean((present - scaled[1:]) ** 2), rel=1e-5)


def test_a_chunk_without_a_known_target_has_no_loss(tmp_path: Path) -> None:
    values = table(300, 1)
    values[10:30] = np.nan
    task = FileStream(write(tmp_path / "a.csv", values), missing="carry", chunk=10)
    batch = list(islice(task.train_batches(1, 0), 2))[1]
    loss = task.loss(torch.zeros(10, 1, 1, requires_grad=True), batch)
    assert (float(loss.detach()), loss.requires_grad) == (0, False)


def numbered(path: Path, begin: int, rows: int) -> Path:
    return write(path, np.stack([np.arange(begin, begin + rows), np.zeros(rows)], axis=1).astype(np.float64))


def seen(task: FileStream, batches: list[Batch]) -> list[tuple[int, int]]:
    """Pairs of a step and the step that is its target, in the file's own numbers."""
    found: list[tuple[int, int]] = []
    for batch in batches:
        known = ~batch.target[..., 0].isnan()
        pair = [each[..., 0] * task.scale.deviation[0] + task.scale.mean[0] for each in (batch.input, batch.target)]
        found += [(round(float(a)), round(float(b))) for a, b in zip(pair[0][known], pair[1][known], strict=True)]
    return found


def test_each_of_several_files_is_a_stream_of_its_own(tmp_path: Path) -> None:
    for name, begin, rows in (("a", 0, 100), ("b", 1000, 37), ("c", 5000, 250)):
        numbered(tmp_path / f"{name}.csv", begin, rows)
    task = FileStream(tmp_path / "*.csv", chunk=16, held_out=0.2, eval_rows=3)
    pairs = seen(task, list(islice(task.train_batches(3, 0), 12)))
    assert all(b == a + 1 for a, b in pairs), "no target is of another file"
    assert {a // 1000 for a, _ in pairs} == {0, 1, 5}
    trained = {0: 60, 1: 23, 5: 150}
    assert all(a % 1000 < trained[a // 1000] for a, _ in pairs)
    tested = seen(task, list(task.eval_batches("test", 2)))
    assert len(set(tested)) == len(tested), "no step is counted twice"
    assert sorted(a for a, _ in tested) == [
        *range(80, 99),
        *range(1030, 1036),
        *range(5200, 5224),
        *range(5225, 5249),
    ]
    assert [file.steps for file in task.reading().files] == [100, 37, 250]
    assert sorted(seen(task, list(task.eval_batches("test", 3)))) == sorted(tested)


def test_rows_begin_anew_with_each_file(tmp_path: Path) -> None:
    for name, begin in (("a", 0), ("b", 1000)):
        numbered(tmp_path / f"{name}.csv", begin, 50)
    task = FileStream(tmp_path / "*.csv", chunk=100, held_out=5, eval_rows=1)
    batches = list(islice(task.train_batches(1, 0), 4))
    assert [bool(batch.reset.all()) for batch in batches if batch.reset is not None] == [True] * 4
    assert [min(a for a, _ in seen(task, [batch])) for batch in batches] == [0, 1000, 0, 1000]
    again = next(task.train_batches(1, 0, 3))
    assert torch.equal(again.input, batches[3].input)


def test_validation_and_test_files_of_ones_own(tmp_path: Path) -> None:
    data = numbered(tmp_path / "a.csv", 0, 100)
    valid, test = numbered(tmp_path / "v.csv", 1000, 20), numbered(tmp_path / "t.csv", 2000, 20)
    task = FileStream(data, valid=valid, test=test, eval_rows=1)
    assert sorted(seen(task, list(task.eval_batches("valid", 1)))) == [(i, i + 1) for i in range(1000, 1019)]
    assert sorted(seen(task, list(task.eval_batches("test", 1)))) == [(i, i + 1) for i in range(2000, 2019)]
    assert sorted(seen(task, list(islice(task.train_batches(1, 0), 1)))) == [(i, i + 1) for i in range(99)]
    assert task.scale.mean[0] == pytest.approx(49.5), "of the training rows only"
    half = FileStream(data, test=test, held_out=0.2, eval_rows=1)
    assert sorted(seen(half, list(half.eval_batches("valid", 1)))) == [(i, i + 1) for i in range(80, 99)]


def test_a_mask_of_one_file_is_a_mask_of_all(tmp_path: Path) -> None:
    values = table(60, 2)
    write(tmp_path / "a.csv", values)
    values[7, 1] = np.nan
    write(tmp_path / "b.csv", values)
    task = FileStream(tmp_path / "*.csv", missing="carry", eval_rows=1, held_out=5)
    assert task.input_names == ("a", "b", "b missing")
    assert next(task.train_batches(2, 0)).input.shape[2] == 3


def test_what_is_wrong_with_a_file_is_said_before_training(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", table(60, 2))
    with pytest.raises(
        ValueError,
        match=r"the valid part .* 3 rows, too few for 8 parallel streams .* --eval-rows, or a larger --held-out",
    ):
        FileStream(path).reading()
    text = path.read_text().splitlines()
    text[58] = "oops,1"
    path.write_text("\n".join(text))
    with pytest.raises(ValueError, match=r"a\.csv, line 59, column 'a': 'oops' is not a number"):
        FileStream(path).train_batches(1, 0)
    with pytest.raises(FileNotFoundError, match=r"no file matches .*\*\.parquet"):
        FileStream(tmp_path / "*.parquet").learn()
    with pytest.raises(FileNotFoundError, match="is a folder, not a file; name its files by a pattern"):
        FileStream(tmp_path).learn()
    with pytest.raises(ValueError, match="missing must be one of"):
        FileStream(path, missing="guess")  # pyright: ignore[reportArgumentType]


def test_tables_and_texts_are_told_apart_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join("  ".join(map(str, row)) for row in table(60, 2).tolist()))
    (tmp_path / "b.txt").write_text("It was the best of times,\nit was the worst of times,\n" * 10)
    numbers, prose = FileStream(tmp_path / "a.txt", eval_rows=1), FileStream(tmp_path / "b.txt")
    assert (numbers.unit, prose.unit) == ("row", "byte")
    assert "taken as a table by its content; --format bytes" in numbers.reading().notes[0]
    assert "taken as bytes by its content; --format csv" in prose.reading().notes[0]
    (tmp_path / "c.log.gz").write_bytes(b"\x1f\x8b" + bytes(90))
    with pytest.raises(ValueError, match="is packed and holds no table by its name; unpack it"):
        FileStream(tmp_path / "c.log.gz").train_batches(1, 0)


def test_a_followed_table_has_the_same_scale_when_it_is_gone_on_with(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", table(300, 2))
    first = next(FileStream(path, follow=True, held_out=50, chunk=20).train_batches(1, 0))
    write(path, np.concatenate([table(300, 2), 100 + table(500, 2, seed=1)]))
    again = next(FileStream(path, follow=True, held_out=50, chunk=20).train_batches(1, 0))
    assert torch.equal(first.input, again.input)


@pytest.mark.parametrize("name", ["a.xlsx", "a.XLS", "a.ods", "a.feather", "a.npy", "a.jsonl", "a.arff"])
def test_a_table_in_a_form_that_is_not_read_is_not_taken_for_bytes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04" + bytes(range(256)) * 9)
    with pytest.raises(ValueError, match=r"is a table in a form that is not read; save it as CSV or Parquet"):
        FileStream(tmp_path / name).train_batches(1, 0)
    assert FileStream(tmp_path / name, format="bytes").unit == "byte"


@pytest.mark.parametrize("name", ["a.zip", "a.csv.ZIP", "a.tar", "a.csv.zst"])
def test_an_archive_is_not_taken_for_bytes(tmp_path: Path, name: str) -> None:
    path, trained = tmp_path / name, FileStream(write(tmp_path / "a.csv", table(300, 2)))
    path.write_bytes(b"PK\x03\x04" + bytes(range(256)) * 9)
    with pytest.raises(ValueError, match=r"is packed in a form that is not unpacked; unpack it, or pack it as .gz, "):
        FileStream(path).train_batches(1, 0)
    assert FileStream(path, format="bytes").unit == "byte"
    with pytest.raises(ValueError, match=r"that is not unpacked; unpack it, or pack it as .gz, .bz2, .xz$"):
        trained.with_facts(trained.facts()).open(path)


@pytest.mark.parametrize("columns", [(), ("a", "valve")])
@pytest.mark.parametrize("dead", [0, 1, 2])
def test_a_sensor_that_is_dead_in_one_file_is_missing_there(tmp_path: Path, columns: Any, dead: int) -> None:
    for i in range(3):
        values = np.full((40, 2), i + 1.0)
        values[:, 1] = np.nan if i == dead else values[:, 1]
        write(tmp_path / f"{i}.csv", values, "a,valve")
    options: dict[str, Any] = {"columns": columns, "missing": "zero", "held_out": 4, "chunk": 5}
    task = FileStream(tmp_path / "*.csv", **options)
    assert (task.column_names, task.masks) == (("a", "valve"), ("valve",))
    for i, steps in enumerate(task.opened.ranges()):
        expected = [i + 1, np.nan if i == dead else i + 1, i == dead]
        np.testing.assert_array_equal(task.opened.read(steps.start, steps.stop), [expected] * 40)
    if columns:
        with pytest.raises(ValueError, match="column 'valve' has no values, expected numbers; leave it out"):
            _ = FileStream(tmp_path / f"{dead}.csv", **options).column_names
        for i in range(3):
            write(tmp_path / f"{i}.csv", np.full((40, 2), [1, np.nan]), "a,valve")
        with pytest.raises(ValueError, match="column 'valve' has no values, as in the other files; leave it out of"):
            _ = FileStream(tmp_path / "*.csv", **options).column_names


def test_a_column_of_a_run_may_have_no_value_yet_in_another_file(tmp_path: Path) -> None:
    values = table(100, 2)
    values[3, 1] = np.nan
    options: dict[str, Any] = {"missing": "carry", "held_out": 4, "chunk": 5}
    task = FileStream(write(tmp_path / "a.csv", values), **options)
    run = FileStream(tmp_path / "a.csv", **options).with_facts(task.facts())
    (tmp_path / "b.csv").write_text("a,b\n1,\n2,\n")
    pd.DataFrame({"b": [None, None], "a": [1.0, 2.0]}).to_parquet(tmp_path / "b.parquet")
    for name in ("b.csv", "b.parquet"):
        found = run.open(tmp_path / name)
        np.testing.assert_array_equal(found.read(0, 2), [[1, np.nan, 1], [2, np.nan, 1]])
        np.testing.assert_allclose(run.prepared(found.read(0, 2))[:, 1:], [[0, 1], [0, 1]])


def test_blanks_around_a_name_do_not_lose_its_mask(tmp_path: Path) -> None:
    values = table(100, 2)
    values[3, 1] = np.nan
    options: dict[str, Any] = {"missing": "carry", "held_out": 4, "chunk": 5}
    write(tmp_path / "a.csv", values)
    pd.DataFrame(values, columns=["a ", " b"]).to_parquet(tmp_path / "a.parquet")
    first, second = (FileStream(tmp_path / name, **options) for name in ("a.csv", "a.parquet"))
    for facts in (first.facts(), second.facts(), {**first.facts(), "columns": ["a", " b"], "masks": [" b"]}):
        run = FileStream(tmp_path / "a.csv", **options).with_facts(facts)
        found = run.open(tmp_path / "a.parquet")
        np.testing.assert_array_equal(found.read(2, 4)[:, 2], [0, 1])
        assert found.reading().notes == ()


def test_the_decimal_mark_of_a_run_reads_what_could_be_either(tmp_path: Path) -> None:
    options: dict[str, Any] = {"held_out": 4, "chunk": 5}
    path, new = tmp_path / "a.csv", tmp_path / "b.csv"
    for text, separator, expected in (("22,9", ";", 22.903), ("1.234,5", ";", 22.903), ("2,146.5", ";", 22903)):
        path.write_text(f"a{separator}b\n" + f"{text}{separator}1\n" * 100)
        facts = FileStream(path, **options).facts()
        run = FileStream(path, **options).with_facts(facts)
        new.write_text(f"a{separator}b\n22,903{separator}1\n")
        assert run.open(new).read(0, 1).tolist() == [[expected, 1]]
        new.write_text('a,b\n"22,903",1\n')
        assert run.open(new).read(0, 1).tolist() == [[expected, 1]]
        new.write_text("a,b\n22.903,1\n")
        assert run.open(new).read(0, 1).tolist() == [[22.903, 1]]
        if expected < 100:  # a run that did not keep the mark by itself
            old = {name: value for name, value in facts.items() if name != "decimal"}
            new.write_text("a;b\n22,903;1\n")
            assert run.with_facts(old).open(new).read(0, 1).tolist() == [[expected, 1]]


def test_advice_for_a_run_names_no_option_that_it_does_not_have(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", table(100, 2))
    task = FileStream(tmp_path / "a.csv", held_out=4, chunk=5)
    run = task.with_facts(task.facts())
    for text, message in (
        ("a;b\n22,903;1\n", "nothing tells which, here or in the training data; write it as 22903 or 22.903"),
        ("a,b\n1,2\n,3\n", "the run was trained on rows without missing values, and needs this one; write it"),
        ("a,b\n1,2\nx,3\n", "'x' is not a number; write a number"),
        (
            "a,b\n1,\n2,\n",
            "column 'b' has no values, expected numbers; a run with --missing carry or zero would fill",
        ),
    ):
        (tmp_path / "b.csv").write_text(text)
        with pytest.raises(ValueError, match=re.escape(message)):
            run.open(tmp_path / "b.csv")
    (tmp_path / "b.csv").write_text("a,b\n1,2\nx,3\n")
    filled = FileStream(tmp_path / "a.csv", held_out=4, chunk=5, missing="zero")
    with pytest.raises(ValueError, match=r"write a number, or leave the cell empty if the value is missing$"):
        filled.with_facts(filled.facts()).open(tmp_path / "b.csv")


@pytest.mark.parametrize("appended", ["5,\n", "5", "5,6\n7", "x,y\n", '"\n', "5,6,7\n# c\n"])
@pytest.mark.parametrize("separator", [",", " "])
def test_rows_that_were_appended_to_a_run_s_file_are_not_read(tmp_path: Path, appended: str, separator: str) -> None:
    values = table(120, 2)
    options: dict[str, Any] = {"held_out": 20, "chunk": 5}
    for name in ("a.csv", "b.csv"):
        write(tmp_path / name, values)
        (tmp_path / name).write_text((tmp_path / name).read_text().replace(",", separator))
    for data in ("a.csv", "*.csv"):
        begun = FileStream(tmp_path / data, **options)
        facts, text = begun.facts(), (tmp_path / "a.csv").read_text()
        with (tmp_path / "a.csv").open("a") as file:
            file.write(appended.replace(",", separator))
        run = FileStream(tmp_path / data, **options).with_facts(facts)
        assert [len(steps) for steps in run.opened.ranges()] == [120] * (1 if data == "a.csv" else 2)
        np.testing.assert_array_equal(run.opened.read(0, 120), values)
        for split in ("valid", "test"):
            for first, second in zip(begun.eval_batches(split, 1), run.eval_batches(split, 1), strict=True):
                torch.testing.assert_close(first.input, second.input)
        (tmp_path / "a.csv").write_text(text)


def test_the_rows_of_a_run_are_counted_with_their_line_ends_and_in_wide_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    path.write_text('# c\na,b,t\n1,2,"x\ny"\n3,4,z\n# c\n5,6,"v\nw"\n7,8')
    wanted = Wanted(columns=("a", "b"), rows=3)
    assert TableSource(path, wanted).read(0, 9).tolist() == [[1, 2], [3, 4], [5, 6]]
    path.write_text("a,b\n1,2\n3,4\n5")
    monkeypatch.setattr(database, "WIDE", 0)
    assert TableSource(path, Wanted(rows=2)).read(0, 9).tolist() == [[1, 2], [3, 4]]
