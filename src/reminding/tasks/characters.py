"""Published texts, read as unbroken streams of one character per step.

Shapes: N characters in all, n of them read, B batch (rows, one stream each), T steps of a chunk.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from reminding.checks import at_least, at_least_or_none
from reminding.tasks.data.datasets import DATASETS
from reminding.tasks.data.download import locate_or_fetch
from reminding.tasks.data.packed import check_raw, open_raw, read_raw
from reminding.tasks.kinds.base import Split
from reminding.tasks.kinds.nextstep import NextStep

PTB_SYMBOLS = b"\n #$&'*-./0123456789<>N\\abcdefghijklmnopqrstuvwxyz"
"""The characters of the Penn Treebank's training part, sorted; the other parts have no more."""
TEXT8_SYMBOLS = b" abcdefghijklmnopqrstuvwxyz"
BYTES = bytes(range(256))
_OUTSIDE = -1
_BLOCK = 1 << 22  # bytes checked at a time, so that a text on disk is not copied as a whole


@dataclass(frozen=True)
class Text:
    """A text and its parts.

    Args:
        symbols: the bytes of the file, (N,) uint8; may be mapped from disk.
        valid: the begin of the validation part, which follows the training part.
        test: the begin of the test part.
    """

    symbols: NDArray[np.uint8]
    valid: int
    test: int


@dataclass(frozen=True)
class CharacterStream(NextStep):
    """Predict the next character of a text.

    The input is tokens (T, B), int64, which are places in the sorted list of the text's symbols; the target is the
    input one step later. The B rows of a batch read the training part in parallel, one B-th each, in chunks. State is
    carried from chunk to chunk, and all rows begin anew after a pass.

    Args:
        data_dir: folder with the official files, plain or packed (.gz, .xz, .zip), or with a folder of the data set's
            name that holds them; nothing is downloaded. None: REMINDING_DATA or the user's cache; missing files are
            downloaded and checked.
        chunk: steps per batch.
        eval_rows: number of parallel streams into which a held-out part is cut.
    """

    symbols: ClassVar[bytes]

    data_dir: Path | None = None
    chunk: int = 100
    eval_rows: int = 8

    def __post_init__(self) -> None:
        """Check the options."""
        at_least("chunk", self.chunk, 1)
        at_least("eval_rows", self.eval_rows, 1)

    @abstractmethod
    def load(self) -> Text:
        """Return the text. Its file is located at every call, but read at most once per process."""

    @cached_property
    def text(self) -> Text:
        """The text, loaded when it is first used."""
        return self.load()

    @property
    def vocabulary(self) -> int:
        """The number of symbols."""
        return len(self.symbols)

    @property
    def input_size(self) -> int:
        """C, the size of the vocabulary."""
        return len(self.symbols)

    @property
    def unit(self) -> str:
        """The name of a step: "character"."""
        return "character"

    @property
    def _where(self) -> str:
        return self.name

    def _part(self, split: Split) -> range:
        text = self.text
        borders = {"train": (0, text.valid), "valid": (text.valid, text.test), "test": (text.test, len(text.symbols))}
        return range(*borders[split])

    def _read(self, start: int, stop: int) -> NDArray[np.int16]:
        return _numbers(self.symbols)[self.text.symbols[start:stop]]

    def tokens_of(self, text: NDArray[np.uint8], source: Path) -> NDArray[np.int16]:
        """The tokens of another text, (n,).

        Raises:
            ValueError: a character is not a symbol of the text; the message names `source` and the place.
        """
        _check_symbols(text, self.symbols, source)
        return _numbers(self.symbols)[text]


@dataclass(frozen=True)
class PTB(CharacterStream):
    """Penn Treebank by characters.   [Marcus et al. 1993; prepared by Mikolov et al. 2012]

    Mikolov's files with the official split, without the space at the beginning of each line: 5,059,550 characters
    train, 396,412 valid, 446,184 test; 50 symbols, with the line end. Words outside his 10,000 are written <unk>,
    numbers N. The metric is bits_per_character.

    Raises (when batches are asked for):
        FileNotFoundError: a file is missing and cannot be downloaded; the message lists the names tried.
        ValueError: a file is damaged or is not the official one; the message shows the difference.
    """

    name: ClassVar[str] = "ptb"
    symbols: ClassVar[bytes] = PTB_SYMBOLS

    def load(self) -> Text:
        """Return the three files, one after the other."""
        return _lines(tuple(locate_or_fetch("ptb", self.data_dir).values()))


@dataclass(frozen=True)
class LargeText(CharacterStream):
    """A text of one large file, split 90 : 5 : 5 in the file's order.

    Args:
        prefix: use only this many characters from the beginning, split in the same proportions; results on it are
            not those of the data set. A file with only the beginning is then enough, under the name of the whole file
            or with the suffix .first10M. Its first 10,000,000 characters are compared with the published ones by
            checksum; of a shorter file only the set of symbols is checked. None: the whole text.
    """

    prefix: int | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        at_least_or_none("prefix", self.prefix, 1)
        whole = DATASETS[self.name].files[0].raw_size
        if self.prefix is not None and self.prefix > whole:
            raise ValueError(f"prefix must be at most {whole}, all of {self.name}, got {self.prefix}")

    def load(self) -> Text:
        """Return the file, or the beginning of it."""
        (path,) = locate_or_fetch(self.name, self.data_dir, beginning=self.prefix is not None).values()
        return _large(self.name, path, self.prefix, self.symbols)


@dataclass(frozen=True)
class Text8(LargeText):
    """The text8 data set: Wikipedia as a-z and space.   [Mahoney 2006]

    100,000,000 characters, 27 symbols, with the standard split: 90,000,000 train, 5,000,000 valid, 5,000,000
    test. The metric is bits_per_character.

    Raises (when batches are asked for):
        FileNotFoundError: the file is missing and cannot be downloaded; the message lists the names tried.
        ValueError: the file is damaged or is not the official one; the message shows the difference.
    """

    name: ClassVar[str] = "text8"
    symbols: ClassVar[bytes] = TEXT8_SYMBOLS


@dataclass(frozen=True)
class Enwik8(LargeText):
    """The enwik8 data set: Wikipedia's XML by bytes.   [Hutter Prize; Mahoney 2006]

    100,000,000 bytes, UTF-8 and markup as they are, with the standard split: 90,000,000 train, 5,000,000 valid,
    5,000,000 test. All 256 bytes count as symbols, though 205 occur. The metric is bits_per_byte.

    Raises (when batches are asked for):
        FileNotFoundError: the file is missing and cannot be downloaded; the message lists the names tried.
        ValueError: the file is damaged or is not the official one; the message shows the difference.
    """

    name: ClassVar[str] = "enwik8"
    symbols: ClassVar[bytes] = BYTES

    @property
    def unit(self) -> str:
        """The name of a step: "byte"."""
        return "byte"


@lru_cache(maxsize=4)
def _numbers(symbols: bytes) -> NDArray[np.int16]:
    """The token of each byte, (256,); -1 if the byte is not a symbol."""
    table = np.full(256, _OUTSIDE, np.int16)
    table[list(symbols)] = np.arange(len(symbols))
    return table


def _check_symbols(text: NDArray[np.uint8], symbols: bytes, source: Path) -> None:
    """Raise a ValueError that names `source` and the place, unless the text consists of the symbols."""
    for begin in range(0, len(text), _BLOCK):
        wrong = np.flatnonzero(_numbers(symbols)[text[begin : begin + _BLOCK]] == _OUTSIDE)
        if len(wrong):
            place = begin + int(wrong[0])
            raise ValueError(
                f"{source}: {bytes([text[place]])!r} at character {place}, expected one of the {len(symbols)} "
                f"symbols {symbols!r}"
            )


@lru_cache(maxsize=1)
def _lines(paths: Sequence[Path]) -> Text:
    """The files of the Penn Treebank: train, valid, test."""
    parts: list[NDArray[np.uint8]] = []
    for file, path in zip(DATASETS["ptb"].files, paths, strict=True):
        raw = read_raw(path, file.plain_name, file.raw_size)
        check_raw(raw, file, path)
        parts.append(np.frombuffer(raw.removeprefix(b" ").replace(b"\n ", b"\n"), np.uint8))
        _check_symbols(parts[-1], PTB_SYMBOLS, path)
    train, valid, _ = map(len, parts)
    return Text(np.concatenate(parts), train, train + valid)


@lru_cache(maxsize=2)
def _large(name: str, path: Path, prefix: int | None, symbols: bytes) -> Text:
    """One file, or its first `prefix` characters, checked as far as checksums are known."""
    (file,), beginning = DATASETS[name].files, DATASETS[name].beginning
    raw = open_raw(path, file.plain_name, file.raw_size)
    if prefix is None or len(raw) == file.raw_size:
        check_raw(raw, file, path)
        return _split(raw[:prefix])
    if len(raw) < prefix:
        raise ValueError(f"{path}: {len(raw)} bytes decompressed, expected at least {prefix}, the prefix")
    if beginning is not None and len(raw) >= beginning.raw_size:
        check_raw(raw[: beginning.raw_size], beginning, path)
    _check_symbols(raw[:prefix], symbols, path)
    return _split(raw[:prefix])


def _split(symbols: NDArray[np.uint8]) -> Text:
    return Text(symbols, len(symbols) * 90 // 100, len(symbols) * 95 // 100)
