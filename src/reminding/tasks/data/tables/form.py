"""The form of a table: CSV or Parquet, and how a text is written; the first look at a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from reminding.tasks.data.tables.cells import kind_of
from reminding.tasks.data.tables.database import WIDE, NotPlainError, Rows, row_lines, text_rows
from reminding.tasks.data.tables.dialect import Dialect, find_dialect
from reminding.tasks.data.tables.header import Asked, FormError
from reminding.tasks.data.tables.parquet import ParquetTable, open_parquet
from reminding.tasks.data.text import PACKED, copy_plain, find_encoding, suffix_of
from reminding.tasks.data.times.written import is_time

PARQUET = (".parquet", ".pq")
TEXT = (".csv", ".tsv")
PERHAPS = (".txt", ".dat", ".data", ".asc", ".tab")
"""Suffixes of files that may be a table or a text."""
DIRECT = ("utf-8", "utf-8-sig")
"""Encodings that DuckDB reads without a copy."""


@dataclass(frozen=True)
class Form:
    """A file that is read as a table.

    Args:
        dialect: of a text table; None for Parquet.
        parquet: of a Parquet file; None for text.
        index: columns that hold names or numbers of rows.
        plain: whether a copy of a text is read.
        most: rows of a text that are read, from the first; None: all.
    """

    rows: Rows
    names: tuple[str, ...]
    units: tuple[str, ...]
    dialect: Dialect | None = None
    parquet: ParquetTable | None = None
    index: frozenset[str] = frozenset()
    plain: bool = False
    most: int | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was noticed in the first lines."""
        if self.dialect is None:
            return () if self.parquet is None else self.parquet.notes
        return self.dialect.remarks

    def copied(self, path: Path, why: NotPlainError, folder: Path) -> Form:
        """The form of a text table of which DuckDB reads a copy in UTF-8, without comments."""
        assert self.dialect is not None
        dialect = self.dialect
        if why.decoding:
            dialect = replace(dialect, encoding=find_encoding(path, whole=True))
        dialect = dialect.marked(why.comment)
        rows = text_rows(path, dialect, _copy(path, dialect, folder, self.most), self.most)
        return replace(self, dialect=dialect, rows=rows, plain=True)


def open_form(path: Path, asked: Asked, folder: Path, most: int | None = None) -> Form:
    """Look at a file, and make its rows readable.

    Args:
        folder: for temporary files.
        most: rows of a text table to read, from the first; None: all.

    Raises:
        ImportError: DuckDB is missing.
        ValueError: the file is no table, or its form is ambiguous.
    """
    if suffix_of(path) in PARQUET:
        table = open_parquet(path)
        return Form(table.rows, table.names, ("",) * len(table.names), parquet=table, index=table.index)
    dialect = find_dialect(path, asked)
    packed = path.suffix.lower() in PACKED and path.suffix.lower() != ".gz"
    broken = dialect.skip < dialect.rows_from  # DuckDB finds no row after a name with another line end than the rows
    direct = dialect.encoding in DIRECT and dialect.separator != " " and not packed and not broken
    plain = None if direct or len(dialect.names) > WIDE else _copy(path, dialect, folder, most)
    index = frozenset(dialect.names[:1]) if dialect.row_names else frozenset[str]()
    rows = text_rows(path, dialect, plain, most)
    return Form(rows, dialect.names, dialect.units, dialect, index=index, plain=plain is not None, most=most)


def is_table(path: Path, asked: Asked) -> bool:
    """Whether a file is a table by its suffix or, where that leaves it open, by its first lines.

    Raises:
        FormError: it is a table by its first lines, but in another form, or one that is open.
    """
    suffix = suffix_of(path)
    if suffix in (*TEXT, *PARQUET):
        return True
    if suffix not in PERHAPS:
        return False
    try:
        dialect = find_dialect(path, asked)
    except FormError as error:
        raise FormError(f"{error}, or read its bytes by --format bytes") from error
    except ValueError:
        return False
    return _holds_numbers(path, dialect)


def _holds_numbers(path: Path, dialect: Dialect) -> bool:
    """Whether most cells of the first rows are numbers or times."""
    cells = [cell for _, line in islice(row_lines(path, dialect), 50) for cell in dialect.cells(line)]
    kinds = [kind_of(cell) for cell in cells]
    times = sum(kind == "text" and is_time(cell) for kind, cell in zip(kinds, cells, strict=True))
    numbers = sum(kind not in ("text", "missing") for kind in kinds)
    return numbers > 0 and numbers + times > 0.5 * len(cells)


def _copy(path: Path, dialect: Dialect, folder: Path, most: int | None) -> Path:
    to = folder / "plain.txt"
    return copy_plain(path, dialect.encoding, dialect.rows_from, dialect.left_out, to, most)
