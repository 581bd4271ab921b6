"""The text of a file: unpacked, decoded, and in lines that end in a line feed."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import IO

from reminding.disk.errors import CannotWriteError
from reminding.tasks.data.temporary import naming_temporary

PACKED = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"}
"""Suffixes of packed files."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_EXAMINED = 1 << 20
"""Bytes from which an encoding is found."""
_LONGEST = 1 << 16
"""Characters of a cell with line ends in it; a longer one is a quotation mark that was not closed."""
DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What unpacking raises for a damaged file."""


def encoding_name(encoding: str) -> str:
    """An encoding by the one name that is used here, whichever of its names is given.

    Raises:
        ValueError: there is no such encoding of text.
    """
    try:
        "a".encode(encoding)
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError) as error:
        raise ValueError(
            f"encoding must be the name of an encoding of text, such as utf-8 or cp1252, got {encoding!r}"
        ) from error
    return {"iso8859-1": "latin-1"}.get(name, name)


def is_followable(encoding: str) -> bool:
    """Whether lines are found and decoded one by one: in UTF-8, or with one byte a character and ASCII's line end."""
    every = bytes(range(256)).decode(encoding, errors="replace")
    return encoding in ("utf-8", "utf-8-sig") or (len(every) == 256 and "\n".encode(encoding) == b"\n")


def open_bytes(path: Path) -> IO[bytes]:
    """The bytes of a file, unpacked if its suffix says that it is packed."""
    opener = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(path.suffix.lower())
    return path.open("rb") if opener is None else opener(path, "rb")  # pyright: ignore[reportReturnType]


def suffix_of(path: Path) -> str:
    """The suffix in lower case, without that of a packed file: ".csv" for a.CSV and a.csv.gz."""
    name = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return name.suffix.lower()


def find_encoding(path: Path, whole: bool = False) -> str:
    """The encoding of a text: of its byte order mark, or UTF-8, or else cp1252 (or latin-1), which is said.

    Args:
        whole: whether the file is known not to be UTF-8 somewhere; else its beginning decides.

    Raises:
        ValueError: the file holds binary data, or cannot be unpacked.
    """
    try:
        with open_bytes(path) as file:
            start = file.read(_EXAMINED)
    except DAMAGE as error:
        raise ValueError(f"data: {path} cannot be read: {error}") from error
    if encoding := next((name for mark, name in _BOMS if start.startswith(mark)), ""):
        return encoding
    if b"\0" in start:
        zeros = [start[i::2].count(0) / max(len(start[i::2]), 1) for i in (0, 1)]
        guess = "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
        if max(zeros) > 0.4 and min(zeros) < 0.1 and _decodes(start, guess):
            return guess
        raise ValueError(f"data: {path} holds binary data at byte {start.index(0)}, expected text")
    if whole:
        return "cp1252" if _is_cp1252(path) else "latin-1"
    return next(name for name in ("utf-8", "cp1252", "latin-1") if _decodes(start, name))


def _decodes(start: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(start, final=len(start) < _EXAMINED)
    except UnicodeDecodeError:
        return False
    return True


def _is_cp1252(path: Path) -> bool:
    """Whether a whole file can be read as cp1252, in which some bytes are no characters."""
    with open_bytes(path) as file:
        try:
            for piece in iter(lambda: file.read(_EXAMINED), b""):
                piece.decode("cp1252")
        except UnicodeDecodeError:
            return False
    return True


@contextmanager
def open_text(path: Path, encoding: str) -> Generator[IO[str]]:
    """The text of a file; lines may end in LF, CR LF or CR, and are given with LF.

    Raises:
        ValueError: on reading, the file is not in this encoding, or is damaged; the message names the file.
    """
    try:
        with open_bytes(path) as raw, io.TextIOWrapper(raw, encoding=encoding, newline=None) as text:
            yield text
    except UnicodeError as error:
        raise ValueError(f"encoding: {path} is not {encoding} throughout: {error}; name its encoding") from error
    except CannotWriteError:  # of a copy of the text
        raise
    except DAMAGE as error:
        raise ValueError(f"data: {path} cannot be read: {error}") from error


@dataclass(frozen=True)
class LeftOut:
    """The lines of a text table that are no rows: comments and, in a table of several columns, blank lines.

    Args:
        comment: lines that begin with one of these marks are left out; "" for none.
        separator: of cells; " " for white space, "" for a single column, where a blank line is a missing value.
        words: in lower case, with which a row may begin though they begin with a mark, such as #n/a.
    """

    comment: str
    separator: str
    words: tuple[str, ...] = ()

    def __call__(self, line: str) -> bool:
        """Whether a line is no row."""
        text = line.strip()
        if not text:
            return bool(self.separator)
        return text.startswith(tuple(self.comment)) and not self._is_row(text)

    def _is_row(self, text: str) -> bool:
        cell = text.split()[0] if self.separator == " " else text.split(self.separator or "\n", 1)[0]
        return cell.strip().lower() in self.words


def copy_plain(path: Path, encoding: str, first: int, left_out: LeftOut, to: Path, most: int | None = None) -> Path:
    """Write a text table to a temporary file as UTF-8 with LF, and tabs for white space, for a simpler reader.

    Args:
        first: lines before the first row, which are left out.
        most: rows that are written, from the first; None: all.

    Raises:
        CannotWriteError: the disk is full; the message says how to choose another one.
    """
    with (
        open_text(path, encoding) as source,
        naming_temporary(),
        to.open("w", encoding="utf-8", newline="\n") as target,
    ):
        rows = (line for line in islice(source, first, None) if not left_out(line))
        if most is not None:
            rows = (line for _, line in islice(logical_lines(rows, left_out.separator), most))
        for line in rows:
            target.write("\t".join(line.split()) + "\n" if left_out.separator == " " else line)
    return to


@cache
def _quoted_cell(separator: str | None) -> re.Pattern[str]:
    """A cell in quotation marks; of one that is not closed, the group `open` matches. See `is_open`."""
    before = "[\t;|,]" if separator is None else re.escape(separator or "\x01")
    return re.compile(rf'(?:^|{before}) *"[^"]*(?:""[^"]*)*(?:"|(?P<open>\Z))')


def is_open(line: str, separator: str | None) -> bool:
    """Whether a line ends within quotation marks. They open at the beginning of a cell: those in 5" pipe do not.

    Args:
        separator: of cells; " " for white space, beside which they are characters like others; None: unknown.
    """
    found = () if separator == " " else _quoted_cell(separator).finditer(line)
    return any(cell["open"] is not None for cell in found)


def logical_lines(lines: Iterable[str], separator: str | None) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1; a line end within quotation marks does not end a line.

    Args:
        separator: of cells; see `is_open`.
    """
    held, begin = "", 0
    for number, line in enumerate(lines, 1):
        if not held and '"' not in line:
            yield number, line
            continue
        begin = begin or number
        held += line
        if len(held) > _LONGEST or not is_open(held, separator):
            yield begin, held
            held, begin = "", 0
    if held:
        yield begin, held
