"""Reading the command line. The one file that imports tyro."""

from __future__ import annotations

import difflib
import inspect
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, make_dataclass
from itertools import pairwise, takewhile
from pathlib import Path
from typing import Annotated, Any, get_type_hints

NUMBERS: Mapping[str, Callable[[str], float]] = {"int | None": int, "float | None": float}
"""Types of options that are a number or None."""
FILES = ("data", "valid", "test")
"""Options whose value may be a pattern, which a shell replaces by the files that it matches unless it is quoted."""
MAY_BE_EMPTY = ("prompt", "na", "columns", "target", "train-target", "time")
"""Options that may be an empty text: free text, and what a table holds, such as the name of its first column."""
NARROWEST = 20
"""Columns of a terminal that are counted on: in less than 4, tyro breaks the lines of its help without an end."""
LISTS = "lists every option with its default."


def parse(run: Callable[..., None], arguments: list[str], command: str, **options: Any) -> None:
    """Read the options that a function's signature and docstring describe, and call the function with them.

    Args:
        run: its positional-only parameters are read without a name, all others as options.
        arguments: the words after the command.
        command: such as "train copying", for the help text.
        options: parameter of `run` -> a dataclass whose fields are options; an instance gives their defaults. A field
            that an earlier one has, too, is called --PARAMETER-FIELD, such as --train-target.
    """
    try:
        import tyro
    except ImportError as error:
        raise ImportError('the command line needs tyro: pip install "reminding[experiments]"') from error
    values: dict[str, Any] = {}
    taken: set[str] = set()
    for name, value in options.items():
        kind: Any = value if isinstance(value, type) else type(value)
        own = {field.name for field in fields(kind)}
        read = _renamed(kind, {each: f"{name}-{each}".replace("_", "-") for each in own & taken}, tyro)
        taken |= own
        run.__annotations__[name] = read
        if not isinstance(value, type):
            values[name] = value if read is kind else read(**{each: getattr(value, each) for each in own})
    described: list[Any] = [*inspect.signature(run).parameters.values(), *_fields(options)]
    arguments = _from_home(arguments, described)
    _check_once(arguments, described)
    _check_values(arguments, described)
    if shutil.get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)
    run.__kwdefaults__ = {**(run.__kwdefaults__ or {}), **values}
    tyro.cli(run, args=arguments, prog=f"reminding {command}", config=(tyro.conf.OmitArgPrefixes,))


def _fields(options: Mapping[str, Any]) -> list[Any]:
    """The fields of all dataclasses of options."""
    return [field for value in options.values() for field in fields(value)]


def _from_home(arguments: Sequence[str], described: Iterable[Any]) -> list[str]:
    """The arguments with the home folder for ~ in paths: a shell leaves it after = and in the quotes of a pattern."""
    paths = {"--" + each.name.replace("_", "-") for each in described if "Path" in _kind(each)}
    words: list[str] = []
    for before, word in pairwise(["", *arguments]):
        option, equals, value = word.partition("=")
        if equals and option.replace("_", "-") in paths:
            words.append(f"{option}={os.path.expanduser(value)}")
        else:
            words.append(os.path.expanduser(word) if before.replace("_", "-") in paths else word)
    return words


def _kind(each: Any) -> str:
    """The type of a parameter of a function, or of a field of a dataclass, as it is written."""
    return str(getattr(each, "type", None) or getattr(each, "annotation", ""))


def _check_once(arguments: Sequence[str], described: Iterable[Any]) -> None:
    """Refuse an option of several values that is given again, since the last would replace the others."""
    given = _options_in(arguments)
    for each in described:
        kind = _kind(each)
        option = "--" + each.name.replace("_", "-")
        if kind.startswith(("tuple[", "list[")) and given.count(option) > 1:
            raise ValueError(
                f"{each.name}: {option} is given {given.count(option)} times; name all after one: {option} A B"
            )


def _check_values(arguments: Sequence[str], described: Iterable[Any]) -> None:
    """Refuse a word in the place of a number, and several files where one or a pattern is expected."""
    for each in described:
        kind = _kind(each)
        option = "--" + each.name.replace("_", "-")
        if (make := NUMBERS.get(kind)) is not None:
            for value in values_of(option, [*arguments]):
                try:
                    _ = None if value == "None" else make(value)
                except ValueError:
                    what = "a whole number" if make is int else "a number"
                    raise ValueError(f"{each.name}: {option} takes {what} or None, got {value!r}") from None
        elif each.name in FILES and kind.startswith("Path") and option in arguments:
            after = arguments[arguments.index(option) + 1 :]
            given = list(takewhile(lambda word: not word.startswith("-"), after))
            if len(given) > 1:
                raise ValueError(
                    f"{each.name}: {option} takes one file, got {len(given)}: {', '.join(given[:3])}"
                    f"{', ...' * (len(given) > 3)}; name several by a pattern in quotes, such as {option} 'm*.csv'"
                )


def check_empty(arguments: Sequence[str]) -> None:
    """Refuse an empty text, which a shell makes of an unset variable in quotes: as a path, it is the present folder.

    Raises:
        ValueError: names the option.
    """
    option = ""
    for word in arguments:
        if word.startswith("--"):
            option, equals, value = word.partition("=")
            empty = bool(equals) and not value
        else:
            empty = not word
        if empty and option.removeprefix("--").replace("_", "-") not in MAY_BE_EMPTY:
            name = option.removeprefix("--").replace("-", "_") or "argument"
            raise ValueError(f"{name} must not be empty, got ''{'; leave out ' + option if option else ''}")


def given_names(arguments: Sequence[str]) -> set[str]:
    """The fields whose options are on the command line, also at their defaults; --no-NAME is of NAME."""
    return {option.removeprefix("--").removeprefix("no-").replace("-", "_") for option in _options_in(arguments)}


def _options_in(arguments: Sequence[str]) -> list[str]:
    """The options on a command line, with dashes, such as --k-top."""
    return [word.partition("=")[0].replace("_", "-") for word in arguments if word.startswith("--")]


def _renamed(kind: Any, names: Mapping[str, str], tyro: Any) -> Any:
    """A dataclass whose fields have other names on the command line, where another dataclass has the same names."""
    if not names:
        return kind
    types = get_type_hints(kind)
    changed: list[Any] = [
        (field.name, Annotated[types[field.name], tyro.conf.arg(name=names[field.name])], field)
        for field in fields(kind)
        if field.name in names
    ]
    renamed = make_dataclass(kind.__name__, changed, bases=(kind,), frozen=True)
    renamed.__doc__ = kind.__doc__
    return renamed


def known_name(kind: str, name: str, known: Iterable[str]) -> str:
    """A name that exists.

    Raises:
        ValueError: it does not; the message suggests the nearest names.
    """
    names = list(known)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
    raise ValueError(f"there is no {kind} {name!r}; {hint}")


def asks_for_help(arguments: list[str]) -> bool:
    """Whether --help stands in the place of the first argument."""
    return arguments[:1] in (["-h"], ["--help"])


def run_folder(arguments: list[str], verb: str) -> tuple[Path, list[str]]:
    """The folder of a run, which is the first argument, and the others; RUN, and all, where --help is the first.

    Raises:
        ValueError: the first argument is missing or another option.
    """
    if asks_for_help(arguments):
        return Path("RUN"), arguments
    if not arguments or arguments[0].startswith("-"):
        raise ValueError(f"which run? reminding {verb} RUN [--option value ...]; RUN is a folder that train wrote")
    return Path(arguments[0]), arguments[1:]


def values_of(option: str, arguments: list[str]) -> list[str]:
    """The values that an option has on the command line, written as `--option value` or `--option=value`."""
    after = [value for name, value in pairwise(arguments) if name == option]
    return after + [name.partition("=")[2] for name in arguments if name.startswith(f"{option}=")]


def check_size(arguments: list[str]) -> None:
    """Refuse two options that both say how large a model is.

    Raises:
        ValueError: there are --parameters and --hidden-size.
    """
    sizes = [*values_of("--hidden-size", arguments), *values_of("--hidden_size", arguments)]
    if sizes and (wanted := values_of("--parameters", arguments)):
        raise ValueError(
            f"--parameters {wanted[-1]} chooses the hidden size, and --hidden-size {sizes[-1]} gives one; "
            "leave one of them out"
        )


def without(option: str, arguments: list[str]) -> list[str]:
    """The command line without an option and its value."""
    places = {number + step for number, name in enumerate(arguments) if name == option for step in (0, 1)}
    return [
        name for number, name in enumerate(arguments) if number not in places and not name.startswith(f"{option}=")
    ]


def named_task(verb: str, usage: str, arguments: list[str]) -> type[Any] | None:
    """The class of the task that a verb's first argument names; None, with the tasks shown, where it names none.

    Raises:
        ValueError: there is no such task; the message has the nearest.
    """
    from reminding.lab.runs.config import TASKS

    if not arguments or arguments[0].startswith("-"):
        lines = {name: first_line(task) for name, task in TASKS.items()}
        print(overview(usage, lines, f"reminding {verb} TASK --help {LISTS}"))
        return None
    return TASKS[known_name("task", arguments[0], TASKS)]


def overview(usage: str, lines: Mapping[str, str], ending: str) -> str:
    """A help text that lists names, each with a line about it."""
    width = max(map(len, lines), default=0)
    listed = [f"  {name:{width}} {line}" for name, line in lines.items()]
    return "\n".join([f"usage: {usage}", "", *listed, *([""] if listed else []), ending])


def first_line(thing: object) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(thing) or "").splitlines()[0]
