"""The time column of a table: its order, its gaps, and its regular step.

Shapes: n rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.reading import TimeRange
from reminding.tasks.data.tables.cells import number_sql, whole_sql
from reminding.tasks.data.tables.database import NUMERIC, TIMES, QueriedRows, Rows
from reminding.tasks.data.tables.store import Store, write
from reminding.tasks.data.times.calendar import Monthly, monthly
from reminding.tasks.data.times.interval import TOLERANCE, distance_text, usual_interval
from reminding.tasks.data.times.seasons import ADVICE, are_seasons, is_season
from reminding.tasks.data.times.written import (
    DATES_READ,
    ORDERS,
    Order,
    elapsed_sql,
    nanoseconds_sql,
    time_sql,
    whole_times,
    zoned_sql,
)

PARTS = {"us": 1_000_000, "ns": 1_000_000_000}
"""Of a second."""
EXACT = 1 << 53
"""Whole numbers that float64 holds exactly are below it."""
SPLIT = 1 << 32
"""Larger ones are kept in two parts, above and below it."""
SHOWN = 40
"""Characters of a cell that a message shows."""
PIECE = 1 << 20
"""Rows that are looked at together."""

Make = Callable[[str], str]
"""What makes the SQL of a value from that of a cell."""
_SOME = "some times have a zone, and others have none; write all alike"
_STRANGE = "the time zone is not known; write the distance from UTC, such as +02:00"


@dataclass(frozen=True)
class Timing:
    """What is known of the times of a run's training data, so that others are read alike.

    Args:
        order: of day, month and year in dates; None: unknown, or of no matter.
        dated: whether the times are points in time; else they are numbers, or durations in seconds.
        step: their usual distance, in seconds if they are dated; None: unknown.
        months: their usual distance in months, if they go on by months; else None.
        day: of the month, which may be cut to its end, on which all fall; None: there is none, or it is unknown.
    """

    order: Order | None = None
    dated: bool = True
    step: float | None = None
    months: int | None = None
    day: int | None = None


@dataclass(frozen=True)
class Clock:
    """The values of a time column, in order.

    Args:
        column: its name.
        unit: of points in time since 1970, in UTC if they had a zone: "us", which float64 holds exactly until 2255,
            or "ns"; "": they are numbers, or durations in seconds.
        store: of the values, (n, 1); or of whole numbers in two parts, (n, 2).
        scale: what the first of two parts is multiplied by before the second is added; 0: there is one part.
        order: of day, month and year in a text, if it was one of several that are possible.
        said: how the values were read, if a reader should know; else "".
        fault: why some or all of them cannot be used, if the zones of points in time are at fault; else "".
    """

    column: str
    unit: Literal["", "us", "ns"]
    store: Store
    scale: int = 0
    order: Order | None = None
    said: str = ""
    fault: str = ""

    @property
    def dated(self) -> bool:
        """Whether the values are points in time."""
        return self.unit != ""

    def values(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start to stop - 1, (n,): datetime64, or float64, or int64 where float64 would not be exact."""
        found = self._numbers(start, stop)
        return found.astype(np.int64).astype(f"datetime64[{self.unit}]") if self.unit else found

    def timing(self) -> Timing:
        """What other times are to be read by."""
        usual = self._usual() / PARTS.get(self.unit, 1)
        found = self._monthly()
        step = usual if self.store.rows > 1 else None
        return Timing(self.order, self.dated, step, *((None, None) if found is None else found))

    def kept(self, rows: NDArray[np.bool_], path: Path) -> Clock:
        """The clock of some rows, by a mask (n,), stored in another file."""
        pieces = (
            self.store.read(start, start + PIECE)[rows[start : start + PIECE]]
            for start in range(0, self.store.rows, PIECE)
        )
        return replace(self, store=write(pieces, path, self.store.columns))

    def same(self, other: Clock) -> bool:
        """Whether all values are those of another clock of as many rows."""
        starts = range(0, self.store.rows, PIECE)
        return all(np.array_equal(self.values(i, i + PIECE), other.values(i, i + PIECE)) for i in starts)

    def disorder(self) -> int | None:
        """The first row that is not later than the one before it; None: all are in order."""
        for start, values in self._pieces():
            if len(wrong := np.flatnonzero(np.diff(values) <= 0)):
                return start + int(wrong[0]) + 1
        return None

    def range(self) -> TimeRange:
        """What a reader should know: first and last value, usual distance, gaps."""
        usual = self._usual()
        gaps = irregular = 0
        largest = 0.0
        for _, values in self._pieces():
            distances = np.diff(values)
            gaps += int((distances > TOLERANCE * usual).sum())
            irregular += int((distances < usual / TOLERANCE).sum())
            largest = max(largest, float(distances.max(initial=0)))
        first, last = (self._shown(i) for i in (0, self.store.rows - 1))
        said = self._distance(largest) if gaps else ""
        found = self._monthly()
        step = self._distance(usual, None if found is None else found.months)
        return TimeRange(self.column, first, last, step, gaps, said, irregular)

    def is_even(self) -> bool:
        """Whether all distances are about the usual one."""
        found = self.range()
        return found.gaps == 0 and found.irregular == 0

    def _numbers(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start to stop - 1, (n,): float64, or int64 of those in two parts."""
        found = self.store.read(start, stop)
        return found[:, 0].astype(np.int64) * self.scale + found[:, 1].astype(np.int64) if self.scale else found[:, 0]

    def _usual(self) -> float:
        """The usual distance; 0 if there is none."""
        return usual_interval(self._numbers(0, PIECE))

    def _monthly(self) -> Monthly | None:
        """How the times go on by months; None if they do not."""
        return monthly(self.values(0, PIECE)) if self.dated else None

    def _pieces(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """The values in pieces that overlap in one row, each with its first row."""
        for start in range(0, max(self.store.rows - 1, 0), PIECE):
            yield start, self._numbers(start, start + PIECE + 1)

    def _shown(self, row: int) -> str:
        if not self.store.rows:
            return ""
        value = self.values(row, row + 1)[0]
        if not self.dated:
            return str(value) if self.scale else f"{float(value):.15g}"
        return str(value).replace("T", " ").removesuffix("." + 9 * "0").removesuffix("." + 6 * "0")

    def _distance(self, value: float, months: int | None = None) -> str:
        return distance_text(value / PARTS.get(self.unit, 1), dated=self.dated, months=months)


@dataclass(frozen=True)
class _Form:
    """A way to read a time.

    Args:
        make: SQL of the value from that of a cell: one part, or two parts of a whole number.
        scale: of the first of two parts; see `Clock`.
        zoned: SQL of whether a point in time has a zone, 1 or 0; None: it is no point in time.
    """

    make: tuple[Make, ...]
    scale: int = 0
    zoned: Make | None = None
    order: Order | None = None


class OpenOrderError(ValueError):
    """Dates that can be read in several orders of day, month and year."""


def read_clock(
    path: Path, rows: Rows, column: int, name: str, folder: Path, known: Timing | None = None, decimal: str = "."
) -> Clock:
    """Read a time column, and check that every row is later than the one before it.

    Args:
        path: of the table, for messages.
        folder: for temporary files.
        known: of the training data, if this is another table: their order of day and month is taken where all cells
            can be read in it, and whole numbers are dates only where theirs were.
        decimal: the decimal mark of the table.

    Raises:
        OpenOrderError: the order of day and month is open.
        ValueError: a cell is no time, a row is not later, or only some have a zone; with its line.
    """
    forms = _forms(path, rows, column, name, decimal)
    read = [_read(rows, column, name, form, folder / f"time{i}") for i, form in enumerate(forms)]
    full = [clock for clock in read if not clock.store.missing.any()]
    if not full:
        nearest = min(read, key=lambda clock: int(clock.store.missing[0]))
        row = nearest.store.first_gap()
        text = _text_of(rows, column, row)
        cell = f"the cell holds {text}, expected a time such as {DATES_READ}{ADVICE if is_season(text) else ''}"
        raise ValueError(f"time: {path}, {rows.place(row)}, column {name!r}: {nearest.fault or cell}")
    if known is not None and known.order is not None:
        full = [clock for clock in full if clock.order == known.order] or full
    if are_seasons(full[0].values(0, PIECE)) and is_season(text := _text_of(rows, column, 0)):
        raise ValueError(f"time: {path}, {rows.place(0)}, column {name!r}: {text} is read as a month{ADVICE}")
    if known is None or known.dated:
        full = [_dated(clock, folder / "dates") for clock in full]
    if fault := next((clock.fault for clock in full if clock.fault), ""):
        raise ValueError(f"time: {path}, column {name!r}: {fault}")
    disorders = [clock.disorder() for clock in full]
    ordered = [clock for clock, row in zip(full, disorders, strict=True) if row is None]
    if not ordered:
        raise ValueError(
            f"time: {path}, {rows.place(disorders[0] or 0)}, column {name!r}: the time is not later than in the row "
            "before; sort the rows by time, write one table for each sensor or unit, date and time of day in one "
            "column, and the distance from UTC where clocks are set back"
        )
    return _decided(ordered, f"time: {path}, column {name!r}")


def text_times(texts: NDArray[Any], name: str, known: Timing | None = None) -> NDArray[Any]:
    """Times that stand as text in a table in memory, (n,), read as those of a file, as `Clock.values` gives them.

    Raises:
        ValueError: as `read_clock`.
    """
    with tempfile.TemporaryDirectory(prefix="reminding-") as folder:
        clock = read_clock(Path("data"), QueriedRows.of_texts(texts), 0, name, Path(folder), known)
        return clock.values(0, clock.store.rows)


def _decided(ordered: Sequence[Clock], where: str) -> Clock:
    """The reading to take of several that are in order: the one that is even, unless all are the same.

    By month first, an hour may be a month.
    """
    distinct: list[Clock] = []
    for clock in ordered:
        if not any(clock.same(other) for other in distinct):
            distinct.append(clock)
    left = distinct if len(distinct) == 1 else [clock for clock in distinct if clock.is_even()]
    if len(left) != 1:
        raise OpenOrderError(f"{where}: day and month may stand in either order; write the times as 2020-12-31")
    alike = sum(clock.same(left[0]) for clock in ordered)
    return left[0] if alike == 1 else replace(left[0], order=None)


def _dated(clock: Clock, path: Path) -> Clock:
    """A clock of numbers such as 20241231 as one of points in time; any other as it is."""
    store = clock.store
    if clock.dated or clock.scale or whole_times(np.array([store.lowest[0], store.highest[0]])) is None:
        return clock
    times: list[NDArray[np.float64]] = []
    for start in range(0, store.rows, PIECE):
        found = whole_times(store.read(start, start + PIECE)[:, 0])
        if found is None:
            return clock
        times.append(found.astype(np.int64).astype(np.float64)[:, None])
    first = f"{store.read(0, 1)[0, 0]:.0f}"
    kind = "months" if len(first) == 6 else "dates" if len(first) == 8 else "dates and times of day"
    said = f"{clock.column}: whole numbers such as {first} are read as {kind}"
    return Clock(clock.column, "us", write(times, path, [0]), said=said)


def _forms(path: Path, rows: Rows, column: int, name: str, decimal: str) -> list[_Form]:
    """The ways to read a column that fit its first rows; at least one.

    Raises:
        ValueError: its type in a Parquet file is none of a time.
    """
    kind = rows.types[column]
    if kind != "VARCHAR":
        return [_form_of_type(kind, f"time: {path}, column {name!r}")]
    unread: dict[_Form, tuple[int, int]] = {}
    dates = [_date_form(order) for order in ORDERS]
    for form in (_Form((partial(number_sql, decimal=decimal),)), _Form((elapsed_sql,)), *dates):
        unread[form] = _unread(rows, column, form)
        if not unread[form][0] and form.order in (None, "year first"):
            return [form]
    least = min(unread.values())
    return [form for form in dates if not unread[form][0]] or [next(form for form in unread if unread[form] == least)]


def _form_of_type(kind: str, where: str) -> _Form:
    if TIMES.match(kind):
        zoned = ("1" if "TZ" in kind or "ZONE" in kind else "0").format
        if kind.endswith("_NS"):
            return _Form(_parts("epoch_ns(CAST({} AS TIMESTAMP_NS))".format, 1000), 1000, zoned)
        return _Form((lambda cell: f"epoch_us(CAST({cell} AS TIMESTAMP))",), zoned=zoned)
    if NUMERIC.match(kind):
        return _Form((lambda cell: f"CAST({cell} AS DOUBLE)",))
    if kind in ("TIME", "TIME_NS", "INTERVAL"):
        return _Form((lambda cell: f"epoch({cell})",))
    raise ValueError(f"{where} holds {kind}, expected times or numbers")


def _parts(make: Make, scale: int) -> tuple[Make, Make]:
    """SQL of a whole number in two parts."""
    return (lambda cell: f"{make(cell)} // {scale}"), (lambda cell: f"{make(cell)} % {scale}")


def _double(make: Make) -> Make:
    return lambda cell: f"CAST({make(cell)} AS DOUBLE)"


def _date_form(order: Order) -> _Form:
    make = partial(time_sql, order=order), partial(nanoseconds_sql, order=order)
    return _Form(make, 1000, partial(zoned_sql, order=order), order)


def _unread(rows: Rows, column: int, form: _Form) -> tuple[int, int]:
    """How many of the first rows cannot be read in a form; and less how many of these the zone alone is at fault."""
    made = [(column, _double(make)) for make in (form.make[0], form.zoned) if make is not None]
    first = next(iter(rows.values(made)), np.zeros((0, len(made))))
    bad = np.isnan(first[:, 0])
    return int(bad.sum()), -int((bad & (first[:, -1] == 1)).sum())


def _read(rows: Rows, column: int, name: str, form: _Form, path: Path) -> Clock:
    """Read all rows in a form, NaN where it does not fit or is not finite."""
    parts = len(form.make)
    zones = {0: False, 1: False}  # whether there are rows without a zone, and with one
    strange = False

    def pieces() -> Iterator[NDArray[np.float64]]:
        nonlocal strange
        makes = (*form.make, form.zoned) if form.zoned else form.make
        for values in rows.values([(column, _double(make)) for make in makes]):
            if form.zoned:
                zoned, bad = values[:, -1] == 1, np.isnan(values[:, 0])
                zones[0] |= bool((~zoned & ~bad).any())
                zones[1] |= bool((zoned & ~bad).any())
                strange |= bool((zoned & bad).any())
            yield np.where(np.isinf(values[:, :parts]), np.nan, values[:, :parts])

    store = write(pieces(), path, range(parts))
    if form.zoned is None:
        return _exactly(Clock(name, "", store), rows, column, path)
    fine = parts == 2 and bool(store.lowest[1] < 0 or store.highest[1] > 0)
    said = f"{name}: times with a zone are read in UTC" if zones[1] else ""
    fault = _SOME if all(zones.values()) else ""
    if store.missing.any():
        fault = _STRANGE if strange else ""
    order = None if form.order == "year first" else form.order
    return Clock(name, "ns" if fine else "us", store, form.scale if fine else 0, order, said, fault)


def _exactly(clock: Clock, rows: Rows, column: int, path: Path) -> Clock:
    """The same clock; of whole numbers that float64 would round, in two parts."""
    if clock.store.missing.any() or not clock.store.rows:
        return clock
    if max(-clock.store.lowest[0], clock.store.highest[0]) < EXACT:
        return clock
    kind = rows.types[column]
    parts = _parts(lambda cell: whole_sql(cell, kind), SPLIT)
    store = write(rows.values([(column, _double(part)) for part in parts]), path.with_suffix(".whole"), range(2))
    return clock if store.missing.any() else replace(clock, store=store, scale=SPLIT)


def _text_of(rows: Rows, column: int, row: int) -> str:
    """What a cell holds, for a message."""

    def code(place: int) -> Make:
        return lambda cell: f"CAST(coalesce(unicode(substr(trim(CAST({cell} AS VARCHAR)), {place}, 1)), 0) AS DOUBLE)"

    for codes in rows.values([(column, code(place)) for place in range(1, SHOWN + 1)]):
        if row < len(codes):
            return (
                repr("".join(chr(int(each)) for each in codes[row] if each > 0)) if codes[row, 0] > 0 else "no time"
            )
        row -= len(codes)
    return "no time"
