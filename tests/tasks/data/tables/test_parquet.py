"""Parquet files: types, indices and damage."""

from __future__ import annotations

import importlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reminding.tasks.data.tables import Asked, TableSource, Wanted, parquet
from reminding.tasks.data.tables.database import connect, write_parquet
from tests.reliability.memory import measured


def write(path: Path, query: str, options: str = "") -> Path:
    connect().execute(f"COPY ({query}) TO '{path}' (FORMAT parquet{options})")
    return path


def test_types_are_numbers_or_ignored_with_a_reason(tmp_path: Path) -> None:
    query = """SELECT i::INTEGER AS n, i / 2.0 AS x, (i / 4)::DECIMAL(9, 2) AS d, i % 2 = 0 AS b,
        i::VARCHAR || 'x' AS t,
        [i] AS l, {'a': i} AS s, TIMESTAMP '2020-01-01' + to_days(i::INTEGER) AS w FROM range(4) AS r(i)"""
    source = TableSource(write(tmp_path / "a.parquet", query), Wanted(time="w"))
    assert source.columns == ("n", "x", "d", "b")
    np.testing.assert_array_equal(source.read(1, 4), [[1, 0.5, 0.25, 0], [2, 1, 0.5, 1], [3, 1.5, 0.75, 0]])
    reasons = {column.name: column.reason for column in source.described if column.role == "ignored"}
    assert reasons == {
        "t": "text, such as '0x' in row 1",
        "l": "of type BIGINT[]",
        "s": "of type STRUCT(a BIGINT)",
    }
    assert source.reading().times[0].step == "1 d"
    with pytest.raises(ValueError, match=r"column 'l' is of type BIGINT.*, expected numbers; write its parts"):
        TableSource(tmp_path / "a.parquet", Wanted(columns=("l",)))


def test_nulls_and_sentinels_are_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", "SELECT * FROM (VALUES (1.0), (NULL), (-999.0), (4.0)) AS t(a)")
    with pytest.raises(ValueError, match="row 2, column 'a': the value is missing"):
        TableSource(path)
    source = TableSource(path, Wanted(missing="carry", asked=Asked(na=("-999",))))
    assert source.read(0, 4).tolist() == [[1, 0], [1, 1], [1, 1], [4, 0]]


def test_the_last_nulls_of_the_only_column_are_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", "SELECT * FROM (VALUES (1.0), (2.0), (NULL), (NULL)) AS t(a)")
    with pytest.raises(ValueError, match="row 3, column 'a': the value is missing, one of 2"):
        TableSource(path)
    assert TableSource(path, Wanted(missing="carry")).read(0, 9).tolist() == [[1, 0], [2, 0], [2, 1], [2, 1]]


def test_every_nan_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pd.DataFrame({"a": [1.0, np.copysign(np.nan, -1), np.nan, 4.0]}).to_parquet(path)
    with pytest.raises(ValueError, match="row 2, column 'a': the value is missing, one of 2"):
        TableSource(path)
    assert TableSource(path, Wanted(missing="carry")).read(0, 4).tolist() == [[1, 0], [1, 1], [1, 1], [4, 0]]


def test_the_index_of_pandas_is_no_input(tmp_path: Path) -> None:
    kept = json.dumps({"index_columns": ["when", "__index_level_1__"]}).replace('"', '""')
    query = 'SELECT i AS a, i AS "when", i AS __index_level_1__ FROM range(3) AS r(i)'
    path = write(tmp_path / "a.parquet", query, ", KV_METADATA {pandas: '" + kept.replace('""', '"') + "'}")
    source = TableSource(path)
    assert source.columns == ("a",)
    assert TableSource(path, Wanted(columns=("when",))).columns == ("when",)


def test_values_outside_the_statistics_are_damage(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet", "SELECT i::DOUBLE AS a FROM range(1000) AS r(i)", ", COMPRESSION uncompressed"
    )
    raw = bytearray(path.read_bytes())
    place = bytes(raw).find(struct.pack("<dd", 500.0, 501.0))
    assert place > 0
    raw[place : place + 8] = struct.pack("<d", 1e9)
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"is damaged: column 'a' holds values from 0 to 1e\+09"):
        TableSource(path)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_statistics_have_the_precision_of_their_column(tmp_path: Path, dtype: str) -> None:
    values = (np.arange(600) % 251 / 10 + 0.1).astype(dtype)
    path = tmp_path / "a.parquet"
    pd.DataFrame({"x": values, "y": -values}).to_parquet(path)
    expected = np.stack([values, -values], axis=1).astype(np.float64)
    np.testing.assert_array_equal(TableSource(path).read(0, 600), expected)


def test_a_float32_outside_the_statistics_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write(path, "SELECT (i / 10)::FLOAT AS a FROM range(1000) AS r(i)", ", COMPRESSION uncompressed")
    raw = bytearray(path.read_bytes())
    place = bytes(raw).find(struct.pack("<ff", 50.0, np.float32(50.1)))
    raw[place : place + 4] = np.nextafter(np.float32(99.9), np.float32(100)).tobytes()
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="is damaged: column 'a'"):
        TableSource(path)


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def signed(value: int) -> bytes:
    return varint((value << 1) ^ (value >> 63))


@pytest.mark.parametrize("flip", [False, True])
def test_pages_are_compared_with_their_checksums(tmp_path: Path, flip: bool) -> None:
    """A page header in Thrift's compact protocol, with the fields that Parquet gives them, and its page."""
    page = b"some values"
    checksum = zlib.crc32(page) - (1 << 32 if zlib.crc32(page) >= 1 << 31 else 0)

    inner = b"\x15" + signed(5) + b"\x15" + signed(0) + b"\x15" + signed(3) + b"\x15" + signed(3)
    inner += b"\x1c" + b"\x18" + varint(3) + b"abc" + b"\x00" + b"\x00"
    header = (
        b"\x15" + signed(0) + b"\x15" + signed(len(page)) + b"\x15" + signed(len(page)) + b"\x15" + signed(checksum)
    )
    header += b"\x1c" + inner + b"\x00"
    content = header + (page[:-1] + b"?" if flip else page)
    path = tmp_path / "pages"
    path.write_bytes(b"PAR1" + content + content)
    with path.open("rb") as file:
        check = parquet._check_pages  # pyright: ignore[reportPrivateUsage]
        if not flip:
            check(file, path, "a", 4, 2 * len(content))
            return
        with pytest.raises(ValueError, match="the page of column 'a' at byte 4 does not have its checksum"):
            check(file, path, "a", 4, 2 * len(content))


@pytest.mark.parametrize(
    "header",
    [
        b"\x35" + signed(1 << 40) + b"\x00",  # a page of a terabyte
        b"\x35" + signed(-5) + b"\x00",  # a page before its own header
        b"\x19\xf3" + varint(1 << 60),  # a list of bytes without end
        b"\x19\xf1" + varint(1 << 60),  # and one of truth values, which take no bytes
        b"\x1c" * 60_000,  # structures in structures
    ],
)
def test_a_damaged_page_header_asks_for_neither_memory_nor_time(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "pages"
    path.write_bytes(b"PAR1" + header + bytes(100))

    def check() -> None:
        with path.open("rb") as file:
            parquet._check_pages(file, path, "a", 4, len(header) + 100)  # pyright: ignore[reportPrivateUsage]

    _, error, memory = measured(check)
    assert isinstance(error, ValueError)
    assert "is damaged" in str(error)
    assert memory.traced < 1 << 20


def test_what_is_no_parquet_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"not it")
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read"):
        TableSource(path)


def test_names_of_columns_are_those_of_the_file(tmp_path: Path) -> None:
    """DuckDB calls the second of T and t by another name."""
    path = tmp_path / "a.parquet"
    pa: Any = importlib.import_module("pyarrow")
    names = ["T", "parts", "t", "t_1", " v ", "list", "T"]
    numbers = [pa.array(np.arange(3) + 10.0 * i) for i in range(5)]
    parts, lists = pa.array([{"a": 1.0, "b": 2.0}] * 3), pa.array([[1.0], [], [2.0, 3.0]])
    importlib.import_module("pyarrow.parquet").write_table(
        pa.table([numbers[0], parts, *numbers[1:4], lists, numbers[4]], names=names), path
    )
    source = TableSource(path)
    assert source.columns == ("T", "t", "t_1", "v", "T.1")
    assert source.read(1, 2).tolist() == [[1, 11, 21, 31, 41]]
    assert source.reading().notes == ("several columns are called 'T'; column 7 is called 'T.1' here",)
    assert TableSource(path, Wanted(columns=("t", " v "))).read(0, 1).tolist() == [[10, 30]]


def test_names_that_duckdb_would_change_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for names, wrong in ((["T", "x", "t"], "'t' beside 'T' can"), (["a", "A "], ""), (["a", ""], "'' can")):
        frame = pd.DataFrame([[1.0] * len(names)], columns=names)
        if not wrong:
            write_parquet(frame, path)
            (found,) = connect().execute(f"SELECT list(name) FROM parquet_schema('{path}')").fetchone()
            assert found[1:] == names
            path.unlink()
            continue
        with pytest.raises(ValueError, match=f"out: no Parquet file with the column {wrong}"):
            write_parquet(frame, path)
        assert not path.exists()


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_durations_of_pandas_are_seconds(tmp_path: Path, unit: str) -> None:
    """The file holds whole numbers, whose unit stands in a note of pandas alone."""
    path, seconds = tmp_path / "a.parquet", np.arange(5) * 60 + 2**20
    elapsed = seconds.astype("timedelta64[s]").astype(f"timedelta64[{unit}]")
    pd.DataFrame({"t": elapsed, "a": seconds % 7}).to_parquet(path)
    times = TableSource(path, Wanted(time="t")).reading().times
    assert [(each.first, each.last, each.step) for each in times] == [("1048576", "1048816", "60")]
    assert TableSource(path).columns == ("a",)
    with pytest.raises(ValueError, match=r"column 't' is of type INTERVAL"):
        TableSource(path, Wanted(columns=("t",)))


def by_polars(columns: dict[str, Any], path: Path) -> None:
    importlib.import_module("polars").DataFrame(columns).write_parquet(path)


def by_arrow(columns: dict[str, Any], path: Path) -> None:
    importlib.import_module("pyarrow.parquet").write_table(importlib.import_module("pyarrow").table(columns), path)


def by_pandas_of_arrow(columns: dict[str, Any], path: Path) -> None:
    table = importlib.import_module("pyarrow").table(columns)
    table.to_pandas(types_mapper=pd.ArrowDtype).to_parquet(path)


@pytest.mark.parametrize("write_table", [by_polars, by_arrow, by_pandas_of_arrow])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_durations_of_arrow_are_seconds(tmp_path: Path, unit: str, write_table: Any) -> None:
    """The file holds whole numbers, whose unit stands in the schema that Arrow keeps beside the file's own."""
    pytest.importorskip("polars" if write_table is by_polars else "pyarrow")
    if write_table is by_polars and unit == "s":
        pytest.skip("polars has no such durations")
    path, seconds = tmp_path / "a.parquet", np.arange(5) * 60 + 2**20
    elapsed = seconds.astype("timedelta64[s]").astype(f"timedelta64[{unit}]")
    write_table({"a": seconds % 7, "größe": elapsed, "b": seconds}, path)
    times = TableSource(path, Wanted(time="größe")).reading().times
    assert [(each.first, each.last, each.step) for each in times] == [("1048576", "1048816", "60")]
    assert TableSource(path).columns == ("a", "b")


@pytest.mark.parametrize("text", ["", "AAA=", "/////wAAAAA=", "/////xAAAAD/////", "no base64"])
def test_a_damaged_schema_of_arrow_is_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "a.parquet", "SELECT 1 AS a", ", KV_METADATA {'ARROW:schema': '" + text + "'}")
    with pytest.raises(ValueError, match="is damaged: its Arrow schema cannot be read"):
        TableSource(path)
