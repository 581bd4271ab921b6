"""What torch.compile sees of a layer: a call that it leaves as it is.

Beside its ops a layer is Python: step counts, records of past calls, the state. Traced, that falls apart into many
graphs which are compiled anew as state and lengths change; left alone, a layer costs what it costs outside.

`run` is made where it is first asked for, which is while torch.compile traces: what makes it takes seconds to import.
"""

from __future__ import annotations

from collections.abc import Callable
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
