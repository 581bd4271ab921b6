"""What torch.compile sees of a layer: calls and backward passes that it leaves as they are.

Beside its ops a layer is Python: step counts, records of past calls, the state. Traced, that falls apart into many
graphs which are compiled anew as state and lengths change; left alone, a layer costs what it costs outside.

`run` is made where it is first asked for, which is while torch.compile traces: what makes it takes seconds to import.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch


def __getattr__(name: str) -> Any:
    if name != "run":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = torch.compiler.disable(_run)
    return globals()[name]


def _run(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function; `run` does so outside of every graph."""
    return function(*arguments, **options)


def backward(function: Callable[..., Any]) -> Callable[..., Any]:
    """A Function's backward pass, which torch.compile would trace where a compiled function calls `backward()`."""

    @wraps(function)
    def left_alone(ctx: Any, *d_results: Any) -> Any:
        if torch.compiler.is_compiling():
            return sys.modules[__name__].run(function, ctx, *d_results)
        return function(ctx, *d_results)

    return left_alone
