"""Tables as DuckDB reads them: rows of cells in order, a few at a time. The one file that imports duckdb.

Shapes: n rows, C columns.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import secrets
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from os import SEEK_END
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.tables.cells import kind_sql
from reminding.tasks.data.tables.dialect import Dialect
from reminding.tasks.data.tables.header import COMMENTS
from reminding.tasks.data.text import DAMAGE, is_open, logical_lines, open_text
from reminding.tasks.data.times.written import quoted

VECTOR = 2048
"""Rows that DuckDB has in hand at a time."""
PIECE = 1 << 20
"""Values that are fetched at a time, about."""
WIDE = 2000
"""Columns from which lines are handed to DuckDB one at a time: its plans grow faster than the number of columns, and
2,048 rows of 40,000 cells would fill a gigabyte."""
_LINE_END = 4
"""Bytes in which a line end lies in any encoding."""
NUMERIC = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*|BOOLEAN)$")
TIMES = re.compile(r"(TIMESTAMP.*|DATE)$")


@dataclass(frozen=True)
class Found:
    """Cells of one kind in one column: how many, the row of the first, from 0, and its text."""

    count: int
    row: int
    text: str


class NotPlainError(ValueError):
    """A text that DuckDB cannot read as it stands, but can once it is decoded and its lines are in order.

    Attributes:
        comment: the mark of a comment line that was met, or "".
        decoding: whether the encoding is another one.
    """

    def __init__(self, message: str, comment: str = "", decoding: bool = False) -> None:
        super().__init__(message)
        self.comment = comment
        self.decoding = decoding


def connect() -> Any:
    """A database in memory that reads with one thread, loads nothing from the network, and knows no zone but UTC.

    What does not fit into memory goes to a folder of its own among the temporary files, which it makes and removes.

    Raises:
        ImportError: DuckDB or pandas is missing; the message says what to install.
    """
    try:
        duckdb: Any = importlib.import_module("duckdb")
        if importlib.util.find_spec("pandas") is None:  # in whose frames DuckDB hands over rows
            raise ImportError("No module named 'pandas'")
    except ImportError as error:
        raise ImportError(f'tables need duckdb and pandas: pip install "reminding[data]" ({error})') from error
    connection = duckdb.connect()
    spilled = quoted(str(Path(tempfile.gettempdir()) / f"reminding-{secrets.token_hex(8)}"))
    for setting in ("threads=1", "memory_limit='1GB'", "enable_progress_bar=false", f"temp_directory={spilled}"):
        connection.execute(f"SET {setting}")
    connection.execute("SET TimeZone = 'UTC'")  # else that of the machine says what a time with a zone is
    for setting in ("autoinstall_known_extensions", "autoload_known_extensions"):
        connection.execute(f"SET {setting}=false")
    return connection


def write_parquet(frame: Any, path: Path) -> None:
    """Write a pandas table to a Parquet file.

    Raises:
        ImportError: DuckDB is missing; the message says what to install.
        ValueError: DuckDB cannot write a name of a column, such as t beside T; nothing is written.
        OSError: the file could not be written, as on a full disk.
    """
    with connect() as connection:
        relation = connection.from_df(frame)
        names = [str(name) for name in frame.columns]
        for name, own in zip(names, relation.columns, strict=True):
            if name != own:
                other = next((repr(each) for each in names if each.lower() == name.lower() and each != name), "")
                beside = f" beside {other}" if other else ""
                raise ValueError(
                    f"out: no Parquet file with the column {name!r}{beside} can be written: names must differ in "
                    "more than capitals, and not be empty; write a .csv file"
                )
        try:
            relation.write_parquet(str(path))
        except importlib.import_module("duckdb").IOException as error:
            number = re.search(r'"errno":"(\d+)"', str(error))
            raise OSError(str(error).splitlines()[0] if number is None else os.strerror(int(number[1]))) from error


class Rows(ABC):
    """The rows of a table.

    Attributes:
        path: of the file, for messages.
        types: of the columns: "VARCHAR" for text, or the type in a Parquet file.
    """

    path: Path
    types: tuple[str, ...]
    _connection: Any

    def close(self) -> None:
        """Give up the database, which holds megabytes and threads. The rows cannot be read any more, only placed."""
        self._connection.close()

    @abstractmethod
    def values(self, expressions: Sequence[tuple[int, Callable[[str], str]]]) -> Iterator[NDArray[Any]]:
        """Numbers of all rows in pieces, (n, C).

        Args:
            expressions: a column, and what makes the SQL of its number from the SQL of its cell, for each of the C.
        """

    @abstractmethod
    def kinds(self, columns: Sequence[int], na: Sequence[str]) -> dict[int, dict[str, Found]]:
        """What the cells of some columns hold, by column and kind."""

    @abstractmethod
    def place(self, row: int) -> str:
        """Where a row is, counted from 0: "line 7", or "row 7"."""


class QueriedRows(Rows):
    """Rows of a relation with the columns c0, c1, ... in a query of DuckDB.

    Args:
        copied: whether it is a copy of the file at `path`, whose lines are the rows.
        lines: whether the rows are lines of a text. Of a single column the blank ones at its end are then no rows.
    """

    def __init__(
        self,
        path: Path,
        relation: str,
        types: Sequence[str],
        place: Callable[[int], str],
        *,
        copied: bool = False,
        lines: bool = False,
    ) -> None:
        self.path, self.types = path, tuple(types)
        self._source, self._place, self._lines = relation, place, lines
        self._translating = partial(translating, path, place if copied else None)
        self._connection = connect()

    @classmethod
    def of_texts(cls, texts: NDArray[Any]) -> QueriedRows:
        """Rows of one column of texts that are in memory, (n,)."""
        rows = cls(Path("data"), "given", ["VARCHAR"], lambda row: f"row {row}")
        rows._connection.register("given", {"c0": texts.astype(object)})
        return rows

    @cached_property
    def _relation(self) -> str:
        """The relation; of a text of a single column without the blank lines at its end."""
        if not self._lines or len(self.types) > 1:
            return self._source
        numbered = f"SELECT row_number() OVER () AS r, c0 FROM {self._source}"
        with self._translating():
            (last,) = self._connection.execute(f"SELECT max(r) FROM ({numbered}) WHERE c0 IS NOT NULL").fetchone()
        return f"(SELECT * FROM {self._source} LIMIT {last or 0})"

    def values(self, expressions: Sequence[tuple[int, Callable[[str], str]]]) -> Iterator[NDArray[Any]]:
        """See `Rows.values`."""
        selected = ", ".join(f"{make(self._cell(column))} AS v{i}" for i, (column, make) in enumerate(expressions))
        vectors = max(1, PIECE // (VECTOR * max(len(expressions), 1)))
        with self._translating():
            result = self._connection.execute(f"SELECT {selected} FROM {self._relation}")
            while len(frame := result.fetch_df_chunk(vectors)):
                yield frame.to_numpy()

    def kinds(self, columns: Sequence[int], na: Sequence[str]) -> dict[int, dict[str, Found]]:
        """See `Rows.kinds`."""
        cells = ", ".join(self._text(column) for column in columns)
        names = ", ".join(map(str, columns))
        query = (
            f"SELECT i, kind, count(*), min(r), arg_min(x, r) FROM (SELECT r, i, x, {kind_sql('x', na)} AS kind FROM "
            f"(SELECT r, unnest([{cells}]) AS x, unnest([{names}]) AS i FROM "
            f"(SELECT row_number() OVER () - 1 AS r, * FROM {self._relation}))) GROUP BY i, kind"
        )
        found: dict[int, dict[str, Found]] = {column: {} for column in columns}
        with self._translating():
            for column, kind, count, row, text in self._connection.execute(query).fetchall():
                found[column][kind] = Found(count, row, "" if text is None else text)
        return found

    def place(self, row: int) -> str:
        """See `Rows.place`."""
        return self._place(row)

    def _cell(self, column: int) -> str:
        return f"c{column}"

    def _text(self, column: int) -> str:
        cell = self._cell(column)
        return cell if self.types[column] == "VARCHAR" else f"CAST({cell} AS VARCHAR)"


def text_rows(path: Path, dialect: Dialect, plain: Path | None = None, most: int | None = None) -> Rows:
    """The rows of a text table.

    Args:
        plain: a copy of it by `copy_plain`; None: DuckDB reads the file itself.
        most: rows, from the first; None: all.
    """
    if len(dialect.names) > WIDE:
        return LineRows(path, dialect, most)
    separator = "\t" if dialect.separator == " " else dialect.separator or "\x01"
    count = len(dialect.names)
    types = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(count))
    skip = dialect.skip if plain is None else 0
    quote = "'\"'" if dialect.separator != " " else "''"
    relation = (
        f"read_csv({quoted(globbed(plain or path))}, columns={{{types}}}, auto_detect=false, header=false, "
        f"delim={quoted(separator)}, quote={quote}, escape={quote}, skip={skip}, max_line_size=33554432)"
    )
    if most is not None:
        relation = f"(SELECT * FROM {relation} LIMIT {most})"

    def place(row: int) -> str:
        return f"line {line_of(path, dialect, row)}"

    return QueriedRows(path, relation, ["VARCHAR"] * count, place, copied=plain is not None, lines=True)


class LineRows(Rows):
    """Rows of a text table with thousands of columns: lines are read here, and their cells by DuckDB."""

    def __init__(self, path: Path, dialect: Dialect, most: int | None = None) -> None:
        self.path, self.types = path, ("VARCHAR",) * len(dialect.names)
        self._dialect, self._most = dialect, most
        self._connection = connect()

    def values(self, expressions: Sequence[tuple[int, Callable[[str], str]]]) -> Iterator[NDArray[Any]]:
        """See `Rows.values`. The columns are read in few ways."""
        made = [make("x") for _, make in expressions]
        ways = list(dict.fromkeys(made))
        places = [ways.index(sql) for sql in made], [column for column, _ in expressions]
        lists = ", ".join(
            f"list_transform(string_split(?1, '\x1f'), lambda x: {sql}) AS w{i}" for i, sql in enumerate(ways)
        )
        query = f"SELECT {lists}"
        piece: list[NDArray[Any]] = []
        for cells in self._cells():
            values = self._connection.execute(query, ["\x1f".join(cells)]).fetchnumpy()
            read = [np.ma.filled(np.ma.asarray(way[0], np.float64), np.nan) for way in values.values()]
            piece.append(np.stack(read)[places])
            if len(piece) * len(made) >= PIECE:
                yield np.stack(piece)
                piece = []
        if piece:
            yield np.stack(piece)

    def kinds(self, columns: Sequence[int], na: Sequence[str]) -> dict[int, dict[str, Found]]:
        """See `Rows.kinds`."""
        query = f"SELECT list_transform(string_split(?, '\x1f'), lambda x: {kind_sql('x', na)})"
        found: dict[int, dict[str, Found]] = {column: {} for column in columns}
        for number, cells in enumerate(self._cells()):
            kinds = self._connection.execute(query, ["\x1f".join(cells)]).fetchone()[0]
            for column in columns:
                before = found[column].get(kinds[column], Found(0, number, cells[column]))
                found[column][kinds[column]] = Found(before.count + 1, before.row, before.text)
        return found

    def place(self, row: int) -> str:
        """See `Rows.place`."""
        return f"line {line_of(self.path, self._dialect, row)}"

    def _cells(self) -> Iterator[list[str]]:
        width = len(self.types)
        for number, line in islice(row_lines(self.path, self._dialect), self._most):
            cells = self._dialect.cells(line)
            if len(cells) != width:
                raise ValueError(wrong_width(self.path, f"line {number}", width, len(cells)))
            yield cells


def row_lines(path: Path, dialect: Dialect) -> Iterator[tuple[int, str]]:
    """The lines of the rows of a table, with their numbers, from 1."""
    with open_text(path, dialect.encoding) as text:
        for number, line in logical_lines(text, dialect.separator):
            if number > dialect.rows_from and not dialect.left_out(line):
                yield number, line


def complete_rows(path: Path, dialect: Dialect) -> int:
    """The number of rows whose lines have ended."""
    rows, ended = 0, True
    for _, line in row_lines(path, dialect):
        rows, ended = rows + 1, line.endswith("\n") and not is_open(line, dialect.separator)
    return rows if ended else rows - 1


def ends_with_a_line(path: Path) -> bool:
    """Whether a text that is not packed ends with a line end."""
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, _LINE_END), SEEK_END)
        return file.read().rstrip(b"\0").endswith((b"\n", b"\r"))  # of UTF-16 the last byte is 0


def line_of(path: Path, dialect: Dialect, row: int) -> int:
    """The line that a row begins in, from 1."""
    return next((number for i, (number, _) in enumerate(row_lines(path, dialect)) if i == row), 0)


def wrong_width(path: Path, place: str, expected: int, found: int) -> str:
    """What is said of a row with another number of cells than the header."""
    cells = "1 cell" if found == 1 else f"{found} cells"
    return (
        f"data: {path}, {place}: {cells}, expected {expected} as in the other lines; correct the line, or name the "
        "--separator if cells are divided in another way"
    )


def globbed(path: Path) -> str:
    """A path as DuckDB takes it: characters that it would expand stand in brackets."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


@contextmanager
def translating(path: Path, place: Callable[[int], str] | None = None) -> Generator[None]:
    """Raise errors of DuckDB in the words of this package.

    Args:
        place: names a row, from 0, where a copy is read whose lines are the rows; None: the file itself is read.

    Raises:
        NotPlainError: a plain copy of the text may be readable.
        ValueError: the file is damaged, or a row has too few or too many cells.
    """
    try:
        yield
    except DAMAGE as error:
        raise ValueError(f"data: {path} cannot be read: {error}") from error
    except Exception as error:
        duckdb: Any = importlib.import_module("duckdb")
        if not isinstance(error, duckdb.Error):
            raise
        raise _translated(path, str(error), place) from error


def _translated(path: Path, message: str, place: Callable[[int], str] | None) -> ValueError:
    line = re.search(r"CSV Error on Line: (\d+)", message)
    original = re.search(r"Original Line: ?(.*)", message)
    text = original[1].strip() if original else ""
    if "unicode" in message.lower() or "not utf-8" in message:
        return NotPlainError(f"data: {path} is not UTF-8 throughout", decoding=True)
    where = "the table" if line is None else f"line {line[1]}" if place is None else place(int(line[1]) - 1)
    width = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", message)
    said = wrong_width(path, where, int(width[1]), int(width[2])) if width else ""
    if "invalid state" in message or text.startswith(COMMENTS):
        return NotPlainError(said or f"data: {path} cannot be read as it stands", comment=text[:1].strip())
    if said:
        return ValueError(said)
    if "unterminated quote" in message:
        return ValueError(f"data: {path}, {where}: a quotation mark opens here and is not closed: {text[:60]!r}")
    first = message.split("\n")[0].split(": ", 1)[-1]
    return ValueError(f"data: {path}, {where}: {first}" if line else f"data: {path} cannot be read: {first}")
