"""What is kept from the inside of a layer: the tracing of torch.compile, and the lower precision of autocast.

Beside its ops a layer is Python: step counts, records of past calls, the state. Traced, that falls apart into many
graphs which are compiled anew as state and lengths change; left alone, a layer costs what it costs outside.

`run` is made where it is first asked for, which is while torch.compile traces: what makes it takes seconds to import.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
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


def own_precision(device: str) -> AbstractContextManager[Any]:
    """Where operations on a kind of device have the types of their tensors, also within an autocast region."""
    lowers = device != "meta" and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if lowers else nullcontext()


def backward(function: Callable[..., Any]) -> Callable[..., Any]:
    """A Function's backward pass, left alone by torch.compile and autocast, in which `backward()` may be called."""

    @wraps(function)
    def left_alone(ctx: Any, *d_results: Any) -> Any:
        if torch.compiler.is_compiling():
            return sys.modules[__name__].run(function, ctx, *d_results)
        with own_precision("cpu"), own_precision("cuda"):
            return function(ctx, *d_results)

    return left_alone
