"""Times as texts write them: whether a text is one in Python, and its value in the SQL of DuckDB, for whole files."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Order = Literal["year first", "day first", "month first", "short year first"]
"""How a date is written: 2024-12-31, 31/12/2024 or 31/12/24, 12/31/2024 or 12/31/24, 24-12-31."""
_CLOCK = r"[0-9]+:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
_ELAPSED = rf"({_CLOCK}|[0-9]+ days?(,? {_CLOCK})?)"
_SHORT = r"[0-9]{1,2}"
_DATES: dict[Order, tuple[str, str]] = {
    "year first": (rf"([0-9]{{4}})[-/.]({_SHORT})[-/.]({_SHORT})", "ymd"),
    "day first": (rf"({_SHORT})[-/.]({_SHORT})[-/.]([0-9]{{4}}|[0-9]{{2}})", "dmy"),
    "month first": (rf"({_SHORT})[-/]({_SHORT})[-/]([0-9]{{4}}|[0-9]{{2}})", "mdy"),
    "short year first": (r"([0-9]{2})[-/]([0-9]{2})[-/]([0-9]{2})", "ymd"),
}
"""Dates by the order of day, month and year; and which part each group is. Before points, the day stands first."""
ORDERS: tuple[Order, ...] = tuple(_DATES)
_MONTHS = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    "|nov(?:ember)?|dec(?:ember)?"
)
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? +)?"
_NAMED = (
    (rf"{_WEEKDAY}({_SHORT})[-/. ]{{0,2}}({_MONTHS})\.?[-/., ]{{0,2}}([0-9]{{4}}|[0-9]{{2}})((?:[^0-9].*)?)", "dmy"),
    (rf"{_WEEKDAY}({_MONTHS})\.?[-/. ]{{1,2}}({_SHORT})[-/., ]{{1,2}}([0-9]{{4}})((?:[^0-9].*)?)", "mdy"),
    (rf"([0-9]{{4}})[-/. ]({_MONTHS})[-/. ]({_SHORT})((?:[^0-9].*)?)", "ymd"),
    (rf"({_MONTHS})\.?[-/, ]{{0,2}}([0-9]{{4}})", "my"),
    (rf"([0-9]{{4}})[-/ ]?({_MONTHS})", "ym"),
)
"""Dates with the English name of the month, with or without a day, and what follows; and which part each group is."""
_PERIODS = (
    (r"([0-9]{4})[- ]?([MQSHW])([0-9]{1,2}(?:-[1-7])?)", r"\1\2\3"),
    (r"([MQSH])([0-9]{1,2})[-/ ]?([0-9]{4})", r"\3\1\2"),
    (r"([0-9]{4})[-/]([0-9]{1,2})", r"\1M\2"),
    (r"([0-9]{1,2})/([0-9]{4})", r"\2M\1"),
    (r"([0-9]{4})-([0-9]{3})", r"\1D\2"),
)
"""Months, quarters, halves (S, H), ISO weeks and counted days of a year; and each as the first form has it."""
LONGEST = 10
"""Characters of a period."""
_COMPACT = r"([0-9]{4})([0-9]{2})([0-9]{2})[Tt:_ ]([0-9]{2}):?([0-9]{2})"
"""The short form of ISO 8601, such as 20241231T235959Z, and 20241231:2359."""
DATES_READ = (
    "2024-12-31 23:59, 31.12.2024, 12/31/24, 31 Dec 2024, 2024-12 (a month), 2024-Q4, 2024-W52, 20241231, a number, "
    "or 0:01:30"
)
"""Forms of times, for messages."""
_OFFSET = r"(?:(?:UTC|GMT)?([+-])([0-9]{1,2}):?([0-9]{2})?|Z)(?:\[[^\]]*\])?"
_TIME = (
    rf"(?:(?:[Tt]| +|, *)({_SHORT}(?::{_SHORT}){{0,2}}(?:[.,][0-9]*)?)(?: ?([AaPp])\.?[Mm]\b\.?)?( *{_OFFSET})?)?"
    r"(?: *([A-Za-z][A-Za-z0-9_/+-]*))?"
)
"""What may follow a date: a time of day, am or pm, and a distance from UTC or the name of a zone."""
_PLAIN_TIME = r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?)?"
_TIME_PARTS = ("clock", "half", "offset", "sign", "hours", "minutes", "zone")
_ZONES = {
    **{"Z": 0, "UTC": 0, "GMT": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3},
    **{"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7},
}
"""Hours from UTC: zones of Europe, and those of RFC 5322."""
_BLANK = r"[\s\v\x1c-\x1f\x{85}\p{Z}]+"
"""White space around a text, as for Python's `strip`; DuckDB's `trim` leaves tabs, its casts refuse wide blanks."""
_HOUR, _DAY = 3_600_000_000, 86_400_000_000
"""In microseconds."""


def is_timestamp(text: str) -> bool:
    """Whether a text is a date, or a date and time, as ISO 8601 writes them or nearly so."""
    try:
        datetime.fromisoformat(text.replace("/", "-"))
    except ValueError:
        return False
    return len(text) > 7


def is_time(text: str) -> bool:
    """Whether a text has the form of a date, perhaps with a time, in any order of its parts, or of a time of day."""
    forms = (_ELAPSED, _COMPACT + ".*", *(date + _TIME for date, _ in _DATES.values()))
    named = any(re.fullmatch(form, text.strip(), re.IGNORECASE) for form, _ in (*_NAMED, *_PERIODS))
    return named or is_timestamp(text) or any(re.fullmatch(form, text.strip()) for form in forms)


def quoted(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def matches_sql(text: str, pattern: str) -> str:
    """SQL of whether all of a text has a pattern, in capitals or not."""
    return f"regexp_full_match({text}, '(?i)({pattern})')"


def date_sql(text: str) -> str:
    """SQL of whether a text has the form of a date, perhaps with a time, in any order of its parts."""
    forms = [
        _COMPACT + ".*",
        *(date + _TIME for date, _ in _DATES.values()),
        *(form for form, _ in _NAMED + _PERIODS),
    ]
    plain = f"try_cast({text} AS TIMESTAMP) IS NOT NULL AND length({text}) > 7"
    return f"(({plain}) OR {matches_sql(text, '|'.join(forms))})"


def whole_times(values: NDArray[Any]) -> NDArray[np.datetime64] | None:
    """The points in time that whole numbers stand for: 202412 (a month), 20241231, 2024123123, 202412312359 or
    20241231235959.

    Args:
        values: (n,); numbers.

    Returns:
        (n,), in microseconds; None unless all have as many digits and are points in time from 1800 to 2199. Ten
        digits may be seconds since 1970 as well: they are dates and hours if all have an hour, a day and a month.
    """
    digits = len(f"{values[0]:.0f}") if len(values) and np.isfinite(values[0]) else 0
    if digits not in (6, 8, 10, 12, 14):
        return None
    year = 10 ** (digits - 4)
    if not bool(((values >= 1800 * year) & (values < 2200 * year) & (values % 1 == 0)).all()):
        return None
    numbers = values.astype(np.int64) * 10 ** (14 - digits) + (1_00_00_00 if digits == 6 else 0)
    month, day, hour, minute, second = (numbers // 10**place % 100 for place in (8, 6, 4, 2, 0))
    months = (numbers // 10**10 - 1970) * 12 + month - 1
    days: NDArray[Any] = months.astype("datetime64[M]").astype("datetime64[D]") + (day - 1)
    valid = (month >= 1) & (month <= 12) & (day >= 1) & (days.astype("datetime64[M]").astype(np.int64) == months)
    valid &= (hour < 24) & (minute < 60) & (second < 60)
    seconds: NDArray[Any] = days.astype("datetime64[s]") + (hour * 3600 + minute * 60 + second)
    return seconds.astype("datetime64[us]") if valid.all() else None


def stripped_sql(text: str) -> str:
    """SQL of a text without white space around it."""
    return f"regexp_replace({text}, {quoted(f'^{_BLANK}|{_BLANK}$')}, '', 'g')"


def elapsed_sql(cell: str) -> str:
    """SQL of the seconds in a duration, or since midnight, such as "1:30" (hours), "0:01:30.5", "2 days 03:00:00"."""
    text = stripped_sql(cell)
    number = f"epoch(try_cast(replace({text}, ',', '') AS INTERVAL))"
    return f"CASE WHEN {matches_sql(text, _ELAPSED)} THEN {number} END"


def time_sql(cell: str, order: Order) -> str:
    """SQL of a point in time, in microseconds since 1970 in UTC; NULL for a cell that holds none in this order.

    A time of day may have am or pm. A distance from UTC, or the name of a zone, is taken into account; a zone that is
    not known makes the cell no time.
    """
    day = f"epoch_us(try_cast(concat_ws('-', {_year('p.y')}, p.m, p.d) AS DATE))"
    written = "CASE WHEN contains(p.clock, ':') THEN replace(p.clock, ',', '.') ELSE p.clock || ':00' END"
    noon = f"CASE WHEN lower(p.half) = 'p' THEN {12 * _HOUR} ELSE 0 END"
    half = f"CASE WHEN c >= {_HOUR} AND c < {13 * _HOUR} THEN c % {12 * _HOUR} + {noon} END"
    clock = f"CASE WHEN p.clock = '' THEN 0 WHEN p.half <> '' THEN {half} WHEN c <= {_DAY} THEN c END"
    local = f"list_transform([epoch_us(try_cast({written} AS INTERVAL))], lambda c: {day} + {clock})[1]"
    minutes = "(p.hours::BIGINT * 60 + coalesce(try_cast(p.minutes AS BIGINT), 0))"
    zones = " ".join(f"WHEN '{zone}' THEN {hours * _HOUR}" for zone, hours in _ZONES.items())
    ahead = (
        f"CASE WHEN p.sign = '-' THEN -{minutes} * {_HOUR // 60} WHEN p.sign = '+' THEN {minutes} * {_HOUR // 60} "
        f"WHEN p.zone = '' THEN 0 ELSE CASE upper(p.zone) {zones} END END"
    )
    place = "epoch_us(try_cast(make_timestamp(t)::VARCHAR || ' ' || p.zone AS TIMESTAMPTZ))"
    utc = (
        f"CASE WHEN p.zone = '' OR p.offset = '' THEN CASE WHEN contains(p.zone, '/') THEN {place} "
        f"ELSE t - {ahead} END END"
    )
    general = _parts(cell, order, f"list_transform([{local}], lambda t: {utc})[1]")
    if order == "short year first":
        return general
    text, form = f"trim({cell})", "[0-9]{4}-[0-9]{2}-[0-9]{2}"
    if order != "year first":
        day, month = (1, 4) if order == "day first" else (4, 1)
        form = "[0-9]{2}[-/.][0-9]{2}[-/.][0-9]{4}" if order == "day first" else "[0-9]{2}[-/][0-9]{2}[-/][0-9]{4}"
        parts = [f"substr({text}, {begin}, {count})" for begin, count in ((7, 4), (month, 2), (day, 2))]
        text = f"concat(concat_ws('-', {', '.join(parts)}), substr({text}, 11))"
    plain = f"regexp_full_match(trim({cell}), {quoted(form + _PLAIN_TIME)})"  # most files, several times as fast
    return f"CASE WHEN {plain} THEN epoch_us(try_cast({text} AS TIMESTAMP)) ELSE {general} END"


def nanoseconds_sql(cell: str, order: Order) -> str:
    """SQL of the nanoseconds beyond whole microseconds of a point in time, 0 to 999."""
    fine = f"regexp_matches({cell}, '[.,][0-9]{{7}}')"
    digits = "regexp_extract(p.clock, '[.,][0-9]{6}([0-9]{1,3})', 1)"
    found = _parts(cell, order, f"coalesce(try_cast(rpad({digits}, 3, '0') AS BIGINT), 0)")
    return f"CASE WHEN {fine} THEN {found} ELSE 0 END"


def zoned_sql(cell: str, order: Order) -> str:
    """SQL of whether a point in time has a distance from UTC or the name of a zone, 1 or 0."""
    perhaps = f"regexp_matches({cell}, '[A-SU-Za-su-z+]|[Tt:].*[A-Za-z-]')"
    found = _parts(cell, order, "CAST(p.offset <> '' OR p.zone <> '' AS INTEGER)")
    return f"CASE WHEN {perhaps} THEN {found} ELSE 0 END"


def _parts(cell: str, order: Order, of: str) -> str:
    """SQL of an expression of the parts p of a point in time; NULL where the cell does not have the form."""
    date, places = _DATES[order]
    names = ", ".join(map(quoted, (*places, *_TIME_PARTS)))
    text = _numbered(stripped_sql(cell)) if order == "year first" else stripped_sql(cell)
    found = f"regexp_extract({text}, {quoted(f'^{date}{_TIME}$')}, [{names}])"
    return f"list_transform([{found}], lambda p: CASE WHEN p.d <> '' THEN {of} END)[1]"


def _year(text: str) -> str:
    """SQL of a year with four digits, of one with two or four."""
    return f"CASE WHEN length({text}) = 4 THEN {text} WHEN {text} < '69' THEN '20' || {text} ELSE '19' || {text} END"


def _numbered(text: str) -> str:
    """SQL of a text that begins with the numbers of year, month and day, where it names the month or has no day.

    "1 Jan 2024 12:00" becomes "2024-1-1 12:00", "2024-01" and "Jan 2024" the first day of the month, "2024-Q2" that
    of the quarter, and "20240101T1200" gets its signs; others stay as they are.
    """
    month = "(strpos('janfebmaraprmayjunjulaugsepoctnovdec', lower(substr(q.m, 1, 3))) + 2) // 3"
    named: list[str] = []
    for pattern, places in _NAMED:
        day, parts = ("q.d, q.rest", [*places, "rest"]) if "d" in places else ("'1'", [*places])
        date = f"concat({_year('q.y')}, '-', {month}, '-', {day})"
        found = f"regexp_extract({text}, {quoted(f'(?i)^{pattern}$')}, [{', '.join(map(quoted, parts))}])"
        named.append(f"list_transform([{found}], lambda q: CASE WHEN q.y <> '' THEN {date} END)[1]")
    compact = text
    for form, signs in ((_COMPACT + ":?([0-9]{2})", r"\1-\2-\3 \4:\5:\6"), (_COMPACT, r"\1-\2-\3 \4:\5")):
        compact = f"regexp_replace({compact}, {quoted('^' + form)}, {quoted(signs)})"
    return (
        f"CASE WHEN length({text}) <= {LONGEST} AND {matches_sql(text, '|'.join(form for form, _ in _PERIODS))} "
        f"THEN coalesce({_first_day(text)}, {text}) "
        f"WHEN regexp_matches({text}, {quoted('^' + _COMPACT)}) THEN {compact} "
        f"WHEN regexp_matches({text}, '(?i){_MONTHS}') THEN coalesce({', '.join(named)}, {text}) ELSE {text} END"
    )


def _first_day(text: str) -> str:
    """SQL of the first day of a period, such as "2024-04-01" for "2024-Q2"; NULL if its year has no such period."""
    period = text
    for form, alike in _PERIODS:
        period = f"regexp_replace({period}, {quoted(f'(?i)^{form}$')}, {quoted(alike)})"
    parts = f"regexp_extract({period}, '(?i)^([0-9]{{4}})([A-Z])([0-9]+)-?([1-7]?)$', ['y', 'p', 'n', 'd'])"
    year, number = "q.y::INTEGER", "(q.n::INTEGER - 1)"
    months = "CASE upper(q.p) WHEN 'M' THEN 1 WHEN 'Q' THEN 3 ELSE 6 END"
    day = (
        f"CASE upper(q.p) WHEN 'D' THEN make_date({year}, 1, 1) + {number} "
        f"WHEN 'W' THEN date_trunc('week', make_date({year}, 1, 4))::DATE + 7 * {number} "
        f"+ coalesce(try_cast(q.d AS INTEGER), 1) - 1 "
        f"ELSE (make_date({year}, 1, 1) + to_months(({number} * {months})::INTEGER))::DATE END"
    )
    its_year = "CASE WHEN upper(q.p) = 'W' THEN isoyear(f) ELSE year(f) END"
    alone = "(q.d = '' OR upper(q.p) = 'W')"
    within = f"CASE WHEN {its_year} = {year} AND {number} >= 0 AND {alone} THEN CAST(f AS VARCHAR) END"
    return f"list_transform([{parts}], lambda q: list_transform([{day}], lambda f: {within})[1])[1]"
