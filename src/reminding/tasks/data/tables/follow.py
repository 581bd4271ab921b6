"""A text table that is still being written, followed line by line.

Shapes: n rows, I values of a step: the columns, then their masks if missing values are filled.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.reading import Column, FileSteps, Reading, Role
from reminding.tasks.data.sources import Growth, Source, read_range
from reminding.tasks.data.tables.cells import NUMBERS, kind_of, may_be_grouped, value_of
from reminding.tasks.data.tables.columns import (
    NAMES,
    ROW_NUMBERS,
    Contents,
    Points,
    Wanted,
    ambiguous_decimal,
    find,
    find_decimal,
    mixed_cell,
    rounded,
)
from reminding.tasks.data.tables.database import Found
from reminding.tasks.data.tables.dialect import find_dialect
from reminding.tasks.data.tables.source import TableSource, not_followed
from reminding.tasks.data.tables.store import carried
from reminding.tasks.data.text import is_followable

STRIDE = 256
"""Rows between two recorded places in the file."""
BLOCK = 1 << 20
"""Bytes read at a time to find these places."""


class FollowedTable(Source):
    """Columns of a growing text table, one step per complete line.

    The columns are those with numbers in the lines that were there at the beginning. With carry or zero, every column
    has a mask.

    Attributes:
        decimal: the decimal mark, if an option or a row that was there decided it; else None.

    Raises:
        ValueError: what is wanted needs a complete file or, on reading, a cell is not a number. The message names the
            line.
    """

    vocabulary = None
    unit = "row"

    def __init__(self, path: Path, wanted: Wanted) -> None:
        super().__init__(path)
        if fault := not_followed(path, wanted):
            raise ValueError(f"follow: {fault}")
        self.wanted = wanted
        self._growth = Growth(path)
        self._dialect = find_dialect(path, wanted.asked)
        if not is_followable(self._dialect.encoding):
            raise ValueError(f"follow: {path} is {self._dialect.encoding}, expected UTF-8 or one byte a character")
        self._places: list[tuple[int, int]] = []  # (offset, line) of rows 0, STRIDE, 2 STRIDE, ...
        self._rows, self._scanned, self._line = 0, 0, 0
        self._commas = False  # whether a cell may hold a comma
        self._find_rows()
        if not self._rows and not wanted.columns:
            raise ValueError(f"data: {path} has no complete row yet; a row ends in a line feed")
        self._counting: set[int] = set()
        self._chosen = self._choose()
        self._decimal, decided = self._find_decimal()
        self.decimal = self._decimal if decided else None
        self._decided = decided or self._dialect.separator == ","
        self._truths: dict[int, bool] = {}  # whether a column holds true and false, by its first cell
        self.columns = tuple(self._dialect.names[i] for i in self._chosen)
        self.masks = self.columns if wanted.missing in ("carry", "zero") else ()

    @property
    def features(self) -> int:
        """I: the columns, and their masks."""
        return len(self.columns) + len(self.masks)

    def steps(self) -> int:
        """Complete lines below the header."""
        self._find_rows()
        return self._rows

    def read(self, start: int, stop: int) -> NDArray[np.float64]:
        """Rows, (n, I). A missing value is NaN, unless one could be carried to it."""
        values = self._numbers(start, stop)
        if not self.masks:
            return values
        masks = np.isnan(values)
        if self.wanted.missing == "carry":
            values = carried(values, self._latest(start))
        return np.concatenate([values, masks.astype(np.float64)], axis=1)

    def like(self, path: Path) -> Source:
        """Another table, complete, with the same columns by name, and the same masks."""
        return TableSource(path, replace(self.wanted, columns=self.columns, masks=self.masks, known=True))

    def reading(self) -> Reading:
        """What was read so far."""
        dialect, target = self._dialect, {name.strip() for name in self.wanted.target}
        described: list[Column] = []
        for number, (name, unit) in enumerate(zip(dialect.names, dialect.units, strict=True)):
            role: Role = "ignored" if name not in self.columns else "input and target"
            if role != "ignored" and target and name not in target:
                role = "known input"
            reason = "not wanted, or not of numbers" if role == "ignored" else ""
            reason = "row numbers" if number in self._counting else reason
            described.append(Column(name, "number" if role != "ignored" else "other", role, reason, 0, unit))
        settings = (*dialect.settings, ("decimal mark", self._decimal))
        files = (FileSteps(str(self.path), self.steps()),)
        notes = (*dialect.remarks, *rounded(self.columns, self._largest()))
        return Reading(files, "csv, followed", self.unit, settings, tuple(described), notes=notes)

    def _largest(self) -> NDArray[np.float64]:
        """The largest size of a number in the first rows of each column, (C,), NaN where there is none."""
        rows = [
            cells for _, cells in self._cells(0, min(self._rows, STRIDE)) if len(cells) == len(self._dialect.names)
        ]
        read = [[value_of(cells[i], self._decimal, self.wanted.asked.na) for i in self._chosen] for cells in rows]
        values = np.array(read, dtype=np.float64).reshape(-1, len(self._chosen))  # None becomes NaN
        return np.fmax.reduce(np.abs(values), axis=0, initial=np.nan)

    def _choose(self) -> list[int]:
        names = [*self.wanted.columns, *self.wanted.target]
        found = list(dict.fromkeys(find(self._dialect.names, names, self.path))) if names else []
        if self.wanted.columns:
            return found
        first = [self._checked(*row) for row in self._cells(0, min(self._rows, STRIDE))]
        kinds = [[kind_of(row[i], self.wanted.asked.na) for row in first] for i in range(len(self._dialect.names))]
        numbers = [
            i
            for i, column in enumerate(kinds)
            if i in found or 2 * sum(kind in NUMBERS for kind in column) > sum(kind != "missing" for kind in column)
        ]
        self._counting = {i for i in numbers if i not in found and self._counts([row[i] for row in first], i)}
        numbers = [i for i in numbers if i not in self._counting]
        if not numbers:
            raise ValueError(f"data: {self.path} has no column of numbers in its first {len(first)} rows")
        return numbers

    def _counts(self, cells: Sequence[str], column: int) -> bool:
        """Whether a column counts the rows from 0 or 1, and has the name of one that does."""
        if self._dialect.names[column].strip().lower() not in ROW_NUMBERS or len(cells) < 2:
            return False
        return any(
            [cell.strip() for cell in cells] == [str(i + first) for i in range(len(cells))] for first in (0, 1)
        )

    def _find_decimal(self) -> tuple[str, bool]:
        """The decimal mark by the rows there are, as `find_decimal` finds it, and whether anything decided it."""
        dialect, na, kinds = self._dialect, self.wanted.asked.na, dict[int, dict[str, Found]]()
        for start in range(0, self._rows, STRIDE) if self._commas and not self.wanted.asked.decimal else ():
            for row, (_, cells) in enumerate(self._cells(start, min(start + STRIDE, self._rows)), start):
                for i in self._chosen if len(cells) == len(dialect.names) else ():
                    if "," in cells[i] and (kind := kind_of(cells[i], na)) not in kinds.setdefault(i, {}):
                        kinds[i][kind] = Found(1, row, cells[i])
        numbers = {i: {kind: cell for kind, cell in found.items() if kind in NUMBERS} for i, found in kinds.items()}
        count = len(dialect.names)
        contents = Contents(
            self.path,
            self._place,
            dialect.names,
            ("VARCHAR",) * count,
            dialect.units,
            self._rows,
            numbers,
            frozenset(),
            frozenset(),
        )
        mark, decided = find_decimal(contents, dialect.separator, self.wanted.asked, self._points)
        if not decided and self.wanted.asked.usual is not None and dialect.separator != ",":
            return self.wanted.asked.usual, True  # cells that show another one may follow, and are refused
        return mark, decided

    def _points(self, columns: Sequence[int]) -> Points | None:
        """The plain numbers with a point in those of some columns that are read; None: there are none."""
        first, na = None, self.wanted.asked.na
        for start in range(0, self._rows, STRIDE):
            for row, (_, cells) in enumerate(self._cells(start, min(start + STRIDE, self._rows)), start):
                for i in self._chosen if len(cells) == len(self._dialect.names) else ():
                    if i in columns and "." in cells[i] and kind_of(cells[i], na) == "number":
                        if not may_be_grouped(cells[i]):
                            return Points(broken=True)
                        first = first or Points(False, i, row, cells[i])
        return first

    def _place(self, row: int) -> str:
        return f"line {self._cells(row, row + 1)[0][0]}"

    def _find_rows(self) -> None:
        """Record the offset of every STRIDE-th row, from the end of the last search on."""
        size = self._growth.size()
        while self._scanned < size:
            block = read_range(self.path, self._scanned, min(self._scanned + BLOCK, size))
            complete = block.rfind(b"\n") + 1
            if not complete:
                if len(block) == BLOCK:
                    raise ValueError(f"data: {self.path}, line {self._line + 1} has more than {BLOCK} bytes")
                return
            for line in BytesIO(block[:complete]):  # which ends lines as readline does, and not at a carriage return
                self._line += 1
                text = line.decode(self._dialect.encoding, errors="replace")
                self._dialect = self._dialect.met(text)
                if self._line > self._dialect.rows_from and not self._dialect.left_out(text):
                    if self._rows % STRIDE == 0:
                        self._places.append((self._scanned, self._line))
                    self._rows += 1
                    self._commas |= (b'"' if self._dialect.separator == "," else b",") in line
                self._scanned += len(line)

    def _cells(self, start: int, stop: int) -> list[tuple[int, list[str]]]:
        """The cells of some rows, with the numbers of their lines."""
        if start >= stop:
            return []
        offset, number = self._places[start // STRIDE]
        found: list[tuple[int, list[str]]] = []
        skipped = start % STRIDE
        with self.path.open("rb") as file:
            file.seek(offset)
            while len(found) < stop - start:
                line = self._decoded(file.readline(), number)
                if not self._dialect.left_out(line):
                    if skipped == 0:
                        found.append((number, self._split(line, number)))
                    skipped -= skipped > 0
                number += 1
        return found

    def _split(self, line: str, number: int) -> list[str]:
        try:
            return self._dialect.cells(line)
        except csv.Error as error:
            what = "has a carriage return within it, or characters that no cell may hold; write each row as a line"
            raise ValueError(f"data: {self.path}, line {number}: the line {what}") from error

    def _checked(self, line: int, cells: list[str]) -> list[str]:
        """The cells of a line, if there is one for each column."""
        if len(cells) != len(self._dialect.names):
            raise ValueError(
                f"data: {self.path}, line {line}: {len(cells)} cells, expected {len(self._dialect.names)}"
            )
        return cells

    def _decoded(self, line: bytes, number: int) -> str:
        try:
            return line.decode(self._dialect.encoding).rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"encoding: {self.path}, line {number}: {error}; name its --encoding") from error

    def _numbers(self, start: int, stop: int) -> NDArray[np.float64]:
        """The columns of some rows, (n, C), NaN where a value is missing."""
        values = np.empty((stop - start, len(self._chosen)))
        for row, (line, cells) in enumerate(self._cells(start, stop)):
            self._checked(line, cells)
            for j, column in enumerate(self._chosen):
                value = value_of(cells[column], self._decimal, self.wanted.asked.na)
                if value is None or (np.isnan(value) and not self.masks) or self._is_open(cells[column]):
                    raise self._refusal(f"line {line}", self.columns[j], cells[column])
                if not self._is_alike(column, cells[column], value):
                    raise mixed_cell(self.path, f"line {line}", self.columns[j], cells[column], self.wanted.asked)
                values[row, j] = value
        return values

    def _is_alike(self, column: int, cell: str, value: float) -> bool:
        """Whether a cell with a value is a number in a column of numbers, or true or false in one of these."""
        if np.isnan(value):
            return True
        truth = value in (0, 1) and cell.strip()[:1] in "tfTF"
        return self._truths.setdefault(column, truth) == truth

    def _is_open(self, cell: str) -> bool:
        """Whether a cell may be one of two numbers, since nothing has shown the decimal mark; 12.5 shows it."""
        if self._decided or not ("," in cell or "." in cell):
            return False
        kind = kind_of(cell, self.wanted.asked.na)
        if kind != "number" or self._dialect.separator != ";" or self.wanted.asked.fixed:
            return kind == "either"
        self._decided = not may_be_grouped(cell)
        return not self._decided

    def _refusal(self, place: str, column: str, cell: str) -> ValueError:
        """What is raised for a cell that cannot be read."""
        if self._is_open(cell):
            return ambiguous_decimal(self.path, place, column, cell, self.wanted.asked)
        kind = kind_of(cell, self.wanted.asked.na)
        where = f"{self.path}, {place}, column {column!r}: {cell!r}"
        if kind in NUMBERS:
            return ValueError(
                f"decimal: {where} is no number with the decimal mark {self._decimal!r}; "
                + ("write all cells alike" if self._decided else "--decimal names the mark")
            )
        what, do = ("is missing", "missing carry or zero") if kind == "missing" else ("is not a number", "na")
        unnamed = kind == "text" and not self._dialect.header and place == self._place(0)
        return ValueError(f"data: {where} {what}; {NAMES if unnamed else ''}--{do} says what to do")

    def _latest(self, start: int) -> NDArray[np.float64]:
        """The last known value of each column before a row, (C,); NaN if there is none."""
        latest = np.full(len(self._chosen), np.nan)
        while start > 0 and np.isnan(latest).any():
            begin = max(0, start - STRIDE)
            values = carried(self._numbers(begin, start), None)[-1]
            latest = np.where(np.isnan(latest), values, latest)
            start = begin
        return latest
