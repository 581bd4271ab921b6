"""The time column of a table: its order, its gaps, and its regular step.

Shapes: n rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.reading import TimeRange
from reminding.tasks.data.tables.cells import elapsed_sql, quoted, simple_sql
from reminding.tasks.data.tables.database import NUMERIC, TIMES, QueriedRows, Rows
from reminding.tasks.data.tables.store import Store, write

FORMATS = tuple(
    f"{date}{clock}"
    for date in ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y")
    for clock in ("", " %H:%M", " %H:%M:%S")
)
"""Forms of a timestamp that are tried besides those of ISO 8601."""
MICROSECONDS = 1_000_000
PIECE = 1 << 20
"""Rows that are looked at together."""
_TOLERANCE = 1.5
"""A distance that is this many times the usual one is a gap, and one that is this many times smaller is irregular."""


@dataclass(frozen=True)
class Clock:
    """The values of a time column, in order.

    Args:
        column: its name.
        dated: whether the values are points in time, microseconds since 1970, which float64 holds exactly until the
            year 2255; else they are numbers, or durations in seconds.
        store: of the values, (n, 1).
    """

    column: str
    dated: bool
    store: Store

    def values(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start to stop - 1, (n,): datetime64 in microseconds, or float64."""
        found = self.store.read(start, stop)[:, 0]
        return found.astype(np.int64).astype("datetime64[us]") if self.dated else found

    def kept(self, rows: NDArray[np.bool_], path: Path) -> Clock:
        """The clock of some rows, by a mask (n,), stored in another file."""
        pieces = (
            self.store.read(start, start + PIECE)[rows[start : start + PIECE]]
            for start in range(0, self.store.rows, PIECE)
        )
        return Clock(self.column, self.dated, write(pieces, path, [0]))

    def disorder(self) -> int | None:
        """The first row that is not later than the one before it; None: all are in order."""
        for start, values in self._pieces():
            if len(wrong := np.flatnonzero(np.diff(values) <= 0)):
                return start + int(wrong[0]) + 1
        return None

    def range(self) -> TimeRange:
        """What a reader should know: first and last value, usual distance, gaps."""
        usual = float(np.median(np.diff(self.store.read(0, PIECE)[:, 0]))) if self.store.rows > 1 else 0.0
        gaps = irregular = 0
        largest = 0.0
        for _, values in self._pieces():
            distances = np.diff(values)
            gaps += int((distances > _TOLERANCE * usual).sum())
            irregular += int((distances < usual / _TOLERANCE).sum())
            largest = max(largest, float(distances.max(initial=0)))
        first, last = (self._shown(i) for i in (0, self.store.rows - 1))
        said = self._distance(largest) if gaps else ""
        return TimeRange(self.column, first, last, self._distance(usual), gaps, said, irregular)

    def is_even(self) -> bool:
        """Whether all distances are about the usual one."""
        found = self.range()
        return found.gaps == 0 and found.irregular == 0

    def _pieces(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """The values in pieces that overlap in one row, each with its first row."""
        for start in range(0, max(self.store.rows - 1, 0), PIECE):
            yield start, self.store.read(start, start + PIECE + 1)[:, 0]

    def _shown(self, row: int) -> str:
        if not self.store.rows:
            return ""
        value = self.values(row, row + 1)[0]
        return str(value).replace("T", " ").removesuffix(".000000") if self.dated else f"{float(value):.15g}"

    def _distance(self, value: float) -> str:
        if not self.dated:
            return f"{value:.12g}"
        seconds = value / MICROSECONDS
        sizes = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
        size, unit = next(((size, unit) for size, unit in sizes if seconds >= size), (0.001, "ms"))
        return f"{seconds / size:.6g} {unit}"


@dataclass(frozen=True)
class _Form:
    """A way to read a time: what makes its SQL from that of a cell, and whether it is a point in time."""

    dated: bool
    make: Callable[[str], str]


def read_clock(path: Path, rows: Rows, column: int, name: str, folder: Path) -> Clock:
    """Read a time column, and check that every row is later than the one before it.

    Args:
        path: of the table, for messages.
        folder: for temporary files.

    Raises:
        ValueError: a cell is no time, the order of day and month is open, or a row is not later; with its line.
    """
    read = [
        _read(rows, column, name, form, folder / f"time{i}")
        for i, form in enumerate(_forms(path, rows, column, name))
    ]
    full = [clock for clock in read if not clock.store.missing.any()]
    if not full:
        nearest = min(read, key=lambda clock: int(clock.store.missing[0]))
        row = next(
            start + int(np.flatnonzero(np.isnan(piece))[0])
            for start in range(0, nearest.store.rows, PIECE)
            if np.isnan(piece := nearest.store.read(start, start + PIECE)[:, 0]).any()
        )
        raise ValueError(f"time: {path}, {rows.place(row)}, column {name!r}: the cell holds no time")
    disorders = [clock.disorder() for clock in full]
    ordered = [clock for clock, row in zip(full, disorders, strict=True) if row is None]
    if not ordered:
        raise ValueError(
            f"time: {path}, {rows.place(disorders[0] or 0)}, column {name!r}: the time is not later than in the row "
            "before; sort the rows by time, write one table for each sensor or unit, and write the date where the "
            "time of day begins again"
        )
    even = [clock for clock in ordered if clock.is_even()] or ordered  # by month first, an hour may be a month
    if len({clock.values(0, 1)[0] for clock in even}) > 1:
        raise ValueError(
            f"time: {path}, column {name!r}: day and month may stand in either order; write the times as 2020-12-31"
        )
    return even[0]


def text_times(texts: NDArray[Any], name: str) -> NDArray[Any]:
    """Times that stand as text in a table in memory, (n,), read as those of a file, as `Clock.values` gives them.

    Raises:
        ValueError: as `read_clock`.
    """
    with tempfile.TemporaryDirectory(prefix="reminding-") as folder:
        clock = read_clock(Path("data"), QueriedRows.of_texts(texts), 0, name, Path(folder))
        return clock.values(0, clock.store.rows)


def _forms(path: Path, rows: Rows, column: int, name: str) -> list[_Form]:
    """The ways to read a column that fit its first rows; at least one.

    Raises:
        ValueError: its type in a Parquet file is none of a time.
    """
    kind = rows.types[column]
    if TIMES.match(kind):
        return [_Form(True, lambda cell: f"epoch_us(CAST({cell} AS TIMESTAMP))")]
    if NUMERIC.match(kind):
        return [_Form(False, lambda cell: f"CAST({cell} AS DOUBLE)")]
    if kind in ("TIME", "INTERVAL"):
        return [_Form(False, lambda cell: f"epoch({cell})")]
    if kind != "VARCHAR":
        raise ValueError(f"time: {path}, column {name!r} holds {kind}, expected times or numbers")
    number, iso, elapsed = _Form(False, simple_sql), _Form(True, _iso), _Form(False, elapsed_sql)
    others = [_Form(True, _strptime(form)) for form in FORMATS]
    unread: dict[_Form, int] = {}
    for form in (number, elapsed, iso, *others):
        unread[form] = _unread(rows, column, form)
        if not unread[form] and form not in others:
            return [form]
    least = min(unread.values())
    return [form for form in others if not unread[form]] or [next(form for form in unread if unread[form] == least)]


def _iso(cell: str) -> str:
    # A cast of the bare cell would be done by DuckDB's CSV reader, which raises where try_cast gives NULL.
    return f"epoch_us(try_cast(trim({cell}) AS TIMESTAMP))"


def _strptime(form: str) -> Callable[[str], str]:
    return lambda cell: f"epoch_us(try_strptime(trim({cell}), {quoted(form)}))"


def _unread(rows: Rows, column: int, form: _Form) -> int:
    """How many of the first rows cannot be read in a form."""
    first = next(iter(rows.values([(column, form.make)])), np.zeros((0, 1)))
    return int(np.isnan(np.asarray(first, np.float64)).sum())


def _read(rows: Rows, column: int, name: str, form: _Form, path: Path) -> Clock:
    pieces = (np.asarray(piece, np.float64) for piece in rows.values([(column, form.make)]))
    return Clock(name, form.dated, write(pieces, path, [column]))
