"""What the user says about the form of a text table, and its header: the lines of names and units."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

from reminding.tasks.data.tables.cells import ERRORS, NUMBERS, kind_of
from reminding.tasks.data.text import encoding_name
from reminding.tasks.data.times.written import is_time

COMMENTS = ("#", "%")
Header = Literal["auto", "yes", "no"]
WIDE, WITNESSES = 1000, 10
"""Columns from which so few lines say what a column holds."""
_TIME = re.compile(r"date|time", re.I)
"""How the name of a column of times begins; no unit does."""
_RULE = re.compile(r"[-=:]+")
"""A cell of a line that is drawn below a header, as in Markdown."""


class FormError(ValueError):
    """A table whose form is another one, or is open: it is refused and not taken for a text."""


@dataclass(frozen=True)
class Asked:
    """What the user says about the form of a table; None, "auto" and () leave it to the first lines.

    Args:
        separator: of cells; " " for any run of white space.
        decimal: the decimal mark, "." or ",".
        header: whether the first line holds names.
        encoding: of the text, such as "utf-8" or "cp1252".
        na: further words or numbers that stand for a missing value.
        usual: the decimal mark of the files that were read before; it decides where a file does not.
        fixed: whether the options are those of a run, so that advice names none of them.
    """

    separator: str | None = None
    decimal: str | None = None
    header: Header = "auto"
    encoding: str | None = None
    na: tuple[str, ...] = ()
    usual: str | None = None
    fixed: bool = False

    def __post_init__(self) -> None:
        """Check the values."""
        if self.separator is not None and len(self.separator.replace("\\t", "\t")) != 1:
            raise ValueError(f"separator must be one character, or \\t for a tab, got {self.separator!r}")
        if self.decimal not in (None, ".", ","):
            raise ValueError(f"decimal must be . or , (or not be given), got {self.decimal!r}")
        if self.encoding is not None:
            encoding_name(self.encoding)  # which checks it
        if self.header not in ("auto", "yes", "no"):
            raise ValueError(f"header must be auto, yes or no, got {self.header!r}")

    @property
    def words(self) -> tuple[str, ...]:
        """Words in lower case with which a row may begin, though comments begin with the same mark."""
        return (*ERRORS, *(word.strip().lower() for word in self.na if word.strip().startswith(COMMENTS)))


@dataclass(frozen=True)
class Heading:
    """The lines above the rows.

    Args:
        lines: their number.
        names: of the columns.
        units: of the columns; "" for one without.
        above: number of lines above the names that are no part of the header, such as a title with separators.
        row_names: whether the first column holds the row names that R writes, without a name in the header.
    """

    lines: int
    names: tuple[str, ...]
    units: tuple[str, ...]
    above: int = 0
    row_names: bool = False


def find_heading(
    path: Path, lines: Sequence[tuple[int, str]], table: Sequence[Sequence[str]], width: int, asked: Asked
) -> Heading:
    """Find the lines above the rows.

    Args:
        lines: the first line of the table and those below it, with their numbers; table: their cells.
        width: number of columns.

    Raises:
        FormError: it is open what a line is; the message names it.
    """
    first, *rest = table
    body = [row for row in rest if len(row) == width][: WITNESSES if width >= WIDE else None]
    short = len(first) == width - 1 and bool(body)
    trailing = short and not any(row[-1] for row in body)  # rows that end in a separator, unlike the header
    if short and not trailing:
        title = len(first) == 1 and " " in first[0] and not lines[0][1].lstrip().startswith('"')
        _check_row_names(path, *lines[0], lines[1][1], [row[0] for row in body], title)
    names = [*first, ""] if trailing else ["", *first] if short else first
    told = asked.header == "yes" if asked.header != "auto" else _is_header(names, body, asked.na)
    if not (short or told):
        if asked.header == "auto" and not asked.fixed and _may_be_names(first, body, asked.na):
            raise FormError(
                f"header: {path}, line {lines[0][0]}: {lines[0][1][:60]!r} may name the columns or be a row; say "
                "which by --header yes or --header no"
            )
        return Heading(0, (), ("",) * width)
    found, index = rest, next((i for i in (0, 1) if _names_index(rest[i : i + WITNESSES], asked.na)), None)
    if index is not None:  # below the names, or the names and what pandas writes of their second level
        found = [*rest[:index], *rest[index + 1 :]]
    heading = replace(_with_second(path, names, found, asked.na), row_names=short and not trailing)
    if index is None:
        return heading
    names, units = (rest[index][0].strip(), *heading.names[1:]), ("", *heading.units[1:])
    return replace(heading, lines=heading.lines + 1, names=names, units=units)


def _names_index(table: Sequence[Sequence[str]], na: Sequence[str]) -> bool:
    """Whether the first line names the column of times and nothing else, as pandas writes it below other names."""
    if len(table) < 2 or len(table[0]) < 2 or any(cell.strip() for cell in table[0][1:]):
        return False
    below = [row[0] for row in table[1:] if len(row) == len(table[0])]
    name = table[0][0].strip()
    return bool(name and below) and kind_of(name, na) == "text" and not is_time(name) and all(map(is_time, below))


def _check_row_names(path: Path, number: int, header: str, row: str, cells: Sequence[str], title: bool) -> None:
    """Refuse a line one cell short above a column of values: it may be a title, or lack a name.

    The first column holds the names of rows, as R writes them, if it has texts, counts the rows, or is quoted.

    Args:
        number, header: of the short line, and the line; row: the line below it.
        cells: of the first column.
        title: whether the short line is a single cell of several words, not quoted as R quotes names: a title.

    Raises:
        FormError: names the line.
    """
    numbers = [cell for cell in cells if kind_of(cell) in NUMBERS]
    counted = all(map(is_digits, numbers)) and all(int(b) - int(a) == 1 for a, b in pairwise(numbers))
    if title or (numbers and not counted and not row.startswith('"')):
        raise FormError(
            f"header: {path}, line {number}: {header[:60]!r} has one cell less than the lines below it; name every "
            "column or, if it is a title, delete it"
        )


def fits(place: int, row: Sequence[str], table: Sequence[Sequence[str]], width: int, headed: bool) -> bool:
    """Whether a line belongs to a table: it is as wide, or it is a header one cell short of the next line.

    Args:
        headed: whether there may be a header.
    """
    if len(row) == width or not headed:
        return len(row) == width
    following: Sequence[str] = table[place + 1] if place + 1 < len(table) else ()
    if len(row) != width - 1 or len(following) != width or not row:
        return False
    return all(kind_of(cell) == "text" for cell in row) and any(kind_of(cell) in NUMBERS for cell in following)


def _is_header(row: Sequence[str], body: Sequence[Sequence[str]], na: Sequence[str]) -> bool:
    """Whether a line holds names: texts, where the lines below it hold numbers, or one where they hold times."""
    if not body:
        return all(kind_of(cell, na) in ("text", "missing") for cell in row)
    if any(_names_times(row, body, i, na) for i in range(len(row))):
        return True
    pairs = [(kind_of(cell, na), _most_frequent(body, i, na)) for i, cell in enumerate(row)]
    over_numbers = [above for above, below in pairs if below in NUMBERS]
    if not over_numbers:  # a table without numbers, which is refused later by the names of its columns
        return all(above == "text" for above, _ in pairs)
    texts = over_numbers.count("text") + over_numbers.count("timestamp")
    numbers = sum(above in NUMBERS for above in over_numbers)
    if texts and not numbers:
        return True
    return bool(numbers) and _counts_up(row, body)


def _names_times(row: Sequence[str], body: Sequence[Sequence[str]], column: int, na: Sequence[str]) -> bool:
    """Whether a cell above times is no time: a text or, in the first column, which may lack a name, a blank."""
    cell = row[column].strip()
    below = [line[column] for line in body if kind_of(line[column], na) != "missing"]
    if not below or 2 * sum(map(is_time, below)) <= len(below):
        return False
    if not cell:
        return column == 0 and len(below) == len(body)
    return kind_of(cell, na) == "text" and not is_time(cell)


def _counts_up(row: Sequence[str], body: Sequence[Sequence[str]]) -> bool:
    """Whether a line is a header of consecutive numbers: 0, 1, 2, ..., 1, 2, 3, ..., or years."""
    places = [i for i, cell in enumerate(row) if is_digits(cell)]
    values = [int(row[i]) for i in places]
    others = [cell for i, cell in enumerate(row) if i not in places]
    if len(values) < 2 or any(b - a != 1 for a, b in pairwise(values)):
        return False
    if values[0] not in (0, 1) and not 1500 <= values[0] <= 2200:
        return False
    if len(others) > 1 or any(kind_of(cell) not in ("text", "missing") for cell in others):
        return False
    if others and others[0]:  # a name over the column of row names: only years are surely names beside it
        return row[0] == others[0] and values[0] >= 1500
    return bool(others) or any("." in line[i] or "," in line[i] for line in body for i in places)


def _may_be_names(row: Sequence[str], body: Sequence[Sequence[str]], na: Sequence[str]) -> bool:
    """Whether a line like a row may hold names: a text over texts, then growing whole numbers, such as depths.

    Each of these numbers stands over one with decimals, and the text is not among those below it.
    """
    numbers, below = row[1:], [line[0] for line in body]
    if len(numbers) < 2 or not body or not all(map(is_digits, numbers)) or row[0] in below:
        return False
    if any(int(b) <= int(a) for a, b in pairwise(numbers)) or is_time(row[0]):
        return False
    texts = all(kind_of(cell, na) == "text" for cell in (row[0], *below))
    broken = (
        [kind_of(line[i], na) in NUMBERS and not is_digits(line[i]) for line in body] for i in range(1, len(row))
    )
    return texts and all(map(any, broken))


def _most_frequent(body: Sequence[Sequence[str]], column: int, na: Sequence[str]) -> str:
    kinds = Counter(kind_of(row[column], na) for row in body)
    del kinds["missing"]
    return max(kinds, key=lambda kind: kinds[kind]) if kinds else "missing"


def _with_second(path: Path, header: Sequence[str], table: Sequence[Sequence[str]], na: Sequence[str]) -> Heading:
    """The header, and the line below it if that is no row.

    Such a line holds the units, or a part of the names if those in the header repeat, or all of them if it names a
    column of times and the header does not; or it is drawn, as in Markdown.

    Args:
        table: the cells of the lines below the header.

    Raises:
        FormError: further lines have texts above columns of numbers.
    """
    no_units = ("",) * len(header)
    if not _is_text(table, na):
        return Heading(1, tuple(header), no_units)
    if _is_text(table[1:], na):
        raise FormError(
            f"header: {path}: {', '.join(table[1])[:60]!r} is the third of several lines of texts above columns of "
            "numbers; leave the names and, below them, the units"
        )
    given, below = [name for name in header if name], ["" if _RULE.fullmatch(cell) else cell for cell in table[0]]
    if any(below) and len({*given}) < len(given):
        names = tuple(f"{above} {name}".strip() for above, name in zip(header, below, strict=True))
        return Heading(2, names, no_units)
    if any(map(_TIME.match, below)) and not any(map(_TIME.match, given)):
        return Heading(2, tuple(below), no_units, above=1)
    return Heading(2, tuple(header), tuple(cell.strip("()[] ") for cell in below))


def _is_text(table: Sequence[Sequence[str]], na: Sequence[str]) -> bool:
    """Whether the first line has texts in every column whose other lines are numbers."""
    if len(table) < 2 or len(table[0]) != len(table[1]):
        return False
    if all(kind_of(cell, na) != "text" for cell in table[0]):
        return False
    body = [row for row in table[1:] if len(row) == len(table[0])]
    kinds = [_most_frequent(body, i, na) for i in range(len(table[0]))]
    above = [kind_of(cell, na) for cell, below in zip(table[0], kinds, strict=True) if below in NUMBERS]
    return "text" in above and not set(above) - {"text", "missing"}


def unique_names(names: Sequence[str], unnamed: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """A name of its own for each column, and notes on those that were changed.

    Args:
        names: those given, with or without blanks around them.
        unnamed: what each column is called if it has no name, or none is given.
    """
    notes: list[str] = []
    given = [name.strip() for name in names]
    known = set(given)
    found: dict[str, None] = {}
    for place, default in enumerate(unnamed):
        name = (given[place] if place < len(given) else "") or default
        count, unique = 0, name
        while unique in found or (count and unique in known):
            count += 1
            unique = f"{name}.{count}"
        if count:
            notes.append(f"several columns are called {name!r}; column {place + 1} is called {unique!r} here")
        found[unique] = None
    return tuple(found), notes


def is_digits(cell: str) -> bool:
    """Whether a cell holds a whole number in digits."""
    return re.fullmatch("[+-]?[0-9]+", cell) is not None
