"""The space of a sweep: the options of the command line that it searches, read from a TOML file."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from reminding.lab.runs.config import RunConfig, TrainOptions, model_defaults

PARTS = ("task", "model", "train")
NOT_SEARCHED = ("eval_every", "eval_sequences", "test_sequences", "device", "threads")
"""Options that change how a result is measured, or where: trials that differ in them cannot be compared."""
RANGE_KEYS = ("low", "high", "log", "step")
CHOICE_KEYS = ("choice",)
ROUNDING = 1e-9
"""Of the number of steps in a range: 0.1 goes nine times into 0.1 to 1.0, although their floats divide to 8.999."""

Scalar = int | float | str | bool | None


@dataclass(frozen=True)
class Dimension:
    """An option that a sweep searches.

    Args:
        name: the option's name on the command line, with underscores.
        part: "task", "model" or "train".
        field: the option's name within its part.
        kind: "int" or "float", a range; "choice", one of `choices`.
        low: least value of a range.
        high: greatest value of a range; with a step, low and a whole number of steps.
        log: whether a range is searched on a logarithmic scale.
        step: distance between the values of a range; None: 1 for int, any value for float.
        choices: the values of a choice.
    """

    name: str
    part: str
    field: str
    kind: Literal["int", "float", "choice"]
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    choices: tuple[Scalar, ...] = ()

    def record(self) -> dict[str, Any]:
        """The dimension as JSON values, as in the space file."""
        if self.kind == "choice":
            return {"choice": list(self.choices)}
        told = {"kind": self.kind, "low": self.low, "high": self.high, "log": self.log}
        return told if self.step is None else {**told, "step": self.step}

    @staticmethod
    def of_record(name: str, record: Mapping[str, Any]) -> Dimension:
        """The dimension that `record` told, without its place among the options."""
        if "choice" in record:
            return Dimension(name, "", name, "choice", choices=tuple(record["choice"]))
        return Dimension(name, "", name, **record)


@dataclass(frozen=True)
class Space:
    """The options that a sweep searches, in the order of their file."""

    dimensions: Sequence[Dimension]

    @staticmethod
    def read(path: Path, task: type[Any], model: type[Any]) -> Space:
        """The space in a TOML file: a table for each option, with low and high (and log, step), or with choice.

        Args:
            task: the class of the task, whose fields are options.
            model: the class of the model's options.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: a table or key is wrong; the message names file, table and key.
        """
        if not path.is_file():
            raise FileNotFoundError(f"space: there is no file {path}")
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"space: {path} is not a TOML file: {error}") from error
        if not content:
            raise ValueError(f"space: {path} names no option")
        options = command_line_options({"task": task, "model": model, "train": TrainOptions})
        found: dict[str, Dimension] = {}
        for key, table in content.items():
            name = key.replace("-", "_")
            try:
                if name in found:
                    raise ValueError("the option is named twice")
                found[name] = _dimension(name, table, options)
            except ValueError as error:
                raise ValueError(f"space: {path}: {key}: {error}") from error
        return Space(tuple(found.values()))

    def check_free(self, given: RunConfig) -> None:
        """Refuse an option that is both searched and given on the command line.

        Args:
            given: the options of the command line.

        Raises:
            ValueError: names the option.
        """
        task: Any = given.task.__class__
        defaults = {"model": vars(model_defaults(task)), "train": vars(TrainOptions())}
        defaults["task"] = {field.name: field.default for field in fields(task)}
        for each in self.dimensions:
            value = getattr(getattr(given, each.part), each.field)
            if value != defaults[each.part][each.field]:
                raise ValueError(f"{each.name} is {value} on the command line, but the space searches it")

    def check_read(self, given: RunConfig, given_names: Collection[str]) -> None:
        """Refuse an option of the model, searched or given, that means nothing in any trial.

        Args:
            given: the options of the command line; given_names: those that are written there.

        Raises:
            ValueError: names the option, and says why.
        """
        searched = [each for each in self.dimensions if each.part == "model"]
        ends = [[(each.field, end) for end in each.choices or (each.low, each.high)] for each in searched]
        names = {each.field for each in searched} | (vars(given.model).keys() & given_names)
        for name in sorted(names):
            trials = (replace(given, model=replace(given.model, **dict(each))).unread() for each in product(*ends))
            first = next(trials)
            if name in first and all(name in trial for trial in trials):
                raise ValueError(f"{name} {first[name]}, and so in every trial")

    def config(self, base: RunConfig, values: Mapping[str, Scalar]) -> RunConfig:
        """A run whose options in the space have some values, and whose other options are those of `base`.

        Options that mean nothing to the trial's model are at their defaults.

        Raises:
            ValueError: a value is out of range.
        """
        for part in PARTS:
            changes = {each.field: values[each.name] for each in self.dimensions if each.part == part}
            if changes:
                base = replace(base, **{part: replace(getattr(base, part), **changes)})
        return base.essential()

    def record(self) -> dict[str, Any]:
        """The space as JSON values."""
        return {each.name: each.record() for each in self.dimensions}


@dataclass(frozen=True)
class _Option:
    part: str
    field: str
    kind: Any


def command_line_options(parts: Mapping[str, type[Any]]) -> dict[str, _Option]:
    """Every option by its name on the command line, with underscores; see `reminding.cli.parsing.parse`."""
    options: dict[str, _Option] = {}
    taken: set[str] = set()
    for part, kind in parts.items():
        hints = get_type_hints(kind)
        own = {field.name for field in fields(kind)}
        for name in own:
            options[f"{part}_{name}" if name in taken else name] = _Option(part, name, hints[name])
        taken |= own
    return options


def _dimension(name: str, table: Any, options: Mapping[str, _Option]) -> Dimension:
    if name not in options:
        near = difflib.get_close_matches(name, options, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"there is no such option{hint}")
    option = options[name]
    if option.part == "train" and option.field in NOT_SEARCHED:
        raise ValueError("trials that differ in this option cannot be compared; give it on the command line")
    if not isinstance(table, dict):
        raise ValueError(f"expected a table with low and high, or with choice, got {table!r}")
    content = cast("dict[str, Any]", table)
    if "choice" in content:
        _known_keys(content, CHOICE_KEYS, "choice stands alone")
        return _choice(name, option, content["choice"])
    _known_keys(content, RANGE_KEYS, "a range has low, high and perhaps log or step; a choice has choice alone")
    return _range(name, option, content)


def _known_keys(table: Mapping[str, Any], known: Sequence[str], hint: str) -> None:
    if unknown := sorted(set(table) - set(known)):
        raise ValueError(f"{unknown[0]} is not a key here; {hint}")


def _choice(name: str, option: _Option, values: Any) -> Dimension:
    if not isinstance(values, list) or len(cast("list[Any]", values)) < 2:
        raise ValueError(f"choice must be a list of at least two values, got {values!r}")
    read = tuple(_value(each, option) for each in cast("list[Any]", values))
    if len({(type(each), each) for each in read}) < len(read):
        raise ValueError(f"choice has a value twice: {values!r}")
    for each in read:
        _allowed("choice", each, option)
    return Dimension(name, option.part, option.field, "choice", choices=read)


def _value(value: Any, option: _Option) -> Scalar:
    """A value of a choice, as the option has it; "None" is None where the option may be None, as when typed."""
    kinds = _members(option.kind)
    if value == "None" and NoneType in kinds:
        return None
    for kind in kinds:
        if get_origin(kind) is Literal and type(value) is str and value in get_args(kind):
            return value
        if kind in (str, bool, int) and type(value) is kind:
            return value
        if kind is float and type(value) in (int, float):
            return float(value)
    raise ValueError(f"choice has {value!r}, which the option cannot be")


def _range(name: str, option: _Option, table: Mapping[str, Any]) -> Dimension:
    kinds = _members(option.kind)
    kind: Literal["int", "float"] = "float" if float in kinds else "int"
    if kind not in {each.__name__ for each in kinds if isinstance(each, type)}:
        raise ValueError("the option is not a number; give it a choice")
    numbers = {key: _number(key, table[key], kind) for key in ("low", "high", "step") if key in table}
    for key in ("low", "high"):
        if key not in numbers:
            raise ValueError(f"{key} is missing")
        _allowed(key, numbers[key], option)
    low, high, step, log = numbers["low"], numbers["high"], numbers.get("step"), table.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"log must be true or false, got {log!r}")
    if low >= high:
        raise ValueError(f"low must be below high, got {low:g} and {high:g}")
    if log and low <= 0:
        raise ValueError(f"low must be above 0 on a logarithmic scale, got {low:g}")
    if step is not None and (log or step <= 0):
        raise ValueError(f"step must be above 0, and is not for a logarithmic scale; got {step:g}")
    if step is not None:
        high = _last(low, high, step)
    return Dimension(name, option.part, option.field, kind, low, high, log, step)


def _number(key: str, value: Any, kind: Literal["int", "float"]) -> float:
    if type(value) not in ((int,) if kind == "int" else (int, float)):
        raise ValueError(f"{key} must be {'an integer' if kind == 'int' else 'a number'}, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{key} must be finite, got {value}")
    return value if kind == "int" else float(value)


def _last(low: float, high: float, step: float) -> float:
    """The greatest value of a range with a step, which need not divide it."""
    steps = math.floor((high - low) / step + ROUNDING)
    if steps < 1:
        raise ValueError(f"step must be at most high - low, {high - low:g}, got {step:g}")
    return low + steps * step


def _members(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _allowed(key: str, value: Scalar, option: _Option) -> None:
    """Refuse a value that the training refuses. Other values may depend on each other; their trials fail."""
    if option.part == "train":
        try:
            replace(TrainOptions(), **{option.field: value})
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
