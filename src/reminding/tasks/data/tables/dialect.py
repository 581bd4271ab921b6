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
from itertools import islice
from pathlib import Path

from reminding.tasks.data.tables.cells import NUMBERS, kind_of
from reminding.tasks.data.tables.header import (
    COMMENTS,
    WITNESSES,
    Asked,
    FormError,
    find_heading,
    fits,
    is_digits,
    unique_names,
)
from reminding.tasks.data.text import LeftOut, encoding_name, find_encoding, logical_lines, open_text

SEPARATORS = ("\t", ";", "|", ",", " ")
"""Tried in this order where the first lines fit several; a blank stands for any run of white space."""
HEAD = 100
"""Lines that are examined."""
HEAD_SIZE = 1 << 20
"""Characters that are examined, if they hold at least three lines."""
SAMPLE = 1000
"""Cells of a line that say whether a separator is the right one."""
NAMES = {"\t": "tab", " ": "white space", "": "none"}
_DECLARED = re.compile(r"@(relation|attribute)\s", re.I)
"""How a line of the head of an ARFF file begins, also where the file is called .csv or .dat."""


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
    text = StringIO(line.rstrip("\n"))
    cells = next(csv.reader(text, delimiter=separator or "\x01", skipinitialspace=True), [""])
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
    _check_brackets(path, lines, table)
    width = _width(table)
    rows = next(row for row in table if len(row) == width)
    if asked.header != "no" and any(kind_of(cell) in NUMBERS for cell in rows):  # else it is a header
        table = [row[:-1] if _ends_in_separator(row, width) else row for row in table]
    first = next(i for i, row in enumerate(table) if fits(i, row, table, width, asked.header != "no"))
    heading = find_heading(path, [(line.number, line.text) for line in lines[first:]], table[first:], width, asked)
    begin, before = first + heading.lines, lines[first + heading.above].number - 1
    notes += [f"lines 1 to {before} stand before the table and are left out"] if first + heading.above else []
    names = heading.names if heading.lines else _from_comment(comments, lines[first].number, width)
    if not heading.lines and any(names):
        notes.append(f"the names of the columns are those of the comment before line {lines[first].number}")
    rest = lines[begin] if begin < len(lines) else _Line(lines[-1].number + 1, "", lines[-1].before + 1)
    unnamed = [f"column {i + 1}" if any(names) else str(i) for i in range(width)]
    unique, renamed = unique_names(names, unnamed)
    return Dialect(
        encoding=encoding,
        separator=separator,
        comment="".join(dict.fromkeys(comment.text[0] for comment in comments)),
        header=before + 1 if heading.lines else 0,
        rows_from=rest.number - 1,
        skip=rest.before,
        names=unique,
        units=heading.units,
        row_names=heading.row_names,
        notes=(*notes, *renamed),
        words=asked.words,
    )


def _check_brackets(path: Path, lines: Sequence[_Line], table: Sequence[Sequence[str]]) -> None:
    """Refuse rows in brackets, as JSON, SQL and MATLAB write them: the first or the last cell would be no number."""
    last = table[-WITNESSES:]
    bound = [
        (row[0].startswith(("[", "(", "{")) and kind_of(row[0].lstrip("[({ ")) in NUMBERS)
        or (row[-1].endswith(("]", ")", "}", ";")) and kind_of(row[-1].rstrip("])}; ")) in NUMBERS)
        for row in last
    ]
    if sum(bound) > len(last) / 2:
        raise FormError(
            f"data: {path}, line {lines[-1].number}: {lines[-1].text[:60]!r} has signs around its cells, as in JSON, "
            "SQL and MATLAB; save it as CSV"
        )


def _examined(path: Path, encoding: str, asked: Asked) -> tuple[list[_Line], list[_Line], str, list[str]]:
    """The first lines that hold cells, the comments among them, the separator, and notes.

    Raises:
        ValueError: no line holds cells, or the separator is open.
    """
    lines, comments = _head(path, encoding, asked)
    asked, lines, told = _told_separator(lines, asked)
    separator = _separator(path, lines, asked) if lines else ""
    lines, comments = _sorted(lines, comments, LeftOut("", separator, asked.words))
    if not lines:
        raise ValueError(f"data: {path} holds no rows, expected a table")
    if declared := next((line for line in lines if _DECLARED.match(line.text.strip())), None):
        raise FormError(f"data: {path}, line {declared.number}: {declared.text!r} is of an ARFF file; save it as CSV")
    notes = [f"line 1 names the separator, {NAMES.get(separator, separator)}"] if told else []
    return lines, comments, separator, notes


def _head(path: Path, encoding: str, asked: Asked) -> tuple[list[_Line], list[_Line]]:
    """The first lines that may hold cells, and the comments among them."""
    lines: list[_Line] = []
    comments: list[_Line] = []
    size = 0
    with open_text(path, encoding) as text:
        for before, (number, line) in enumerate(logical_lines(islice(text, 10 * HEAD), asked.separator)):
            stripped = line.strip().lstrip("\ufeff")
            if stripped.startswith(COMMENTS) and not stripped.lower().startswith(asked.words):
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
        raise FormError(
            f"decimal: {path}, line {line.number}: {line.text!r} may be one number or two cells, and the header has "
            f"one cell; {do}"
        )
    if chosen == " " and best < 0.5:
        return ""  # prose, or one column of text
    return chosen


def _perhaps_decimal_commas(lines: Sequence[_Line]) -> _Line | None:
    """The first of rows such as 1,5 below a header of one cell: one column with decimal commas, or two columns?"""
    first, *rest = (split(line.text, ",") for line in lines)
    two = all(len(row) == 2 and all(is_digits(cell) for cell in row) for row in rest)
    return lines[1] if len(first) == 1 and rest and two else None


def _width(table: Sequence[Sequence[str]]) -> int:
    """The most frequent number of cells, the larger of two that are equally frequent."""
    counts = Counter(map(len, table))
    return max(counts, key=lambda width: (counts[width], width))


def _ends_in_separator(row: Sequence[str], width: int) -> bool:
    """Whether a line of texts ends in a separator, unlike the rows: a header."""
    return len(row) == width + 1 and not row[-1] and all(kind_of(cell) == "text" for cell in row[:-1])


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
