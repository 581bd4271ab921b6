"""Labelled series in text files: sktime's .ts, and the older UCR files with one series per line.

Shapes: n values of a series, D dimensions.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.tables.cells import plain_float
from reminding.tasks.data.text import find_encoding, open_text, suffix_of

MISSING = ("", "?", "nan", "na", "null")
"""Words for a missing value in these files, in lower case."""
UNKNOWN = ("", "?")
"""Labels that are not known."""
NEEDED = "training and eval need labels, and `reminding predict RUN --input FILE` gives them"
"""What is said of a series without a label."""


@dataclass(frozen=True)
class One:
    """A series and its label.

    Args:
        label: as text; "" if the file has none.
        values: (n, D) float64, NaN where a value is missing.
        where: its file, and its line if the file has several.
        group: what the series belongs to, such as a speaker; "" if that is not known.
    """

    label: str
    values: NDArray[np.float64]
    where: str
    group: str = ""


def read_series(path: Path, *, unlabelled: bool = False) -> list[One]:
    """Read labelled series from a text file.

    Args:
        unlabelled: whether labels may be unknown, ? or empty; they are then "".

    Raises:
        ValueError: a line is not a series; the message names the file and the line.
    """
    with open_text(path, find_encoding(path)) as text:
        read = _read_ts if suffix_of(path) == ".ts" else _read_rows
        series = read(text, path, unlabelled)
    if not series:
        raise ValueError(f"data: {path} holds no series")
    widths = {one.values.shape[1] for one in series}
    if len(widths) > 1:
        raise ValueError(f"data: {path} has series of {min(widths)} and of {max(widths)} dimensions")
    return series


@dataclass
class _Header:
    """What the lines with @ before the data say, by keyword in lower case; and whether labels may be unknown."""

    says: dict[str, tuple[str, ...]]
    unlabelled: bool

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The declared classes; () if none are listed, None if the file has no labels."""
        first, *rest = self.says.get("classlabel", ("true",)) or ("true",)
        return tuple(rest) if first.lower() == "true" else None

    def is_true(self, word: str) -> bool:
        """Whether a keyword is followed by true."""
        return "".join(self.says.get(word, ())[:1]).lower() == "true"

    def dimensions(self, path: Path) -> int | None:
        """The declared number of dimensions; None if there is none.

        Raises:
            ValueError: what is declared is no number.
        """
        if "dimensions" not in self.says:
            return 1 if self.is_true("univariate") else None
        said = " ".join(self.says["dimensions"])
        if not said.isdecimal():
            raise ValueError(f"data: {path}: @dimensions is followed by {said or 'nothing'}, expected a number")
        return int(said)


def _read_ts(text: Iterator[str], path: Path, unlabelled: bool) -> list[One]:
    header = _Header({}, unlabelled)
    series: list[One] = []
    begun = False
    for number, line in enumerate(text, 1):
        content = line.strip().lstrip("\ufeff")
        if not content or content[0] in "#%":
            continue
        if content.startswith("@"):
            word, *rest = content[1:].split()
            header.says[word.lower()] = tuple(rest)
            begun = word.lower() == "data"
            if begun:
                _check_header(header, path)
            continue
        series.append(_ts_series(content, header, path, number))
    return series


def _check_header(header: _Header, path: Path) -> None:
    """Refuse what is not a classification of series without timestamps."""
    if header.is_true("timestamps"):
        raise ValueError(
            f"data: {path} has timestamps (@timeStamps true), which are not read; write the values alone, or "
            "give the series as a table to the task stream"
        )
    if header.is_true("targetlabel"):
        raise ValueError(
            f"data: {path} has a number to predict for each series (@targetLabel true), expected classes "
            "(@classLabel)"
        )


def _ts_series(content: str, header: _Header, path: Path, number: int) -> One:
    """One line: dimensions divided by colons, and after the last colon the label."""
    where = f"{path}, line {number}"
    if "(" in content.split(":")[0]:
        raise ValueError(
            f"data: {where}: values with timestamps, as in (0,1.5), are not read; write the values alone"
        )
    *dimensions, last = content.split(":")
    label = last.strip()
    classes = header.classes
    if classes is None or ("targetlabel" in header.says and "classlabel" not in header.says):
        dimensions, label = [*dimensions, last], ""
    elif not dimensions:
        raise ValueError(f"data: {where}: 0 colons, expected the values of a series, a colon, and its label")
    elif header.unlabelled and label in UNKNOWN:
        label = ""
    elif label in UNKNOWN and label not in classes:
        raise ValueError(f"data: {where}: the label is {label or 'empty'}; {NEEDED}")
    elif classes and label not in classes:
        raise ValueError(
            f"data: {where}: the label {label!r} is not among those of @classLabel: {', '.join(classes)}"
        )
    expected = header.dimensions(path)
    if expected is not None and len(dimensions) != expected:
        raise ValueError(
            f"data: {where}: {len(dimensions)} dimensions and a label, expected {expected} by the header"
        )
    columns = [numbers(part.split(","), where) for part in dimensions]
    lengths = {len(column) for column in columns}
    if len(lengths) > 1:
        raise ValueError(
            f"data: {where}: dimensions of {min(lengths)} and of {max(lengths)} values, expected equal ones"
        )
    return One(label, np.stack(columns, axis=1), where)


def _read_rows(text: Iterator[str], path: Path, unlabelled: bool) -> list[One]:
    """The label first, then the values. A shorter series may end in NaN or in empty cells."""
    series: list[One] = []
    separator: str | None = None
    for number, line in enumerate(text, 1):
        content = line.lstrip("\ufeff").rstrip("\n")
        if not content.strip() or content.lstrip()[0] in "#%":
            continue
        where = f"{path}, line {number}"
        if separator is None:
            separator = next((each for each in "\t;," if each in content), " ")
        cells = content.split() if separator == " " else next(csv.reader([content], delimiter=separator))
        label = cells[0].strip()
        unknown = label in UNKNOWN
        if unknown and not unlabelled:
            raise ValueError(f"data: {where}: the label, which is the first cell, is {label or 'empty'}; {NEEDED}")
        values = _without_padding(numbers(cells[1:], where))
        if not len(values):
            raise ValueError(f"data: {where}: no values, expected a label and at least one value")
        series.append(One("" if unknown else plain_label(label), values[:, None], where))
    return series


def _without_padding(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A series without the NaN with which the archive fills shorter ones at their end."""
    known = np.flatnonzero(~np.isnan(values))
    return values[: int(known[-1]) + 1] if len(known) else values[:0]


def plain_label(label: str) -> str:
    """A label as text. A whole number that is written with a point or an exponent, 1.0000000e+00, becomes 1."""
    if not re.fullmatch(r"[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?|[+-]?[0-9]+\.", label) or label.isdigit():
        return label
    try:
        number = Decimal(label)
    except InvalidOperation:
        return label
    whole = number == number.to_integral_value() and number.adjusted() < 100
    return f"{number.to_integral_value():f}" if whole and re.search(r"[.eE]", label) else label


def is_number(text: str) -> bool:
    """Whether a label or a cell is a finite number; nan and inf are texts."""
    try:
        return bool(np.isfinite(plain_float(text)))
    except ValueError:
        return False


def label_order(label: str) -> tuple[int, float, str]:
    """A sort key: numbers first, in their order, then other labels in alphabetical order."""
    return (0, float(label), label) if is_number(label) else (1, 0.0, label)


def numbers(cells: Sequence[str], where: str) -> NDArray[np.float64]:
    """The numbers in some cells, NaN where one is missing.

    Raises:
        ValueError: a cell holds something else, or is infinite.
    """
    found = np.empty(len(cells))
    for i, cell in enumerate(cells):
        text = cell.strip()
        try:
            found[i] = np.nan if text.lower() in MISSING else plain_float(text)
        except ValueError:
            raise ValueError(f"data: {where}: value {i + 1} is {text!r}, expected a number") from None
        if np.isinf(found[i]):
            raise ValueError(f"data: {where}: value {i + 1} is not finite")
    return found
