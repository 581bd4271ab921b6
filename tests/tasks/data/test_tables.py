"""Tables as streams: reading may begin at any row, and the message names every line that cannot be read.

Shapes: n steps, C columns.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reminding.tasks import FileStream, mean_metrics
from reminding.tasks.data import tables
from reminding.tasks.data.tables import CsvSource, ParquetSource


def table(rows: int, columns: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(rows, columns)).round(4)


def write_csv(path: Path, values: NDArray[np.float64], head: str | None = "date,a,b", end: str = "\n") -> Path:
    """A table (n, C); with a header, a column of dates comes first."""
    lines = [
        ",".join([*([f"2020-01-{i % 28 + 1:02}"] if head else []), *map(str, row)]) for i, row in enumerate(values)
    ]
    path.write_text("\n".join([*([head] if head else []), *lines]) + end)
    return path


@settings(max_examples=60)
@given(
    rows=st.integers(1, 60),
    stride=st.integers(1, 9),
    block=st.integers(60, 200),
    head=st.sampled_from(["date,a,b", None]),
    end=st.sampled_from(["\n", ""]),
    data=st.data(),
)
def test_rows_are_found_wherever_the_reading_begins(
    rows: int,
    stride: int,
    block: int,
    head: str | None,
    end: str,
    data: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    values = table(rows, 2)
    path = write_csv(tmp_path_factory.mktemp("data") / "a.csv", values, head, end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "STRIDE", stride)
        patch.setattr(tables, "BLOCK", block)
        source = CsvSource(path)
        assert source.steps() == rows
        assert source.columns == (["a", "b"] if head else ["0", "1"])
        start = data.draw(st.integers(0, rows - 1))
        stop = data.draw(st.integers(start, rows))
        np.testing.assert_array_equal(source.read(start, stop), values[start:stop])


def test_a_growing_table_counts_finished_lines(tmp_path: Path) -> None:
    values = table(400, 2)
    path = write_csv(tmp_path / "a.csv", values)
    whole = path.read_bytes()
    found: list[int] = []
    path.write_bytes(whole[:100])
    source = CsvSource(path, growing=True)
    for size in range(100, len(whole) + 1, 37):
        path.write_bytes(whole[:size])
        found.append(source.steps())
        assert found[-1] == whole[:size].count(b"\n") - 1
        np.testing.assert_array_equal(source.read(0, found[-1]), values[: found[-1]])
    assert found[-1] > 380


def test_columns_are_chosen_by_name_and_separators_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('\ufeff"x, really";y;name\n1;2.5;"a;b"\n3;-4e1;c\n')
    assert CsvSource(path).columns == ["x, really", "y"]
    np.testing.assert_array_equal(CsvSource(path, ["y"]).read(0, 2), [[2.5], [-40]])
    with pytest.raises(ValueError, match=r"columns: .* has no 'z'; it has x, really, y, name"):
        CsvSource(path, ["z"])
    with pytest.raises(ValueError, match="line 2, column 'name': 'a;b' is not a number"):
        CsvSource(path, ["name"]).read(0, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n3,\n", "line 3, column 'b': '' is not a number"),
        ("a,b\n1,2\n3\n", "line 3, column 'b': nothing is not a number"),
        ('a,b\n1,2\n3,"4\n5,6\n', "has 2 rows in the 3 lines from line 2 on"),
        ("", "has no column of numbers"),
        ("only,words\nand,more\n", "has no column of numbers"),
    ],
)
def test_tables_that_cannot_be_read_say_where(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        (source := CsvSource(path)).read(0, source.steps())


def test_columns_are_scaled_by_their_first_rows_and_compared_with_no_change(tmp_path: Path) -> None:
    values = table(1000, 2) * [3.0, 0.0] + [5.0, 7.0]
    task = FileStream(write_csv(tmp_path / "a.csv", values), window=100, chunk=50)
    batch = next(task.train_batches(1, 0))
    assert (task.vocabulary, task.input_size, task.output_size, task.metric) == (None, 2, 2, "mse")
    first = values[:100, 0]
    wanted = torch.as_tensor((values[:51, 0] - first.mean()) / first.std()).float()
    torch.testing.assert_close(batch.input[:, 0, 0], wanted[:-1])
    torch.testing.assert_close(batch.target[:, 0, 0], wanted[1:])
    assert not batch.input[..., 1].any(), "a constant column is 0"
    metrics = mean_metrics([task.metrics(batch.input, batch)])
    assert metrics["mse"] == metrics["mse_unchanged"] == pytest.approx(float(task.loss(batch.input, batch)))


def test_a_followed_table_has_the_same_scale_when_it_is_gone_on_with(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", table(300, 2))
    first = next(FileStream(path, follow=True, held_out=50, chunk=20).train_batches(1, 0))
    write_csv(path, np.concatenate([table(300, 2), 100 + table(500, 2, seed=1)]))
    again = next(FileStream(path, follow=True, held_out=50, chunk=20).train_batches(1, 0))
    assert torch.equal(first.input, again.input)


def test_parquet_rows_are_found_across_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(tables, "GROUPS_KEPT", 2)
    values = table(100, 2)
    path = tmp_path / "a.parquet"
    content = {"name": ["x"] * 100, "a": values[:, 0], "n": np.arange(100), "b": values[:, 1].astype(np.float32)}
    parquet.write_table(arrow.table(content), path, row_group_size=13)
    source = ParquetSource(path)
    assert source.columns == ["a", "n", "b"]
    assert source.steps() == 100
    wanted = np.stack([values[:, 0], np.arange(100), values[:, 1].astype(np.float32)], axis=1)
    for start, stop in [(0, 1), (0, 13), (12, 14), (13, 26), (40, 90), (99, 100), (0, 100)]:
        np.testing.assert_array_equal(source.read(start, stop), wanted[start:stop])
    assert next(FileStream(path, columns=("b",)).train_batches(2, 0)).input.shape[1:] == (2, 1)
    with pytest.raises(ValueError, match=r"columns: .* has no 'z'; it has name, a, n, b"):
        ParquetSource(path, ["z"])


def test_parquet_that_cannot_be_read_says_where(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"a": [1.0, 2.0, None, 4.0]}), path, row_group_size=2)
    with pytest.raises(ValueError, match="row 2, column 'a': the value is missing"):
        ParquetSource(path).read(0, 4)
    path.write_bytes(b"not it")
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        ParquetSource(path)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    path = tmp_path / "a.parquet"
    path.write_bytes(b"")
    with pytest.raises(ImportError, match=r"pip install \"reminding\[parquet\]\""):
        ParquetSource(path)
    with pytest.raises(ValueError, match="follow: a Parquet file can only be read when it is complete"):
        ParquetSource(path, growing=True)
