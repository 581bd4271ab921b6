"""Cells, scorers and ways to evict of a user's own, named `module:Name` on the command line and in config.json."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any


def is_own(name: str | None) -> bool:
    """Whether a name is that of a user's own code."""
    return name is not None and ":" in name


def own(option: str, name: str) -> Callable[..., Any]:
    """The class or function that `module:Name` names. The module may be in the present folder or on the path.

    Args:
        option: the option that names it, for messages.

    Raises:
        ValueError: there is no such module, or it has no such name, or that is not callable.
    """
    module_name, _, attribute = name.partition(":")
    where = f"{option}: {name!r} is code of your own"
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # which the program `reminding` lacks, unlike `python -m`
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything
        raise ValueError(
            f"{where}, and its module cannot be imported ({type(error).__name__}: {error}); put the folder of "
            f"{module_name.split('.')[0]}.py on PYTHONPATH, or start in it"
        ) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        near = difflib.get_close_matches(attribute, [each for each in dir(module) if each[0] != "_"], n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"{where}, and {module.__file__} has no class or function {attribute!r}{hint}")
    return found


def own_modules(option: str, name: str, sizes: list[tuple[int, ...]]) -> list[Any]:
    """One module per layer, each made by calling `module:Name` with its sizes.

    Args:
        sizes: the arguments of each layer's call.

    Raises:
        ValueError: see `own`; or a call raises.
    """
    make = own(option, name)
    try:
        return [make(*each) for each in sizes]
    except Exception as error:
        told = ", ".join(map(str, sizes[0]))
        raise ValueError(
            f"{option}: {name}({told}) cannot be made ({type(error).__name__}: {error}); a cell is called with "
            "input_size and hidden_size, a scorer with hidden_size"
        ) from error
