"""The files of a stream: opened by their format, one after the other, and found by a step's number over all of them.

Shapes: n steps, I values of a step.
"""

from __future__ import annotations

import glob
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data import audio
from reminding.tasks.data.reading import Reading, together
from reminding.tasks.data.sources import BytesSource, Source
from reminding.tasks.data.tables import Asked, FollowedTable, TableSource, Wanted
from reminding.tasks.data.tables.clock import OpenOrderError, Timing
from reminding.tasks.data.tables.form import PARQUET, PERHAPS, is_table
from reminding.tasks.data.tables.source import NO_TIMES, unlike_steps
from reminding.tasks.data.text import PACKED, suffix_of
from reminding.tasks.data.times.written import Order

Format = Literal["auto", "bytes", "wav", "csv", "parquet"]
TABLES = (
    *(".xlsx", ".xls", ".xlsm", ".ods", ".feather", ".arrow", ".orc", ".h5", ".hdf5", ".nc", ".mat", ".npy", ".npz"),
    *(".json", ".jsonl", ".ndjson", ".pkl", ".pickle", ".rds", ".sav", ".dta", ".sas7bdat", ".sqlite", ".db"),
    ".arff",
)
"""Suffixes of tables in a form that is not read."""
ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".7z", ".rar", ".zst", ".lz4", ".z", ".lzma")
"""Suffixes of packed files that are not unpacked."""


def list_files(data: Path, option: str = "data") -> list[Path]:
    """The file at a path, or the files that match a pattern such as logs/*.csv, sorted by name.

    Raises:
        FileNotFoundError: there is none.
    """
    if data.is_file():
        return [data]
    if glob.has_magic(str(data)):
        found = sorted(path for name in glob.glob(str(data), recursive=True) if (path := Path(name)).is_file())
        if found:
            return found
        raise FileNotFoundError(f"{option}: no file matches {data}")
    if data.is_dir():
        raise FileNotFoundError(
            f"{option}: {data} is a folder, not a file; name its files by a pattern, such as '{data}/*.csv'"
        )
    raise FileNotFoundError(f"{option}: {data} is not a file")


def named_files(name: str, place: Path) -> dict[str, Path]:
    """Files by names that stay when they move as a whole.

    Returns:
        the file as `name`, or the files of a pattern as `name` and their places below the folder it begins with.
    """
    if not glob.has_magic(str(place)) or place.is_file():
        return {name: place}
    folder = place
    while glob.has_magic(str(folder)):
        folder = folder.parent
    return {f"{name}/{path.relative_to(folder).as_posix()}": path for path in list_files(place, name)}


def kind_of_file(path: Path, format: Format, wanted: Wanted) -> str:
    """How a file is read: "bytes", "audio" or "table".

    Raises:
        ValueError: the file is packed in a form that is not unpacked, or holds no table, or is a table in a form that
            is not read.
    """
    if format != "auto":
        return {"bytes": "bytes", "wav": "audio"}.get(format, "table")
    if path.suffix.lower() in audio.SUFFIXES:
        return "audio"
    if is_table(path, wanted.asked):
        return "table"
    if unread := _unread(path):
        raise ValueError(f"{unread}, or read its bytes by --format bytes")
    if path.suffix.lower() in PACKED:
        raise ValueError(
            f"format: {path} is packed and holds no table by its name; unpack it, name its --format, or read the "
            "packed bytes by --format bytes"
        )
    return "bytes"


def format_of(paths: Sequence[Path], format: Format, known: Format) -> Format:
    """The format of other files for a run, which is that of its own.

    Args:
        format: that the run was begun with.
        known: of its files.

    Raises:
        ValueError: it was found by itself, and is that of a table, but one of these is in a form that is not read or
            not unpacked.
    """
    if format == "auto" and known == "csv" and (unread := next(filter(None, map(_unread, paths)), None)):
        raise ValueError(unread)
    return known


def _unread(path: Path) -> str | None:
    """What hinders reading a file of such a name, and what to do; None: nothing."""
    suffix = path.suffix.lower()
    if suffix in TABLES:
        return f"format: {path} is a table in a form that is not read; save it as CSV or Parquet"
    if suffix in ARCHIVES:
        return (
            f"format: {path} is packed in a form that is not unpacked; unpack it, or pack it as {', '.join(PACKED)}"
        )
    return None


def open_source(path: Path, kind: str, wanted: Wanted, follow: bool) -> Source:
    """Open a file; see `kind_of_file`.

    Raises:
        ValueError: it cannot be read, or what is wanted is for tables only.
    """
    if kind != "table":
        for option in ("columns", "target", "time"):
            if getattr(wanted, option):
                raise ValueError(f"{option}: {path} is read as {kind}, which has no columns; see format")
        if kind == "bytes":
            return BytesSource(path, follow)
        return audio.FollowedAudio(path) if follow else audio.AudioSource(path, wanted.asked.fixed)
    return FollowedTable(path, wanted) if follow else TableSource(path, wanted)


@dataclass(frozen=True)
class FileSet:
    """Files that are read in the same way, each a stream of its own.

    Args:
        sources: the opened files.
        notes: on how they were opened.
    """

    sources: tuple[Source, ...]
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Source:
        """The file that says how all are read."""
        return self.sources[0]

    @property
    def decimal(self) -> str | None:
        """The decimal mark of text tables, if a file decided it and no other file decided otherwise; else None."""
        tables = [source for source in self.sources if isinstance(source, TableSource | FollowedTable)]
        marks = {table.decimal for table in tables if table.decimal is not None}
        return marks.pop() if len(marks) == 1 else None

    def timing(self, count: int) -> Timing | None:
        """Of the times of the first `count` files, whose usual distance is the median over all rows; None: none."""
        clocks = [each.clock for each in self.sources[:count] if isinstance(each, TableSource) and each.clock]
        long = [(clock.timing(), clock.store.rows) for clock in clocks if clock.store.rows > 1]
        if not long:
            return clocks[0].timing() if clocks else None
        long.sort(key=lambda each: each[0].step or 0.0)
        ends = list(accumulate(rows for _, rows in long))
        usual, _ = long[bisect_left(ends, ends[-1] / 2)]
        same = all(each.months == usual.months for each, _ in long)
        return replace(usual, order=clocks[0].order, months=usual.months if same else None)

    def ranges(self) -> list[range]:
        """The steps of each file, counted over all files."""
        ends = list(accumulate(source.steps() for source in self.sources))
        return [range(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Steps of one file, counted over all files: tokens (n,), or values (n, I)."""
        source, begin = self._file(start)
        return source.read(start - begin, stop - begin)

    def times(self, start: int, stop: int) -> NDArray[Any] | None:
        """The time column of rows of one file, counted over all files, (n,); None if no such column was named."""
        source, begin = self._file(start)
        return source.times(start - begin, stop - begin) if isinstance(source, TableSource) else None

    def numbers(self, start: int, stop: int) -> NDArray[np.int64]:
        """The numbers, in their file, of steps of one file, counted over all files, (n,): from 0."""
        source, begin = self._file(start)
        if isinstance(source, TableSource):
            return source.numbers(start - begin, stop - begin)
        return np.arange(start - begin, stop - begin)

    def where(self, step: int) -> str:
        """The file of a step, and its number in that file, from 0."""
        source, _ = self._file(step)
        return f"{source.unit} {self.numbers(step, step + 1)[0]} of {source.path}"

    def _file(self, step: int) -> tuple[Source, int]:
        """The file of a step, and the number of its first step."""
        if len(self.sources) == 1:
            return self.first, 0
        number, steps = next((i, steps) for i, steps in enumerate(self.ranges()) if step in steps)
        return self.sources[number], steps.start

    def reading(self, notes: Sequence[str]) -> Reading:
        """What was read of all files, and what differs between them."""
        readings = [source.reading() for source in self.sources]
        return together(readings, [*self.notes, *self._unlike_times(), *_unlike_units(readings), *notes])

    def _unlike_times(self) -> list[str]:
        """Which files have rows at another distance than most rows, a sentence each."""
        usual, found = self.timing(len(self.sources)), list[str]()
        for source in self.sources if usual is not None and len(self.sources) > 1 else ():
            assert isinstance(source, TableSource) and source.clock is not None and usual is not None
            if (steps := unlike_steps(usual, source.clock.timing())) is not None:
                here, there = steps
                found.append(f"time: {source.path.name} has a row every {here}, others every {there}; {NO_TIMES}")
        return found


def _unlike_units(readings: Sequence[Reading]) -> list[str]:
    """Which columns have another unit than in the first file, a sentence each."""
    first = {column.name: column.unit for column in readings[0].columns if column.role != "ignored"}
    return [
        f"{column.name}: its unit is {column.unit} in {Path(reading.files[0].path).name}, and "
        f"{first[column.name]} in the first file; values are read as they are"
        for reading in readings[1:]
        for column in reading.columns
        if column.unit and first.get(column.name) not in (None, "", column.unit)
    ]


def open_files(
    paths: Sequence[Path], format: Format, wanted: Wanted, follow: bool, rows: Sequence[int | None] = ()
) -> FileSet:
    """Open files that must all be of one kind; of tables, the columns and masks are the same in all.

    Args:
        rows: of each table, from the first, to read; None: all.

    Raises:
        ValueError: a file cannot be read, is of another kind, or lacks a column; the message names it.
    """
    kind = kind_of_file(paths[0], format, wanted)
    _check_asked(paths, kind, wanted)
    rows = rows or (None,) * len(paths)
    tables = [] if follow or kind != "table" else _tables(paths, kind, format, wanted, rows)
    first = tables[0] if tables else open_source(paths[0], kind, replace(wanted, rows=rows[0]), follow)
    notes: list[str] = []
    if format == "auto" and kind != "audio" and suffix_of(paths[0]) in PERHAPS:
        other = "--format bytes reads its bytes" if kind == "table" else "--format csv reads it as a table"
        notes.append(
            f"{paths[0].name} was taken as {'a table' if kind == 'table' else 'bytes'} by its content; {other}"
        )
    if not tables:
        return FileSet((first, *(_like(first, path, kind, format, wanted) for path in paths[1:])), tuple(notes))
    return FileSet(tuple(tables), tuple(notes))


def _check_asked(paths: Sequence[Path], kind: str, wanted: Wanted) -> None:
    """Refuse what is asked of text or of tables where there is none; what a run was begun with is not asked again."""
    asked, whole = wanted.asked, all(suffix_of(path) in PARQUET for path in paths)
    if asked.fixed or (kind == "table" and not whole):
        return
    what = "a Parquet file, which says it" if kind == "table" else f"read as {kind}, which has no cells; see format"
    for option in ("separator", "decimal", "header", "encoding", *(() if kind == "table" else ("na",))):
        if getattr(asked, option) != getattr(Asked(), option):
            raise ValueError(f"{option}: {paths[0]} is {what}")
    if kind != "table" and wanted.missing != "error":
        raise ValueError(f"missing: {paths[0]} is read as {kind}, in which nothing is missing; see format")


def _tables(
    paths: Sequence[Path], kind: str, format: Format, wanted: Wanted, rows: Sequence[int | None]
) -> list[TableSource]:
    """Tables with the same columns and masks. The order of day and month in one of them holds for all.

    With carry and zero, a column may have no value in some of them.

    Raises:
        ValueError: a column has no value in any of them.
    """
    known = wanted.known or len(paths) > 1
    first = _table(paths[0], paths, replace(wanted, known=known, rows=rows[0]))
    if len(paths) == 1:
        return [first]
    empty = {column.name for column in first.described if column.kind == "empty"}
    perhaps = tuple(empty - {*first.columns}) if wanted.missing in ("carry", "zero") and not wanted.columns else ()
    asked = replace(wanted.asked, usual=wanted.asked.usual or first.decimal)
    shared = replace(wanted, columns=first.columns, known=True, perhaps=perhaps, asked=asked)
    shared, tables = _ordered(shared, first), [first]
    for path, most in zip(paths[1:], rows[1:], strict=True):
        _same_kind(path, kind, format, wanted)
        tables.append(_table(path, paths, replace(shared, rows=most)))
        shared = _ordered(shared, tables[-1])
    if found := {name for table in tables for name in table.columns} - {*first.columns}:
        columns = [each.name for each in first.described if each.name in found or each.name in first.columns]
        shared = replace(shared, columns=tuple(columns), perhaps=())
        tables = [_reopened(table, shared) for table in tables]
    if not wanted.known:
        _check_values(tables)
    _check_times(tables)
    masks = tuple(name for name in tables[0].columns if any(name in table.masks for table in tables))
    shared = replace(shared, masks=masks)
    tables = [table if table.masks == masks else _reopened(table, shared) for table in tables]
    if (clock := tables[0].clock) is not None and shared.timing is not None:
        tables[0].clock = replace(clock, order=shared.timing.order)
    return tables


def _check_values(tables: Sequence[TableSource]) -> None:
    """Refuse a column that has no value in any of the tables."""
    for name in tables[0].columns:
        if all(_is_empty(table, name) for table in tables):
            raise ValueError(
                f"columns: {tables[0].path}, column {name!r} has no values, as in the other files; leave it out of "
                "--columns"
            )


def _check_times(tables: Sequence[TableSource]) -> None:
    """Refuse dates in one of the tables and numbers in another."""
    clocks = {table.clock.dated: (table.path, table.clock.column) for table in reversed(tables) if table.clock}
    if len(clocks) > 1:
        (dates, column), (numbers, _) = clocks[True], clocks[False]
        raise ValueError(f"time: the column {column!r} holds dates in {dates}, numbers in {numbers}; write all alike")


def _reopened(table: TableSource, wanted: Wanted) -> TableSource:
    return TableSource(table.path, replace(wanted, rows=table.wanted.rows))


def _is_empty(table: TableSource, name: str) -> bool:
    return any(column.name == name and column.kind == "empty" for column in table.described)


def _ordered(wanted: Wanted, table: TableSource) -> Wanted:
    """With the order of day and month of a table, if it tells one and none is known."""
    timing = wanted.timing or Timing()
    if table.clock is None or table.clock.order is None or timing.order is not None:
        return wanted
    return replace(wanted, timing=replace(timing, order=table.clock.order))


def _table(path: Path, others: Sequence[Path], wanted: Wanted) -> TableSource:
    """Open a table. Where it leaves the order of day and month open, that of another is taken."""
    try:
        return TableSource(path, wanted)
    except OpenOrderError:
        whole = replace(wanted, rows=None)
        order = next((order for other in others if other != path and (order := _order(other, whole))), None)
        if order is None:
            raise
        return TableSource(path, replace(wanted, timing=replace(wanted.timing or Timing(), order=order)))


def _order(path: Path, wanted: Wanted) -> Order | None:
    """The order of day and month in a table; None if it is open."""
    try:
        clock = TableSource(path, wanted).clock
    except OpenOrderError:
        return None
    return None if clock is None else clock.order


def _like(first: Source, path: Path, kind: str, format: Format, wanted: Wanted) -> Source:
    _same_kind(path, kind, format, wanted)
    return first.like(path)


def _same_kind(path: Path, kind: str, format: Format, wanted: Wanted) -> None:
    if (other := kind_of_file(path, format, wanted)) != kind:
        raise ValueError(f"data: {path} is read as {other}, the first file as {kind}; see format")
