"""The fields of a dataclass as JSON values, and back; and as options of the command line."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Options = TypeVar("Options")


def plain(options: Any, *, absolute: bool = True) -> dict[str, Any]:
    """The fields of a dataclass as JSON values. Paths become absolute, also from ~, unless told otherwise."""
    return {field.name: to_json(getattr(options, field.name), absolute) for field in fields(options)}


def to_json(value: Any, absolute: bool = True) -> Any:
    """A value as JSON holds it."""
    if isinstance(value, Path):
        return str(Path(os.path.expanduser(value)).absolute() if absolute else value)
    if isinstance(value, list | tuple):
        return [to_json(item, absolute) for item in cast("Sequence[Any]", value)]
    if isinstance(value, Real) and not isinstance(value, int | float):  # of numpy
        return int(value) if isinstance(value, Integral) else float(value)
    return value


def from_plain(kind: Callable[..., Options], values: Mapping[str, Any]) -> Options:
    """A dataclass of the values that `plain` gave: the types of its fields say what is a path and what a tuple.

    Raises:
        ValueError: there is no such field, a value is not of its field's type, or it is out of range.
    """
    types = get_type_hints(kind)
    if unknown := sorted(values.keys() - types.keys()):
        raise ValueError(f"there is no option {unknown[0]!r}")
    found = {name: _from_json(name, value, types[name]) for name, value in values.items()}
    for name, value in found.items():
        if not _conforms(value, types[name]):
            raise ValueError(f"{name} must be {_described(types[name])}, got {value!r}")
    return kind(**found)


def _conforms(value: Any, kind: Any) -> bool:
    """Whether a value is of a type; of types that JSON does not hold, every value is."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if get_origin(kind) in (Union, UnionType):
        return any(_conforms(value, part) for part in parts)
    if get_origin(kind) is tuple:
        members = cast("tuple[Any, ...]", value) if isinstance(value, tuple) else None
        kinds = parts[:1] * len(members or ()) if parts[1:] == (...,) else parts
        return members is not None and all(map(_conforms, members, kinds))
    if kind in (int, float):
        return isinstance(value, int | kind) and not isinstance(value, bool)
    return not isinstance(kind, type) or kind not in _WORDS or isinstance(value, kind)


def _described(kind: Any) -> str:
    """A type in words."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return f"one of {list(parts)}"
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(_described, parts))
    return _WORDS.get(get_origin(kind) or kind, str(kind))


_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a text",
    Path: "a path",
    tuple: "a list",
    NoneType: "None",
}
"""The types of fields that JSON holds, in words."""


def _from_json(name: str, value: Any, kind: Any) -> Any:
    """A JSON value as a field of type `kind` holds it; the first member of a union that can hold it counts."""
    parts = get_args(kind)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if get_origin(kind) in (Union, UnionType) and value is not None:
        if isinstance(value, str) and str in parts:
            return value
        converted = (_from_json(name, value, part) for part in parts)
        return next((each for each in converted if type(each) is not type(value)), value)
    if get_origin(kind) is tuple and isinstance(value, list):
        items = cast("list[Any]", value)
        kinds = [parts[0]] * len(items) if parts[1:] == (...,) else parts
        if len(items) != len(kinds):
            raise ValueError(f"{name} must have {len(kinds)} values, got {len(items)}")
        return tuple(_from_json(name, item, each) for item, each in zip(items, kinds, strict=True))
    return value


def option(name: str, value: Any) -> list[str]:
    """The words that set one option on the command line."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    values = cast("list[Any]", value) if isinstance(value, list | tuple) else [value]
    return [f"--{flag}", *map(str, values)]
