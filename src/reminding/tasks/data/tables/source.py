"""A table as a stream of rows of numbers: the columns, missing values, and a copy of the numbers on disk.

Shapes: n rows, C columns, I values of a step: the columns, and a mask for each column with missing values.
"""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.reading import Column, FileSteps, Reading
from reminding.tasks.data.sources import Growth, Identity, Source
from reminding.tasks.data.tables.cells import TOTAL, grouped_sql, mark_sql, missing_sql, simple_sql, value_sql
from reminding.tasks.data.tables.clock import Clock, Timing, read_clock
from reminding.tasks.data.tables.columns import (
    Contents,
    Points,
    Wanted,
    choose,
    find,
    find_decimal,
    find_some,
    rounded,
    unlike_rows,
)
from reminding.tasks.data.tables.database import (
    NUMERIC,
    Found,
    NotPlainError,
    complete_rows,
    ends_with_a_line,
    row_lines,
)
from reminding.tasks.data.tables.form import PARQUET, open_form
from reminding.tasks.data.tables.header import COMMENTS
from reminding.tasks.data.tables.store import Store, fill, write
from reminding.tasks.data.temporary import temporary_folder
from reminding.tasks.data.text import PACKED, suffix_of
from reminding.tasks.data.times.interval import distance_text

ALIKE = 1.25
"""Times the usual distance of two rows: up to this another distance is the same."""
NO_TIMES = "the network reads rows, and not their times"
GROWS = "the table grew while it was read; rows that were not complete then are left out"
CUT_OFF = "the last line has no line end and is no row; it is left out"
OPEN_END = "the last line has no line end; if it is still being written, its row is not what it will be"


def not_followed(path: Path, wanted: Wanted) -> str:
    """Why a table can only be read when it is complete; "" if it may be followed while it is written."""
    if suffix_of(path) in PARQUET:
        return "a Parquet file can only be read when it is complete; a CSV file can be followed"
    if path.suffix.lower() in PACKED:
        return f"{path} is packed, and can only be read when it is complete; follow a file that is not"
    if wanted.time is not None or wanted.missing == "drop":
        return f"--{'time' if wanted.time is not None else 'missing=drop'} needs a file that is complete"
    return ""


class TableSource(Source):
    """Columns of a CSV or Parquet file, one step per row, real values.

    The file is read through once or twice when it is opened. Its numbers are then in a temporary file, so that rows
    can be read from anywhere at once, whatever the size of the table; and what happens to the table afterwards has no
    effect. A text table for a run that was trained before may grow while it is read: its rows are then those of the
    lines that were complete.

    Attributes:
        decimal: the decimal mark of a text table, if an option or a cell decided it; else None.

    Raises:
        ImportError: DuckDB is missing; the message says what to install.
        ValueError: the file cannot be read as a table of numbers. The message names file, line and column.
        CannotWriteError: the disk of the temporary files is full. The message names it, and TMPDIR.
    """

    vocabulary = None
    unit = "row"

    def __init__(self, path: Path, wanted: Wanted | None = None) -> None:
        super().__init__(path)
        self.wanted = wanted or Wanted()
        identity = Identity.of(path, self.wanted.asked.fixed or bool(not_followed(path, self.wanted)))
        self._folder = temporary_folder()
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._most = self.wanted.rows
        self._form = open_form(path, self.wanted.asked, self._folder, self._most)
        if self.wanted.asked.fixed and self._form.dialect is not None and path.suffix.lower() not in PACKED:
            self._read_growing(identity)
        else:
            self._read_all()
            identity.check(path)
        self._form.rows.close()  # a run may have thousands of files

    def _read_growing(self, opened: Identity) -> None:
        """Read a table that may be written to meanwhile: if it is, or its last line is cut off, the complete rows."""
        growth = Growth(self.path)
        growth.size()
        open_end = self._most is None and not ends_with_a_line(self.path)
        try:
            self._read_all()
        except ValueError:
            if not growth.since(opened) and not open_end:
                raise
        else:
            if not growth.since(opened):
                self._notes += [OPEN_END] if open_end else []
                return
        assert self._form.dialect is not None
        complete = complete_rows(self.path, self._form.dialect)
        self._most = complete if self._most is None else min(complete, self._most)
        self._form.rows.close()
        self._form = open_form(self.path, self.wanted.asked, self._folder, self._most)
        self._read_all()
        note = GROWS if growth.since(opened) else CUT_OFF
        self._notes += [note] if self.wanted.rows is None else []

    def _read_all(self) -> None:
        contents, store = self._first_reading()
        self._choice = choose(contents, self.wanted)
        separator = "" if self._form.dialect is None else self._form.dialect.separator
        self._decimal, decided = find_decimal(contents, separator, self.wanted.asked, self._points)
        self.decimal = self._decimal if decided and self._form.dialect is not None else None
        self._notes = [*self._form.notes, *self._unmasked(contents)]
        self._kept: NDArray[np.bool_] | None = None
        self._store = self._second_reading(contents, store)
        largest = np.fmax(np.abs(self._store.lowest), np.abs(self._store.highest))
        self._notes += rounded([self._form.names[i] for i in self._store.columns], largest)
        self.clock = self._clock(contents)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that are read."""
        return tuple(self._form.names[i] for i in self._choice.columns)

    @property
    def masks(self) -> tuple[str, ...]:
        """The columns that have a mask, which is 1 where the value is missing."""
        return tuple(self._form.names[i] for i in self._choice.masked)

    @property
    def described(self) -> tuple[Column, ...]:
        """All columns of the file, with what each is used for."""
        return self._choice.described

    @property
    def features(self) -> int:
        """I: columns and masks."""
        return len(self._choice.columns) + len(self._choice.masked)

    def steps(self) -> int:
        """Rows."""
        return self._store.rows

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        """Rows, (n, I). A missing value is NaN, unless one could be carried to it."""
        return self._store.read(start, stop)

    def times(self, start: int, stop: int) -> NDArray[np.float64] | NDArray[np.datetime64] | None:
        """The time column, (n,); None if none was named."""
        return None if self.clock is None else self.clock.values(start, stop)

    def numbers(self, start: int, stop: int) -> NDArray[np.int64]:
        """The numbers of rows in the file, from 0, (n,): those with a missing value may be left out."""
        return np.arange(start, stop) if self._kept is None else np.flatnonzero(self._kept)[start:stop]

    def like(self, path: Path) -> TableSource:
        """Another table, with the same columns by name, and the same masks."""
        return TableSource(path, replace(self.wanted, columns=self.columns, masks=self.masks, known=True, rows=None))

    def timed(self, time: str | None) -> TableSource:
        """The same table with a time column, if it has one of this name."""
        named = time is not None and time.strip() in [column.name for column in self.described]
        return TableSource(self.path, replace(self.wanted, time=time)) if named else self

    def reading(self) -> Reading:
        """What was read."""
        dialect = self._form.dialect
        settings = () if dialect is None else (*dialect.settings, ("decimal mark", self._decimal))
        times = () if self.clock is None else (self.clock.range(),)
        kind = "parquet" if dialect is None else "csv"
        files = (FileSteps(str(self.path), self.steps()),)
        return Reading(files, kind, self.unit, settings, self.described, times, tuple(self._notes))

    def _first_reading(self) -> tuple[Contents, Store]:
        """Read plain numbers, and ask what the other cells hold."""
        try:
            return self._contents()
        except NotPlainError as error:
            before = self._form
            self._form = before.copied(self.path, error, self._folder)
            if before.plain and before.dialect == self._form.dialect:  # another copy would be the same
                raise
            return self._first_reading()
        except ValueError:
            if self._most is None or self._form.dialect is None or self._form.plain:
                raise
            # DuckDB looks at lines beyond those that are wanted, and one of them may be unfinished.
            self._form = self._form.copied(self.path, NotPlainError(""), self._folder)
            return self._contents()

    def _contents(self) -> tuple[Contents, Store]:
        form, rows = self._form, self._form.rows
        times = [self.wanted.time] if self.wanted.time else []
        wanted = (("columns", self.wanted.columns), ("target", self.wanted.target), ("time", times))
        found = [place for option, names in wanted for place in find(form.names, names, self.path, option)]
        found += find_some(form.names, self.wanted.perhaps)
        named = found if self.wanted.columns else range(len(form.names))
        columns = [i for i in dict.fromkeys(named) if rows.types[i] == "VARCHAR" or NUMERIC.match(rows.types[i])]
        store = write(self._plain_numbers(columns), self._place("first"), columns)
        self._check_found(store)
        asked = [i for i, nans in zip(columns, store.missing, strict=True) if nans or self.wanted.asked.na]
        infinite = np.isinf(store.lowest) | np.isinf(store.highest)
        asked += [i for i, some in zip(columns, infinite, strict=True) if some and i not in asked]
        kinds = rows.kinds(asked, self.wanted.asked.na) if asked else {}
        if form.dialect is not None:
            _check_line_ends(kinds)
        if form.parquet is not None:
            form.parquet.check_values(store.columns, store.lowest, store.highest)
        contents = Contents(
            self.path, rows.place, form.names, rows.types, form.units, store.rows, kinds, store.counting(), form.index
        )
        return contents, store

    def _plain_numbers(self, columns: Sequence[int]) -> Iterator[NDArray[np.float64]]:
        """Plain numbers of all rows in pieces, (n, C).

        Raises:
            NotPlainError: there are comments, which the first column shows.
            ValueError: the last rows begin with a word for a total, and no other does.
        """
        dialect, read = self._form.dialect, [(i, self._simple(i)) for i in columns]
        if dialect is None:
            yield from self._form.rows.values(read)
            return
        marks, rows, totals = self._unseen, 0, np.zeros(0, np.int64)
        for piece in self._form.rows.values([*read, (0, lambda cell: mark_sql(cell, marks, dialect.words))]):
            if len(found := np.flatnonzero(piece[:, -1] > 0)):
                raise NotPlainError("there are comments", comment=marks[int(piece[found[0], -1]) - 1])
            totals = np.append(totals, rows + np.flatnonzero(piece[:, -1] == TOTAL))
            rows += len(piece)
            yield piece[:, :-1]
        if len(totals) and totals[0] > 0 and totals[0] + len(totals) == rows:
            raise unlike_rows(self.path, self._form.rows.place(int(totals[0])), "begins as a line of totals does")

    def _check_found(self, store: Store) -> None:
        """Find that DuckDB sees no row where there are some, as below a header with a carriage return too many.

        Raises:
            NotPlainError: there are rows.
        """
        dialect = self._form.dialect
        if not store.rows and dialect is not None and not self._form.plain and any(row_lines(self.path, dialect)):
            raise NotPlainError("line ends differ")

    @property
    def _unseen(self) -> tuple[str, ...]:
        """The marks of comments that may stand between the rows that DuckDB reads; a plain copy lacks those met."""
        form = self._form
        return COMMENTS if form.dialect is None or not form.plain else form.dialect.open_marks

    def _second_reading(self, contents: Contents, store: Store) -> Store:
        """The numbers of the columns that are read: of the first reading, or read again where cells are not plain."""
        chosen, masked = self._choice.columns, self._choice.masked
        pieces, second = store.pieces(chosen), None
        unread = dict(zip(store.columns, store.missing, strict=True))
        if (
            self.wanted.asked.na
            or self._decimal == ","
            or any(unread[i] != contents.count(i, "missing") for i in chosen)
        ):
            read = self._form.rows.values([(i, self._full(i)) for i in chosen])
            second = write(read, self._place("second"), chosen)
            self._check_read(contents, second)
            pieces = second.pieces(chosen)
        elif chosen == store.columns and not masked and not store.missing.any():
            return store
        if self.wanted.missing == "drop":
            full = [~np.isnan(piece).any(1) for piece in pieces]
            self._kept = np.concatenate(full) if full else None
            pieces = (second or store).pieces(chosen)
        places = [chosen.index(i) for i in masked]
        last = write(
            fill(pieces, self.wanted.missing, places), self._place("last"), [*chosen, *(-1 - i for i in masked)]
        )
        if last.rows < store.rows:
            self._notes.append(f"{store.rows - last.rows:,} rows with a missing value are left out")
        return last

    def _check_read(self, contents: Contents, second: Store) -> None:
        """Refuse a cell that is a number by itself, but not with the decimal mark of the file."""
        for i, found in zip(second.columns, second.missing, strict=True):
            if found == contents.count(i, "missing"):
                continue
            pieces = self._form.rows.values([(i, self._fault(i))])
            place = contents.place(int(np.flatnonzero(np.concatenate([piece[:, 0] for piece in pieces]))[0]))
            raise ValueError(
                f"decimal: {self.path}, {place}, column {contents.names[i]!r}: the cell is no number with the "
                f"decimal mark {self._decimal!r}, which other cells have; write all cells alike"
            )

    def _clock(self, contents: Contents) -> Clock | None:
        if self.wanted.time is None:
            return None
        column = find(contents.names, [self.wanted.time], self.path, "time")[0]
        folder, timing = self._folder, self.wanted.timing
        rows, name = self._form.rows, contents.names[column]
        clock = read_clock(self.path, rows, column, name, folder, timing, self._decimal)
        unlike = None if timing is None else unlike_steps(timing, clock.timing())
        self._notes += [clock.said] if clock.said else []
        if unlike is not None:
            self._notes.append(f"time: a row every {unlike[0]}, where training had one every {unlike[1]}; {NO_TIMES}")
        return clock if self._kept is None else clock.kept(self._kept, folder / "times")

    def _unmasked(self, contents: Contents) -> list[str]:
        """A note on missing values in columns that are to have no mask, since no training file lacked any there."""
        if self.wanted.missing == "drop":
            return []
        bare = [i for i in self._choice.columns if i not in self._choice.masked and contents.count(i, "missing")]
        names = ", ".join(self._form.names[i] for i in bare)
        return [f"{names}: missing values are filled, and count as measured: training had none there"] if bare else []

    def _points(self, columns: Sequence[int]) -> Points | None:
        """The plain numbers with a point in some columns; None: there are none."""
        row, first = 0, None
        for piece in self._form.rows.values([(i, grouped_sql) for i in columns]) if columns else ():
            if np.isinf(piece).any():
                return Points(broken=True)
            if first is None and len(found := np.argwhere(~np.isnan(piece))):
                at, place = found[0]
                first = Points(False, columns[place], row + int(at), f"{piece[at, place]:.3f}")
            row += len(piece)
        return first

    def _place(self, name: str) -> Path:
        return self._folder / name

    def _simple(self, column: int) -> Callable[[str], str]:
        """What makes SQL of a plain number from the SQL of a cell."""
        return simple_sql if self._form.rows.types[column] == "VARCHAR" else _cast

    def _full(self, column: int) -> Callable[[str], str]:
        """The same for every form of a number, and NULL for what is missing."""
        decimal, na = self._decimal, self.wanted.asked.na
        if self._form.rows.types[column] == "VARCHAR":
            return lambda cell: value_sql(cell, decimal, na)

        def cast(cell: str) -> str:
            return f"CASE WHEN {missing_sql(f'CAST({cell} AS VARCHAR)', na)} THEN NULL ELSE {_cast(cell)} END"

        return cast

    def _fault(self, column: int) -> Callable[[str], str]:
        """What makes SQL of 1 for a cell that is neither missing nor a number, else 0."""
        full, na = self._full(column), self.wanted.asked.na
        return lambda cell: f"CAST({full(cell)} IS NULL AND NOT {missing_sql(cell, na)} AS DOUBLE)"


def unlike_steps(known: Timing, found: Timing) -> tuple[str, str] | None:
    """The distance of rows that are found and the one that is known, if they differ; no prediction heeds it."""
    steps = known.step, found.step
    if known.dated != found.dated or None in steps or max(steps) <= ALIKE * min(steps):  # pyright: ignore[reportArgumentType]
        return None
    there, here = (distance_text(each.step or 0.0, dated=each.dated, months=each.months) for each in (known, found))
    return here, there


def _check_line_ends(kinds: Mapping[int, Mapping[str, Found]]) -> None:
    """Find cells that show several kinds of line ends."""
    if any(each.text.endswith("\r") for found in kinds.values() for each in found.values()):
        raise NotPlainError("line ends differ")


def _cast(cell: str) -> str:
    return f"CAST({cell} AS DOUBLE)"
