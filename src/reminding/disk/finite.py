"""Numbers that are not finite, in objects for JSON, which has none of them.

In a file null stands in their place, so that any program can read it, and one more entry says which numbers they are,
each at its JSON pointer (RFC 6901):

    {"loss": null, "norms": [1.5, null], "not_finite": {"/loss": "NaN", "/norms/1": "-Infinity"}}

Files of version 0.1 have Python's own NaN and Infinity, which are read as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

NOT_FINITE = "not_finite"
"""The entry that says which numbers they are; no other may have this name."""
NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def finite(content: Mapping[str, Any]) -> dict[str, Any]:
    """An object with null for each number that is not finite, and the entry that says which it was if there are any.

    Raises:
        ValueError: the object has an entry of that name.
    """
    if NOT_FINITE in content:
        raise ValueError(f"content must have no entry {NOT_FINITE!r}, which says what numbers are not finite")
    found: dict[str, str] = {}
    plain = _plain(dict(content), "", found)
    return {**plain, NOT_FINITE: found} if found else plain


def _plain(value: Any, pointer: str, found: dict[str, str]) -> Any:
    """A value with null for what is not finite; this is added to what was found."""
    if isinstance(value, float) and not math.isfinite(value):
        found[pointer] = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return None
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value).items()
        return {name: _plain(each, f"{pointer}/{_escaped(name)}", found) for name, each in members}
    if isinstance(value, list | tuple):
        members = enumerate(cast("list[Any]", value))
        return [_plain(each, f"{pointer}/{place}", found) for place, each in members]
    return value


def _escaped(name: object) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")


def restored(content: dict[str, Any]) -> dict[str, Any]:
    """The object that `finite` was given, changed in place.

    Raises:
        ValueError: the entry names a place that does not hold null, or no number that is not finite.
    """
    told: Any = content.pop(NOT_FINITE, {})
    if not isinstance(told, dict):
        raise ValueError(f"{NOT_FINITE} must be an object, got {told!r:.40}")
    for pointer, name in cast("dict[str, Any]", told).items():
        try:
            _put(content, pointer, NUMBERS[name])
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{NOT_FINITE} says {name!r:.40} of {pointer!r:.40}, where no null is") from error
    return content


def _put(content: Any, pointer: str, number: float) -> None:
    """Put a number in the place of the null that a pointer leads to."""
    start, *names = (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/"))
    *outer, last = [] if start else names
    for name in outer:
        content = content[_place(content, name)]
    if content[_place(content, last)] is not None:
        raise ValueError(pointer)
    content[_place(content, last)] = number


def _place(content: Any, name: str) -> int | str:
    return int(name) if isinstance(content, list) else name
