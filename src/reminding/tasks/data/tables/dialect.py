"""How a text table is written: its separator, header, units and decimal mark, found in its first lines.

DuckDB's own sniffer was tried and takes decimal commas for separators, a header that is one cell short for a row, and
blanks between cells for one column of text. So the first lines are examined here; DuckDB reads all the others.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import StringIO
from itertools import islice, pairwise
from pathlib import Path
from typing import Literal

from reminding.tasks.data.tables.cells import ERRORS, NUMBERS, kind_of
from reminding.tasks.data.text import LeftOut, encoding_name, find_encoding, logical_lines, open_text

Header = Literal["auto", "yes", "no"]
SEPARATORS = ("\t", ";", "|", ",", " ")
"""Tried in this order where the first lines fit several; a blank stands for any run of white space."""
HEAD = 100
"""Lines that are examined."""
HEAD_SIZE = 1 << 20
"""Characters that are examined, if they hold at least three lines."""
WITNESSES = 10
"""Lines whose cells say what a column holds, in a table of thousands of columns."""
SAMPLE = 1000
"""Cells of a line that say whether a separator is the right one."""
NAMES = {"\t": "tab", " ": "white space", "": "none"}
COMMENTS = ("#", "%")


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
class Dialect:
    """How a text table is written.

    Args:
        separator: of cells; " " for white space, "" for a single column.
        comment: the marks of comment lines, "" if there are none.
        header: number of the line with names, from 1; 0 if there is none.
        rows_from: lines before the first row.
        skip: logical lines before the first row; a line end within quotation marks does not end such a line.
        names: of the columns.
        units: of the columns, if a line of units follows the header; else "".
        row_names: whether the first column holds the row names that R writes, without a name in the header.
        words: in lower case, with which a row may begin though it looks like a comment.
    """

    encoding: str
    separator: str
    comment: str
    header: int
    rows_from: int
    skip: int
    names: tuple[str, ...]
    units: tuple[str, ...]
    row_names: bool
    notes: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def left_out(self) -> LeftOut:
        """The lines that are no rows."""
        return LeftOut(self.comment, self.separator, self.words)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was noticed, comments among it."""
        left_out = (f"lines that begin with {' or '.join(self.comment)} are left out",) if self.comment else ()
        return (*self.notes, *left_out)

    @property
    def settings(self) -> tuple[tuple[str, str], ...]:
        """How the table is written, for a reader."""
        return (
            ("separator", NAMES.get(self.separator, self.separator)),
            ("header", f"in line {self.header}" if self.header else "none"),
            ("encoding", self.encoding.removesuffix("-sig")),
        )

    def met(self, line: str) -> Dialect:
        """The same once a line was met; if it is the first comment of its kind, its mark is one of comments."""
        marked = self.marked(line.strip()[:1])
        return marked if marked.left_out(line) else self

    def marked(self, mark: str) -> Dialect:
        """The same with a further mark of comments, if it is one."""
        return replace(self, comment=self.comment + mark) if mark in self.open_marks else self

    @property
    def open_marks(self) -> tuple[str, ...]:
        """The marks of comments that have not been met."""
        return tuple(mark for mark in COMMENTS if mark not in self.comment)

    def cells(self, line: str) -> list[str]:
        """The cells of one line."""
        return split(line, self.separator)


def split(line: str, separator: str) -> list[str]:
    """The cells of one line, without quotes and blanks around them."""
    if separator == " ":
        return line.split()
    cells = next(csv.reader(StringIO(line.rstrip("\n")), delimiter=separator or "\x01"), [""])
    return [cell.strip() for cell in cells]


@dataclass(frozen=True)
class _Line:
    """A line, its number, from 1, and the number of logical lines before it."""

    number: int
    text: str
    before: int


def find_dialect(path: Path, asked: Asked) -> Dialect:
    """Examine the first lines of a text table.

    Raises:
        ValueError: the file is empty, or its form is ambiguous; the message names the option that decides.
    """
    encoding = encoding_name(asked.encoding) if asked.encoding else find_encoding(path)
    csv.field_size_limit(1 << 30)
    lines, comments, separator, notes = _examined(path, encoding, asked)
    table = [split(line.text, separator) for line in lines]
    width = _width(table)
    first = next(i for i, row in enumerate(table) if _fits(i, row, table, width))
    notes += [f"lines 1 to {lines[first].number - 1} stand before the table and are left out"] if first else []
    body = [row for row in table[first + 1 :] if len(row) == width][: HEAD if width < SAMPLE else WITNESSES]
    short = len(table[first]) == width - 1 and bool(body)
    trailing = short and not any(row[-1] for row in body)  # rows that end in a separator, unlike the header
    shifted = [*table[first], ""] if trailing else ["", *table[first]] if short else table[first]
    named = short or _is_header(path, shifted, body, asked)
    begin = first + 1 if named else first
    units = _units(table[begin:], asked) if named else ()
    begin += bool(units)
    header = lines[first].number if named else 0
    names = shifted if named else _from_comment(comments, lines[first].number, width)
    if not named and any(names):
        notes.append(f"the names of the columns are those of the comment before line {lines[first].number}")
    rest = lines[begin] if begin < len(lines) else _Line(lines[-1].number + 1, "", lines[-1].before + 1)
    unnamed = [f"column {i + 1}" if any(names) else str(i) for i in range(width)]
    unique, renamed = unique_names(names, unnamed)
    return Dialect(
        encoding=encoding,
        separator=separator,
        comment="".join(dict.fromkeys(comment.text[0] for comment in comments)),
        header=header,
        rows_from=rest.number - 1,
        skip=rest.before,
        names=unique,
        units=units or ("",) * width,
        row_names=short and not trailing,
        notes=(*notes, *renamed),
        words=asked.words,
    )


def _examined(path: Path, encoding: str, asked: Asked) -> tuple[list[_Line], list[_Line], str, list[str]]:
    """The first lines that hold cells, the comments among them, the separator, and notes.

    Raises:
        ValueError: no line holds cells, or the separator is open.
    """
    lines, comments = _head(path, encoding, asked.words)
    asked, lines, told = _told_separator(lines, asked)
    separator = _separator(path, lines, asked) if lines else ""
    lines, comments = _sorted(lines, comments, LeftOut("", separator, asked.words))
    if not lines:
        raise ValueError(f"data: {path} holds no rows, expected a table")
    notes = [f"line 1 names the separator, {NAMES.get(separator, separator)}"] if told else []
    return lines, comments, separator, notes


def _head(path: Path, encoding: str, words: Sequence[str]) -> tuple[list[_Line], list[_Line]]:
    """The first lines that may hold cells, and the comments among them."""
    lines: list[_Line] = []
    comments: list[_Line] = []
    size = 0
    with open_text(path, encoding) as text:
        for before, (number, line) in enumerate(logical_lines(islice(text, 10 * HEAD))):
            stripped = line.strip().lstrip("\ufeff")
            if stripped.startswith(COMMENTS) and not stripped.lower().startswith(tuple(words)):
                comments.append(_Line(number, stripped, before))
            elif stripped:
                lines.append(_Line(number, line.lstrip("\ufeff").rstrip("\n"), before))
            size += len(line)
            if len(lines) >= HEAD or (size > HEAD_SIZE and len(lines) > 2):
                break
    return lines, comments


def _told_separator(lines: Sequence[_Line], asked: Asked) -> tuple[Asked, Sequence[_Line], bool]:
    """Take "sep=;" in line 1, by which spreadsheets name the separator, for what the user asks if nothing else is."""
    first = lines[0].text if lines and lines[0].number == 1 else ""
    found = re.fullmatch(r'"?sep=(?P<sign>[^\w\s"]|\t| )(?P=sign)*"?(?P=sign)*\s*', first, re.I)
    if found is None:
        return asked, lines, False
    return (asked if asked.separator else replace(asked, separator=found["sign"])), lines[1:], True


def _sorted(lines: Sequence[_Line], comments: Sequence[_Line], left_out: LeftOut) -> tuple[list[_Line], list[_Line]]:
    """The lines that hold cells and the comments, now that the separator says where the first cell ends."""
    rows: list[_Line] = []
    others = [*comments]
    for line in lines:
        stripped = line.text.strip()
        is_comment = stripped.startswith(COMMENTS) and replace(left_out, comment=stripped[0])(stripped)
        (others if is_comment else rows).append(replace(line, text=stripped) if is_comment else line)
    return rows, sorted(others, key=lambda line: line.number)


def _separator(path: Path, lines: Sequence[_Line], asked: Asked) -> str:
    """The separator that gives all lines the same number of cells, and most of them numbers."""
    if asked.separator is not None:
        return asked.separator.replace("\\t", "\t")
    found: list[tuple[float, str]] = []
    for separator in SEPARATORS:
        if separator == "," and asked.decimal == ",":
            continue
        table = [split(line.text, separator) for line in lines]
        width = _width(table)
        fitting = [row for row in table if len(row) == width]
        tolerated = max(1, len(table) // 10)  # a preamble, or a header that is one cell short
        if width > 1 and len(table) - len(fitting) <= tolerated:
            cells = [cell for row in fitting[1:] or fitting for cell in row[:SAMPLE]]
            known = sum(kind_of(cell, asked.na) != "text" for cell in cells)
            found.append((known / len(cells), separator))
    best = max((share for share, _ in found), default=0.0)
    chosen = next((separator for share, separator in found if share > best - 0.05), "")
    if chosen == "," and asked.decimal is None and (line := _perhaps_decimal_commas(lines)):
        if asked.usual == ",":
            return ""
        do = "write the number with a point" if asked.fixed else "say which by --decimal , or by --separator ,"
        raise ValueError(
            f"decimal: {path}, line {line.number}: {line.text!r} may be one number or two cells, and the header has "
            f"one cell; {do}"
        )
    if chosen == " " and best < 0.5:
        return ""  # prose, or one column of text
    return chosen


def _perhaps_decimal_commas(lines: Sequence[_Line]) -> _Line | None:
    """The first of rows such as 1,5 below a header of one cell: one column with decimal commas, or two columns?"""
    first, *rest = (split(line.text, ",") for line in lines)
    two = all(len(row) == 2 and all(_is_digits(cell) for cell in row) for row in rest)
    return lines[1] if len(first) == 1 and rest and two else None


def _is_digits(cell: str) -> bool:
    return cell.lstrip("+-").isdigit()


def _width(table: Sequence[Sequence[str]]) -> int:
    """The most frequent number of cells, the larger of two that are equally frequent."""
    counts = Counter(map(len, table))
    return max(counts, key=lambda width: (counts[width], width))


def _fits(place: int, row: Sequence[str], table: Sequence[Sequence[str]], width: int) -> bool:
    """Whether a line belongs to the table: it is as wide, or it is a header one cell short of the next line."""
    if len(row) == width:
        return True
    following: Sequence[str] = table[place + 1] if place + 1 < len(table) else ()
    if len(row) != width - 1 or len(following) != width or not row:
        return False
    return all(kind_of(cell) == "text" for cell in row) and any(kind_of(cell) in NUMBERS for cell in following)


def _is_header(path: Path, row: Sequence[str], body: Sequence[Sequence[str]], asked: Asked) -> bool:
    """Whether a line holds names: texts, where the lines below it hold numbers."""
    if asked.header != "auto":
        return asked.header == "yes"
    if not body:
        return all(kind_of(cell, asked.na) in ("text", "missing") for cell in row)
    pairs = [(kind_of(cell, asked.na), _most_frequent(body, i, asked)) for i, cell in enumerate(row)]
    over_numbers = [above for above, below in pairs if below in NUMBERS]
    if not over_numbers:  # a table without numbers, which is refused later by the names of its columns
        return all(above == "text" for above, _ in pairs)
    texts = over_numbers.count("text") + over_numbers.count("timestamp")
    numbers = sum(above in NUMBERS for above in over_numbers)
    if texts and not numbers:
        return True
    return bool(numbers) and _counts_up(row, body)


def _counts_up(row: Sequence[str], body: Sequence[Sequence[str]]) -> bool:
    """Whether a line is a header of consecutive numbers: 0, 1, 2, ..., 1, 2, 3, ..., or years."""
    places = [i for i, cell in enumerate(row) if _is_digits(cell)]
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


def _most_frequent(body: Sequence[Sequence[str]], column: int, asked: Asked) -> str:
    kinds = Counter(kind_of(row[column], asked.na) for row in body)
    del kinds["missing"]
    return max(kinds, key=lambda kind: kinds[kind]) if kinds else "missing"


def _units(table: Sequence[Sequence[str]], asked: Asked) -> tuple[str, ...]:
    """The line below the header if it holds units: texts in every column whose other lines are numbers."""
    first = table[0] if table else ()
    if len(table) < 2 or len(first) != len(table[1]) or all(kind_of(cell, asked.na) != "text" for cell in first):
        return ()
    body = [row for row in table[1:] if len(row) == len(table[0])]
    kinds = [_most_frequent(body, i, asked) for i in range(len(table[0]))]
    above = [kind_of(cell, asked.na) for cell, below in zip(table[0], kinds, strict=True) if below in NUMBERS]
    if "text" not in above or set(above) - {"text", "missing"}:
        return ()
    return tuple(cell.strip("()[] ") for cell in table[0])


def _from_comment(comments: Sequence[_Line], number: int, width: int) -> list[str]:
    """The names in a comment directly before the first row, as NumPy and gnuplot write them; else none."""
    for comment in comments:
        if comment.number != number - 1:
            continue
        text = comment.text.lstrip("#% ")
        for separator in SEPARATORS:
            cells = split(text, separator)
            if len(cells) == width and all(kind_of(cell) == "text" for cell in cells):
                return cells
    return [""] * width


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
