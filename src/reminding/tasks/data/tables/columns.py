"""The columns of a table: which are read, which are predicted, and why the others are not; and the decimal mark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.reading import Column, Role, told_name
from reminding.tasks.data.tables.cells import NUMBERS, kind_of
from reminding.tasks.data.tables.clock import EXACT, Timing
from reminding.tasks.data.tables.database import NUMERIC, TIMES, Found
from reminding.tasks.data.tables.header import Asked
from reminding.tasks.data.tables.store import Missing

SHOWN = 20
"""Names in a message."""
ENDING = 10
"""Lines below the rows, such as totals, at most."""
NAMES = "--header yes reads the line as names, "
"""The advice where a text stands in the first line of a table that has no names."""
ROW_NUMBERS = ("column 1", "unnamed: 0", "index", "row", "id")
"""What columns of row numbers are called, in lower case; the first two by this package and pandas, without a name."""


@dataclass(frozen=True)
class Wanted:
    """What the user says about a table.

    Args:
        columns: to read; (): every column of numbers.
        target: those to predict; (): all that are read.
        time: the column of times, which is checked and is no input.
        missing: what a missing value becomes.
        masks: columns with a mask as a further input; None: those with a missing value in this file.
        asked: the form of a text table.
        known: whether the columns are those of a run or of other files. With carry and zero, one of them without a
            value in this file is missing throughout.
        perhaps: further columns, which are read if they hold numbers.
        rows: that are read, from the first, before any is dropped; None: all.
        timing: of the times of the training data, if this is another table.
    """

    columns: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    time: str | None = None
    missing: Missing = "error"
    masks: tuple[str, ...] | None = None
    asked: Asked = field(default_factory=Asked)
    known: bool = False
    perhaps: tuple[str, ...] = ()
    rows: int | None = None
    timing: Timing | None = None


@dataclass(frozen=True)
class Contents:
    """What the columns of a table hold, from a first reading.

    Args:
        path: of the table.
        place: names a row, for messages.
        rows: their number.
        kinds: of the cells of a column, if some are not plain numbers; by column.
        counting: columns that count the rows from 0 or 1.
        index: columns that hold names or numbers of rows by the form of the file.
    """

    path: Path
    place: Callable[[int], str]
    names: tuple[str, ...]
    types: tuple[str, ...]
    units: tuple[str, ...]
    rows: int
    kinds: Mapping[int, Mapping[str, Found]]
    counting: frozenset[int]
    index: frozenset[str]

    def count(self, column: int, *kinds: str) -> int:
        """Number of cells of some kinds."""
        if column not in self.kinds:
            return self.rows if "number" in kinds else 0
        return sum(self.kinds[column][kind].count for kind in kinds if kind in self.kinds[column])

    def kind(self, column: int) -> str:
        """What a column holds: "number", "text", "timestamp", "empty", or a type that is none of these."""
        kind = self.types[column]
        if TIMES.match(kind):
            return "timestamp"
        if kind != "VARCHAR" and not NUMERIC.match(kind):
            return kind
        numbers, texts = self.count(column, *NUMBERS, "infinite"), self.count(column, "text")
        times = self.count(column, "timestamp")
        if numbers + texts + times == 0:
            return "empty"
        if numbers >= texts + times:
            return "number"
        return "timestamp" if times >= texts else "text"


class Points(NamedTuple):
    """Plain numbers with a point.

    Attributes:
        broken: whether one is such as 12.5 or 0.123, which shows that the point is the decimal mark.
        column, row, text: of the first one such as 2.146, which may be 2146; of no meaning if `broken`.
    """

    broken: bool
    column: int = 0
    row: int = 0
    text: str = ""


@dataclass(frozen=True)
class Choice:
    """The columns that are read.

    Args:
        columns: their numbers in the file.
        masked: those of them, by number in the file, that have a mask.
        described: all columns of the file.
    """

    columns: tuple[int, ...]
    masked: tuple[int, ...]
    described: tuple[Column, ...]


def find(names: Sequence[str], wanted: Sequence[str], path: Path, option: str = "columns") -> list[int]:
    """The numbers of columns by their names; blanks around a name do not matter.

    Raises:
        ValueError: there is no such column; the message has the nearest names.
    """
    stripped = [name.strip() for name in names]
    places = {name: i for i, name in reversed([*enumerate(stripped)])} | {name: i for i, name in enumerate(names)}
    found: list[int] = []
    for name in wanted:
        if (place := places.get(name, places.get(name.strip()))) is not None:
            found.append(place)
        else:
            lower = {each.lower(): each for each in stripped}
            near = [lower[each] for each in get_close_matches(name.strip().lower(), lower, 1)]
            meant = f"; did you mean {near[0]!r}?" if near else ""
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            listed = ", ".join(map(told_name, stripped[:SHOWN])) + more
            bare = stripped == [*map(str, range(len(stripped)))]
            header = "; its header line, which names the columns, may be missing" if bare else ""
            raise ValueError(f"{option}: {path} has no {name!r}; it has {listed}{meant}{header}")
    return found


def find_some(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """The numbers of those columns that there are, by their names; blanks around a name do not matter."""
    stripped = {name.strip() for name in wanted}
    return [i for i, name in enumerate(names) if name.strip() in stripped]


def choose(contents: Contents, wanted: Wanted) -> Choice:
    """Choose the columns to read, and say of each other one why it is not read.

    Raises:
        ValueError: there is no column of numbers, a wanted column holds something else, or a cell is no number or is
            missing; the message names file, line and column, and what to do.
    """
    names = contents.names
    asked = dict.fromkeys(find(names, [*wanted.columns], contents.path))
    asked |= dict.fromkeys(find(names, [*wanted.target], contents.path, "target"))
    time = find(names, [wanted.time], contents.path, "time")[0] if wanted.time is not None else None
    if time is not None and time in asked:
        raise ValueError(f"time: the column {names[time]!r} is the time, and cannot be among columns or target")
    reasons = [_reason(contents, i) for i in range(len(names))]
    for i in asked:
        _check_numbers(contents, i, wanted)
    further = [i for i in find_some(names, wanted.perhaps) if contents.kind(i) == "number"]
    if wanted.columns:
        used = list(dict.fromkeys([*asked, *further]))
    else:
        used = [i for i in range(len(names)) if i != time and (i in asked or not reasons[i])]
    if not used and not contents.rows:
        raise ValueError(f"data: {contents.path} has no rows")
    if not used:
        held = "; ".join(f"{names[i]!r} {reasons[i]}" for i in range(min(len(names), 5)) if i != time)
        raise ValueError(
            f"data: {contents.path} has no column of numbers" + (f": {held}" if held else " beside the time")
        )
    _check_cells(contents, used, wanted)
    _check_alike(contents, used, wanted)
    _check_end(contents, range(len(names)) if time is None else ())  # a row without the time is refused later
    missing = [i for i in used if contents.count(i, "missing")]
    if missing and wanted.missing == "error":
        raise ValueError(_missing(contents, missing, wanted.asked))
    masked = missing if wanted.missing in ("carry", "zero") else []
    if wanted.masks is not None:
        masks = find_some(names, wanted.masks)
        masked = [i for i in used if i in masks]
    reads = frozenset(used)
    described = [_described(contents, i, reads, time, reasons, wanted) for i in range(len(names))]
    return Choice(tuple(used), tuple(masked), tuple(described))


def find_decimal(
    contents: Contents, separator: str, asked: Asked, points_of: Callable[[Sequence[int]], Points | None]
) -> tuple[str, bool]:
    """The decimal mark of a text table, "." or ",", and whether an option or a cell decided it.

    Args:
        points_of: the cells with a point in some columns; None: there are none. It is asked where commas are the
            decimal mark of earlier files, or semicolons separate, so that 2.146 may be 2146.

    Raises:
        ValueError: 2,146 may be 2146 or 2.146, or 2.146 may, and nothing in the file decides it.
    """
    if asked.decimal is not None:
        return asked.decimal, True
    columns = [i for i in range(len(contents.names)) if contents.kind(i) == "number"]
    commas = [i for i in columns if contents.count(i, "comma", "european")]
    points = [i for i in columns if contents.count(i, "thousands")]
    either = [i for i in columns if contents.count(i, "either")]
    if commas:
        return ",", True
    if either and not points and asked.usual is not None:
        return asked.usual, True
    if either and not points and separator != ",":
        found = contents.kinds[either[0]]["either"]
        place = contents.place(found.row)
        raise ambiguous_decimal(contents.path, place, contents.names[either[0]], found.text, asked)
    european = asked.usual == "," and separator != ","
    perhaps = european or (separator == ";" and asked.usual is None and not asked.fixed)
    if perhaps and not points and (found := points_of(columns)) is not None:
        if european or found.broken:
            return "." if found.broken else ",", True
        place = contents.place(found.row)
        raise ambiguous_decimal(contents.path, place, contents.names[found.column], found.text, asked)
    return ".", bool(points)


def ambiguous_decimal(path: Path, place: str, column: str, cell: str, asked: Asked) -> ValueError:
    """What is raised for a cell that may be one of two numbers."""
    value = cell.strip()
    whole, broken = value.replace(",", "").replace(".", ""), value.replace(",", ".")
    fixed = f"nothing tells which, here or in the training data; write it as {whole} or {broken}"
    return ValueError(
        f"decimal: {path}, {place}, column {column!r}: {value!r} may be {whole} or {broken}; "
        + (fixed if asked.fixed else "say which by --decimal . or --decimal ,")
    )


def _reason(contents: Contents, column: int) -> str:
    """Why a column is not read where no columns are named; "" if it is."""
    kind, name = contents.kind(column), contents.names[column]
    if name in contents.index:
        return "row names"
    if name.strip().lower() in ROW_NUMBERS and column in contents.counting:
        return "row numbers"
    if kind == "number":
        return ""
    if kind == "empty":
        return "no values"
    if kind == "timestamp":
        return f"times; --time {name} checks their order"
    if kind == "text":
        found = contents.kinds[column]["text"]
        return f"text, such as {found.text.strip()[:40]!r} in {contents.place(found.row)}"
    return f"of type {kind}"


def _check_numbers(contents: Contents, column: int, wanted: Wanted) -> None:
    kind, name = contents.kind(column), contents.names[column]
    if kind == "empty" and not contents.rows and wanted.missing not in ("carry", "zero"):
        raise ValueError(f"data: {contents.path} has no rows")
    if kind in ("number", "text"):  # of a text, the first cell is named below
        return
    if kind == "empty" and wanted.known and wanted.missing in ("carry", "zero"):
        return
    doing = {"empty": "leave it out of --columns", "timestamp": f"name it as --time {name}"}
    if wanted.asked.fixed:
        doing = {
            "empty": "a run with --missing carry or zero would fill it",
            "timestamp": "write numbers, as in training",
        }
    what = {"empty": "has no values", "timestamp": "holds times"}
    rest = f"is of type {kind}", "write its parts as columns of numbers"
    raise ValueError(
        f"columns: {contents.path}, column {name!r} {what.get(kind, rest[0])}, expected numbers; "
        f"{doing.get(kind, rest[1])}"
    )


def _check_cells(contents: Contents, used: Sequence[int], wanted: Wanted) -> None:
    """Refuse the first cell of the columns that is neither a number nor missing."""
    faults = [
        (contents.kinds[i][kind].row, i, kind)
        for i in used
        for kind in ("text", "timestamp", "infinite")
        if contents.count(i, kind)
    ]
    if not faults:
        return
    row, column, kind = min(faults)
    text = contents.kinds[column][kind].text.strip()
    others = contents.count(column, "text", "timestamp", "infinite") - 1
    more = f", as {others} more cells of it" if others else ""
    what = "is not finite" if kind == "infinite" else "is not a number"
    place = contents.place(row)
    unnamed = row == 0 and contents.names[column] == str(column) and place.startswith("line") and kind == "text"
    do = f"{NAMES if unnamed else ''}--na {text!r} reads it as missing, --columns names the columns to read"
    if kind == "text" and not unnamed and not contents.count(column, *NUMBERS):
        do = "the column holds text alone; write numbers in its place, or leave it out: --columns names those to read"
    empty = "" if wanted.missing == "error" else ", or leave the cell empty if the value is missing"
    do = f"write a number{empty}" if wanted.asked.fixed else do
    if text == contents.names[column].strip():
        do = "the line of names stands here again, as where files were joined; delete it"
    raise ValueError(
        f"data: {contents.path}, {place}, column {contents.names[column]!r}: {text!r} {what}{more}; {do}"
    )


def _check_alike(contents: Contents, used: Sequence[int], wanted: Wanted) -> None:
    """Refuse `true` and `false` among numbers, which are 1 and 0 only in a column of their own."""
    for i in used:
        kinds = {kind: found for kind, found in contents.kinds.get(i, {}).items() if kind in NUMBERS}
        truths = kinds.pop("boolean", None)
        if truths is not None and kinds:
            first = min(kinds.values(), key=lambda each: each.row)
            odd = first if sum(each.count for each in kinds.values()) < truths.count else truths
            raise mixed_cell(contents.path, contents.place(odd.row), contents.names[i], odd.text, wanted.asked)


def mixed_cell(path: Path, place: str, column: str, cell: str, asked: Asked) -> ValueError:
    """What is raised for a cell of a column that has both numbers, and true or false."""
    text = cell.strip()
    do = "" if asked.fixed else f"; --na {text!r} reads it as missing"
    return ValueError(
        f"data: {path}, {place}, column {column!r}: {text!r} stands in a column of "
        f"{'numbers' if kind_of(text) == 'boolean' else 'true and false'}; write all its cells alike{do}"
    )


def _check_end(contents: Contents, columns: Sequence[int]) -> None:
    """Refuse last rows without a time in a column of times, which no other row lacks, unless a further one has it."""
    times = [i for i in columns if contents.kind(i) == "timestamp"]
    for i in times if all(contents.count(i, "text", "missing") for i in times) else ():
        found = [contents.kinds[i][kind] for kind in ("text", "missing") if contents.count(i, kind)]
        count = sum(each.count for each in found)
        if count <= ENDING:
            first = min(found, key=lambda each: each.row)
            if first.row + count == contents.rows:
                what = f"has {first.text.strip()[:40]!r} in the column {contents.names[i]!r} in the place of a time"
                raise unlike_rows(contents.path, contents.place(first.row), what)


def unlike_rows(path: Path, place: str, what: str) -> ValueError:
    """What is raised for the first of some lines at the end of a table that are none of its rows."""
    return ValueError(
        f"data: {path}, {place}: the line {what}, and none before it; delete what is no row of the table"
    )


def _missing(contents: Contents, missing: Sequence[int], asked: Asked) -> str:
    row, column = min((contents.kinds[i]["missing"].row, i) for i in missing)
    cells = sum(contents.count(i, "missing") for i in missing)
    names = ", ".join(repr(contents.names[i]) for i in missing[:5]) + (", ..." if len(missing) > 5 else "")
    do = "--missing carry (the last value), zero or drop (the row) says what to do"
    fixed = "the run was trained on rows without missing values, and needs this one; write it"
    return (
        f"missing: {contents.path}, {contents.place(row)}, column {contents.names[column]!r}: the value is missing, "
        f"one of {cells:,} in {names}; {fixed if asked.fixed else do}"
    )


def _described(
    contents: Contents, column: int, used: frozenset[int], time: int | None, reasons: Sequence[str], wanted: Wanted
) -> Column:
    name, kind = contents.names[column], contents.kind(column)
    target = {each.strip() for each in wanted.target}
    role: Role = "input and target" if not target or name.strip() in target else "known input"
    reason = ""
    if column == time:
        role = "time"
    elif column not in used:
        unnamed = "not among the columns that are needed" if wanted.known else "not among the columns named"
        role, reason = "ignored", reasons[column] or unnamed
    return Column(name, kind, role, reason, contents.count(column, "missing"), contents.units[column])


def rounded(names: Sequence[str], largest: NDArray[np.float64]) -> list[str]:
    """A note on columns with numbers of more digits than float64 has.

    Args:
        largest: the largest size of a number in each column, (C,), NaN where there is none.
    """
    beyond = ", ".join(name for name, value in zip(names, largest, strict=True) if value >= EXACT)
    return [f"{beyond}: numbers beyond 2^53 are read to 16 digits; a counter loses its steps of 1"] if beyond else []
