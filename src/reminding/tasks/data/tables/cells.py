"""What a cell of a table may hold, once in Python for the first lines, and once in SQL for whole files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from typing import Literal

from reminding.tasks.data.times.written import date_sql, is_timestamp, matches_sql, quoted, stripped_sql

Kind = Literal[
    "missing", "number", "infinite", "boolean", "thousands", "either", "comma", "european", "timestamp", "text"
]
"""thousands: 2,146.5; either: 2,146; comma: 1,5; european: 1.234,5. `either` depends on the decimal mark."""

MISSING = ("", "na", "n/a", "#n/a", "#n/a n/a", "#na", "<na>", "nan", "null", "none")
"""Words for a missing value, in lower case."""
ERRORS = (
    *("#n/a", "#n/a n/a", "#na", "#name?", "#div/0!", "#ref!", "#value!", "#num!", "#null!"),
    *("#spill!", "#calc!", "#field!", "#getting_data", "#blocked!", "#busy!", "#connect!", "#unknown!", "#####"),
)
"""What spreadsheets write in the place of a value, in lower case; a row may begin so, though a comment does too."""
NUMBERS: frozenset[str] = frozenset({"number", "boolean", "thousands", "either", "comma", "european"})
"""Kinds that are values of a column of numbers."""

TOTAL = -1
"""Stands for a word of a line of totals; see `mark_sql`."""
_TOTAL = (
    "((grand|sub)?[ _-]?totale?s?|sums?|means?|averages?|avg|medians?|min(imum)?|max(imum)?|std(ev)?|count|summe"
    "|gesamt|mittelwert):?"
)
_NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
_NAN = r"[+-]?nan(\([a-z0-9]*\))?|[+-]?1\.#(ind|[qs]nan)[0-9]*"
"""NaN as the printf of C libraries writes it: -nan, nan(ind), -1.#IND00."""
_INFINITE = r"[+-]?inf(inity)?|[+-]?1\.#inf[0-9]*"
_EITHER = r"[+-]?[1-9][0-9]{0,2},[0-9]{3}"
_THOUSANDS = r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?"
_COMMA = r"[+-]?([0-9]+,[0-9]*|,[0-9]+)([eE][+-]?[0-9]+)?"
_EUROPEAN = r"[+-]?[1-9][0-9]{0,2}(\.[0-9]{3})+(,[0-9]*)?"
_GROUPED = r"[+-]?[1-9][0-9]{0,2}\.[0-9]{3}"
_ORDER: tuple[tuple[Kind, str], ...] = (
    ("infinite", _INFINITE),
    ("either", _EITHER),
    ("thousands", _THOUSANDS),
    ("comma", _COMMA),
    ("european", _EUROPEAN),
)
"""Tried in this order, after missing values, numbers and booleans."""


def kind_of(cell: str, na: Sequence[str] = ()) -> Kind:
    """The kind of a cell."""
    text = cell.strip()
    named = text in map(str.strip, na) or _is_sentinel(text, na)
    if text.lower() in MISSING or named or re.fullmatch(_NAN, text, re.IGNORECASE):
        return "missing"
    if re.fullmatch(_NUMBER, text):
        return "infinite" if _is_huge(text) else "number"
    if text.lower() in ("true", "false"):
        return "boolean"
    for kind, pattern in _ORDER:
        if re.fullmatch(pattern, text, re.IGNORECASE):
            return "infinite" if kind == "comma" and _is_huge(text.replace(",", ".")) else kind
    return "timestamp" if is_timestamp(text) else "text"


def value_of(cell: str, decimal: str, na: Sequence[str] = ()) -> float | None:
    """The number in a cell, NaN if it is missing; None: the cell holds no number.

    Args:
        decimal: the decimal mark of the file, "." or ",".
    """
    text, kind = cell.strip(), kind_of(cell, na)
    if kind == "missing":
        return float("nan")
    if kind == "boolean":
        return float(text.lower() == "true")
    if decimal == ",":
        if re.fullmatch(_EUROPEAN, text):
            return float(text.replace(".", "").replace(",", "."))
        whole = kind == "number" and "." not in text
        return float(text.replace(",", ".")) if whole or kind in ("comma", "either") else None
    if kind in ("thousands", "either"):
        return float(text.replace(",", ""))
    return float(text) if kind == "number" else None


def plain_float(text: str) -> float:
    """The number in a text as `float` reads it; but 1_0, which `float` takes for 10, is none, as in tables.

    Raises:
        ValueError: it is none.
    """
    if "_" in text:
        raise ValueError(f"{text!r} is no number")
    return float(text)


def may_be_grouped(cell: str) -> bool:
    """Whether a cell is a plain number such as 1.234, which may be 1234."""
    return re.fullmatch(_GROUPED, cell.strip()) is not None


def simple_sql(cell: str) -> str:
    """SQL of the number in a cell that is written with a decimal point or as an integer; NULL for all others."""
    return f"CASE WHEN contains({cell}, '_') THEN NULL ELSE try_cast({cell} AS DOUBLE) END"


def whole_sql(cell: str, kind: str) -> str:
    """SQL of the whole number in a cell of a type, of 64 bits; NULL for all others."""
    if kind == "VARCHAR":
        return f"try_cast(regexp_extract({stripped_sql(cell)}, '^([+-]?[0-9]+)([.]0*)?$', 1) AS BIGINT)"
    return f"try_cast({cell} AS BIGINT)" if re.fullmatch(r"\w*INT\w*|DECIMAL\(\d+,0\)", kind) else "NULL::BIGINT"


def number_sql(cell: str, decimal: str) -> str:
    """SQL of the number in a cell, with a decimal mark; NULL for all others, and for true and false."""
    text = stripped_sql(cell)
    if decimal == ",":
        european = f"try_cast(replace(replace({text}, '.', ''), ',', '.') AS DOUBLE)"
        plain = f"try_cast(replace({text}, ',', '.') AS DOUBLE)"
        return (
            f"CASE WHEN contains({text}, '_') THEN NULL WHEN {matches_sql(text, _EUROPEAN)} THEN {european} "
            f"WHEN NOT contains({text}, '.') THEN {plain} END"
        )
    grouped = f"try_cast(replace({text}, ',', '') AS DOUBLE)"
    return f"coalesce({simple_sql(text)}, CASE WHEN {matches_sql(text, _THOUSANDS)} THEN {grouped} END)"


def value_sql(cell: str, decimal: str, na: Sequence[str]) -> str:
    """SQL of `value_of`, NULL where it gives NaN or None."""
    boolean = f"CASE lower({stripped_sql(cell)}) WHEN 'true' THEN 1.0 WHEN 'false' THEN 0.0 END"
    number = number_sql(cell, decimal)
    return f"CASE WHEN {missing_sql(cell, na)} THEN NULL ELSE coalesce({number}, {boolean}) END"


def grouped_sql(cell: str) -> str:
    """SQL of the plain number in a cell such as 1.234, which may be 1234; NULL for a cell without a point.

    It is infinite for cells such as 12.5 or 0.123, which show that the point is the decimal mark.
    """
    text = stripped_sql(cell)
    return (
        f"CASE WHEN NOT coalesce(contains({text}, '.'), false) THEN NULL WHEN {matches_sql(text, _GROUPED)} "
        f"THEN try_cast({text} AS DOUBLE) ELSE 'infinity'::DOUBLE END"
    )


def kind_sql(cell: str, na: Sequence[str]) -> str:
    """SQL of `kind_of`; timestamps are dates in all forms."""
    text = stripped_sql(cell)
    cases = [
        (missing_sql(cell, na), "missing"),
        (f"isinf(coalesce({simple_sql(text)}, 0))", "infinite"),
        (f"{simple_sql(text)} IS NOT NULL", "number"),
        (f"lower({text}) IN ('true', 'false')", "boolean"),
        (
            f"isinf(coalesce(try_cast(replace({text}, ',', '.') AS DOUBLE), 0)) AND {matches_sql(text, _COMMA)}",
            "infinite",
        ),
        *((matches_sql(text, pattern), kind) for kind, pattern in _ORDER),
        (date_sql(text), "timestamp"),
    ]
    return "CASE " + " ".join(f"WHEN {test} THEN '{kind}'" for test, kind in cases) + " ELSE 'text' END"


def missing_sql(cell: str, na: Sequence[str]) -> str:
    """SQL of whether a cell is missing."""
    text = stripped_sql(cell)
    words = ", ".join(map(quoted, MISSING))
    tests = [f"{cell} IS NULL", f"lower({text}) IN ({words})", matches_sql(text, _NAN)]
    if na:
        tests.append(f"{text} IN ({', '.join(quoted(word.strip()) for word in na)})")
    if numbers := sentinels(na):
        tests.append(f"{_unambiguous_sql(text)} IN ({', '.join(map(repr, numbers))})")
    return "(" + " OR ".join(tests) + ")"


def mark_sql(cell: str, marks: Sequence[str], words: Sequence[str]) -> str:
    """SQL of the mark that a cell begins with, as its place among some, from 1; TOTAL for a word of a line of totals.

    It is 0 for all others, and for some words that begin with a mark.
    """
    text = f"trim({cell})"
    tests = " ".join(f"WHEN starts_with({text}, {quoted(mark)}) THEN {place}" for place, mark in enumerate(marks, 1))
    return (
        f"CASE WHEN {simple_sql(cell)} IS NOT NULL OR lower({text}) IN ({', '.join(map(quoted, words))}) THEN 0.0 "
        f"{tests} WHEN {matches_sql(text, _TOTAL)} THEN {TOTAL} ELSE 0.0 END"
    )


def sentinels(na: Sequence[str]) -> list[float]:
    """The numbers among the words for a missing value; -999 also stands for a cell with -999.0 or -999,00."""
    numbers = [_unambiguous(word.strip()) for word in na]
    return [number for number in numbers if number is not None and isfinite(number)]


def _is_sentinel(text: str, na: Sequence[str]) -> bool:
    return bool(na) and _unambiguous(text) in sentinels(na)


def _unambiguous(text: str) -> float | None:
    """The number in a text; None where the decimal mark of the file decides it, as in 2,146, or there is none."""
    if re.fullmatch(_NUMBER, text):
        return float(text)
    kind = next((kind for kind, pattern in _ORDER if re.fullmatch(pattern, text, re.IGNORECASE)), "text")
    if kind in ("comma", "european"):
        return float(text.replace(".", "").replace(",", "."))
    return float(text.replace(",", "")) if kind == "thousands" else None


def _unambiguous_sql(text: str) -> str:
    """SQL of `_unambiguous`."""
    point = f"try_cast(replace({text}, ',', '') AS DOUBLE)"
    comma = f"try_cast(replace(replace({text}, '.', ''), ',', '.') AS DOUBLE)"
    return (
        f"coalesce({simple_sql(text)}, CASE WHEN {matches_sql(text, _EITHER)} THEN NULL "
        f"WHEN {matches_sql(text, _THOUSANDS)} THEN {point} "
        f"WHEN {matches_sql(text, f'{_COMMA}|{_EUROPEAN}')} THEN {comma} END)"
    )


def _is_huge(text: str) -> bool:
    """Whether a number is too large for float64."""
    return abs(float(text)) == float("inf")
