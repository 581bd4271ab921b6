"""Parquet files: the rows as DuckDB reads them, the columns that are an index, and the checksums of the pages.

DuckDB does not compare pages with their checksums, nor values with the statistics of the file. Both are done here, so
that a damaged file is not read as if it were whole.
"""

from __future__ import annotations

import base64
import importlib
import json
import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.tables.database import QueriedRows, connect, globbed, translating
from reminding.tasks.data.tables.header import unique_names
from reminding.tasks.data.times.written import quoted

MICROSECONDS = {"s": "* 1000000", "ms": "* 1000", "us": "* 1", "ns": "// 1000"}
"""Unit of a duration -> SQL that makes microseconds of a number of it."""
_DURATION = 18
"""The number of the type of a duration in Arrow's schemas."""
_UNITS = ("s", "ms", "us", "ns")
"""The units of Arrow's durations, in the order of their numbers."""
_EXACT = ("DOUBLE", "FLOAT", "INTEGER", "SMALLINT", "TINYINT")
"""Types whose statistics are compared with the values as float64."""
_CRC = 4
"""The field of a page header that holds the checksum."""
_PAGE_SIZE = 3
"""The field of a page header that holds the size of the page as stored."""


@dataclass(frozen=True)
class ParquetTable:
    """A Parquet file.

    Args:
        index: columns in which pandas stored the index of a frame.
        lowest, highest: of each column by the file's statistics; NaN: unknown.
        notes: on columns that are called otherwise here than in the file.
    """

    rows: QueriedRows
    names: tuple[str, ...]
    index: frozenset[str]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    notes: tuple[str, ...] = ()

    def check_values(self, columns: Sequence[int], lowest: NDArray[np.float64], highest: NDArray[np.float64]) -> None:
        """Compare what was read of some columns with what the file states.

        Raises:
            ValueError: a value lies outside the range that the file states; the file is damaged.
        """
        for i, least, most in zip(columns, lowest, highest, strict=True):
            if self.rows.types[i] in _EXACT and (least < self.lowest[i] or most > self.highest[i]):
                raise ValueError(
                    f"data: {self.rows.path} is damaged: column {self.names[i]!r} holds values from {least:g} to "
                    f"{most:g}, its statistics say {self.lowest[i]:g} to {self.highest[i]:g}; copy the file again"
                )


def open_parquet(path: Path) -> ParquetTable:
    """Open a Parquet file and check its pages.

    Raises:
        ImportError: DuckDB is missing.
        ValueError: the file is not Parquet, or is damaged.
    """
    connection = connect()
    source = quoted(globbed(path))
    with translating(path):
        described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({source})").fetchall()
        schema = connection.execute(f"SELECT name, num_children FROM parquet_schema({source})").fetchall()
        chunks = connection.execute(
            "SELECT path_in_schema, column_id, coalesce(dictionary_page_offset, data_page_offset), data_page_offset, "
            f"total_compressed_size, stats_min_value, stats_max_value FROM parquet_metadata({source})"
        ).fetchall()
        pandas, arrow = (
            connection.execute(
                f"SELECT decode(value) FROM parquet_kv_metadata({source}) WHERE decode(key) = '{key}'"
            ).fetchall()
            for key in ("pandas", "ARROW:schema")
        )
    read, types = [row[0] for row in described], [row[1] for row in described]
    with path.open("rb") as file:
        for column, _, dictionary, data, size, _, _ in chunks:
            _check_pages(file, path, column, min(offset for offset in (dictionary, data) if offset), size)
    own, leaves = _columns(schema)
    names, notes = unique_names([*own, *read[len(own) :]], read)
    durations = _durations(pandas) | _durations_of_arrow(arrow, path)
    cells = ['"' + name.replace('"', '""') + '"' for name in read]
    for i, kind in enumerate(types):
        if kind == '"NULL"':  # the type that pandas gives a column without a value
            types[i], cells[i] = "DOUBLE", f"CAST({cells[i]} AS DOUBLE)"
        elif unit := durations.get(names[i]):
            types[i], cells[i] = "INTERVAL", f"to_microseconds({cells[i]} {unit})"
    selected = ", ".join(f"{cell} AS c{i}" for i, cell in enumerate(cells))
    relation = f"(SELECT {selected} FROM read_parquet({source}))"
    lowest, highest = _statistics(leaves, types, chunks)
    rows = QueriedRows(path, relation, types, lambda row: f"row {row + 1}")
    return ParquetTable(rows, names, _index(names, pandas), lowest, highest, tuple(notes))


def _columns(schema: Sequence[Any]) -> tuple[list[str], dict[int, int]]:
    """The names that the file gives its columns, and the column of each leaf that is not a part of one.

    DuckDB does not tell capitals from small letters in names: of T and t it calls the second t_1.
    """
    names: list[str] = []
    leaves: dict[int, int] = {}
    leaf = parts = 0  # parts: of the present column, still to come
    for name, children in schema[1:]:
        if not parts:
            if not children:
                leaves[leaf] = len(names)
            names.append(name)
            parts = 1
        parts += (children or 0) - 1
        leaf += not children
    return names, leaves


def _durations(pandas: Sequence[Sequence[str]]) -> dict[str, str]:
    """The columns of durations, which DuckDB takes for whole numbers -> as of `MICROSECONDS`."""
    columns = [column for (text,) in pandas for column in json.loads(text).get("columns", [])]
    units = {f"timedelta64[{unit}]": sql for unit, sql in MICROSECONDS.items()}
    return {str(each.get("field_name")): units[kind] for each in columns if (kind := each.get("numpy_type")) in units}


def _durations_of_arrow(arrow: Sequence[Sequence[str]], path: Path) -> dict[str, str]:
    """The same by the schema that pyarrow and polars write beside the file's own, a flatbuffer."""
    try:
        return {name: MICROSECONDS[unit] for (text,) in arrow for name, unit in _arrow_durations(text)}
    except (ValueError, IndexError, TypeError, struct.error) as error:  # flatbuffers checks no place
        raise ValueError(f"data: {path} is damaged: its Arrow schema cannot be read; copy it again") from error


def _arrow_durations(text: str) -> Iterator[tuple[str, str]]:
    """The names and units of the durations in a schema of Arrow.   [Message.fbs and Schema.fbs of Apache Arrow]"""
    try:
        flat: Any = importlib.import_module("flatbuffers")
    except ImportError as error:
        raise ImportError('Parquet files of Arrow need flatbuffers: pip install "reminding[data]"') from error
    raw = base64.b64decode(text)

    def linked(table: Any, place: int) -> Any:
        return flat.table.Table(raw, table.Indirect(place))

    def place_of(table: Any, field: int) -> int:
        """Where a field is, by its number; 0 where it is left out, as numbers at their defaults are."""
        offset = table.Offset(4 + 2 * field)
        return table.Pos + offset if offset else 0

    begin = 8 if raw.startswith(b"\xff" * 4) else 4
    message = linked(flat.table.Table(raw, begin), begin)
    schema = linked(message, place_of(message, 2))
    fields = place_of(schema, 1) - schema.Pos
    for i in range(schema.VectorLen(fields)):
        field = linked(schema, schema.Vector(fields) + 4 * i)
        if field.Get(flat.number_types.Uint8Flags, place_of(field, 2)) == _DURATION:
            kind = linked(field, place_of(field, 3))
            unit = place_of(kind, 0)
            number = kind.Get(flat.number_types.Int16Flags, unit) if unit else 1
            yield field.String(place_of(field, 0)).decode(), _UNITS[number]


def _index(names: Sequence[str], pandas: Sequence[Sequence[str]]) -> frozenset[str]:
    found = {name for name in names if re.fullmatch(r"__index_level_\d+__", name)}
    for (text,) in pandas:
        found.update(name.strip() for name in json.loads(text).get("index_columns", []) if isinstance(name, str))
    return frozenset(found & set(names))


def _statistics(
    leaves: Mapping[int, int], types: Sequence[str], chunks: Sequence[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The smallest and largest value of each column that the file states; NaN where it states none for some part."""
    lowest, highest = np.full(len(types), np.inf), np.full(len(types), -np.inf)
    for _, leaf, _, _, _, least, most in chunks:
        if (i := leaves.get(leaf)) is not None:
            lowest[i] = np.minimum(lowest[i], _as_number(least, types[i]))
            highest[i] = np.maximum(highest[i], _as_number(most, types[i]))
    return lowest, highest


def _as_number(text: str | None, kind: str) -> float:
    """A number that DuckDB wrote with the digits that its type needs, so 0.1 of a FLOAT is not 0.1 of a DOUBLE."""
    try:
        value = float("nan" if text is None else text)
    except ValueError:
        return float("nan")
    return float(np.float32(value)) if kind == "FLOAT" else value


def _check_pages(file: IO[bytes], path: Path, column: str, offset: int, size: int) -> None:
    """Compare each page of a column chunk with its checksum, if it has one."""
    end = offset + size
    while offset < end:
        file.seek(offset)
        reader = _Compact(file.read(min(1 << 16, end - offset)))
        try:
            fields = reader.struct()
            length = int(fields[_PAGE_SIZE])
        except (IndexError, KeyError, ValueError, RecursionError) as error:
            raise ValueError(f"data: {path} is damaged: column {column!r} has no page at byte {offset}") from error
        file.seek(offset + reader.place)
        fits = 0 <= length <= end - offset - reader.place  # else it would be allocated, or read backwards
        page = file.read(length) if fits else b""
        stated = fields.get(_CRC)
        if not fits or len(page) < length or (stated is not None and zlib.crc32(page) != stated & 0xFFFFFFFF):
            raise ValueError(
                f"data: {path} is damaged: the page of column {column!r} at byte {offset} does not have its "
                "checksum; copy the file again"
            )
        offset += reader.place + length


class _Compact:
    """Integers of a structure in Thrift's compact protocol, in which page headers are written."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self.place = raw, 0

    def struct(self) -> dict[int, int]:
        """The integer fields by number; others are passed over."""
        fields: dict[int, int] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._signed()
            if (value := self._value(head & 15)) is not None:
                fields[number] = value
        return fields

    def _value(self, kind: int) -> int | None:
        """A value of a type; None unless it is an integer of 16 to 64 bits."""
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 3:
            self.place += 1
        elif kind == 7:
            self.place += 8
        elif kind == 8:
            length = self._unsigned()
            self.place += length
        elif kind in (9, 10):
            head = self._byte()
            count = self._unsigned() if head >> 4 == 15 else head >> 4
            if count > len(self._raw):
                raise ValueError(f"a list of {count} values")
            for _ in range(count):
                self._value(head & 15)
        elif kind == 12:
            self.struct()
        elif kind not in (1, 2):
            raise ValueError(f"type {kind}")
        return None

    def _byte(self) -> int:
        self.place += 1
        return self._raw[self.place - 1]

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift

    def _signed(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)
