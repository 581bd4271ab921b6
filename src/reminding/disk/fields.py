"""The fields of a dataclass as JSON values, and back; and as options of the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

Options = TypeVar("Options")


def plain(options: Any, *, absolute: bool = True) -> dict[str, Any]:
    """The fields of a dataclass as JSON values. Paths become absolute, unless told otherwise."""
    return {field.name: to_json(getattr(options, field.name), absolute) for field in fields(options)}


def to_json(value: Any, absolute: bool = True) -> Any:
    """A value as JSON holds it."""
    if isinstance(value, Path):
        return str(value.absolute() if absolute else value)
    if isinstance(value, list | tuple):
        return [to_json(item, absolute) for item in cast("Sequence[Any]", value)]
    if isinstance(value, Real) and not isinstance(value, int | float):  # of numpy
        return int(value) if isinstance(value, Integral) else float(value)
    return value


def from_plain(kind: Callable[..., Options], values: Mapping[str, Any]) -> Options:
    """A dataclass of the values that `plain` gave: the types of its fields say what is a path and what a tuple.

    Raises:
        TypeError: there is no such field.
        ValueError: a value is out of range.
    """
    types = get_type_hints(kind)
    return kind(**{name: _from_json(name, value, types.get(name)) for name, value in values.items()})


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
