"""What the settings that only a layer has may be: checks that turn a mistake into a `ValueError` naming it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any, cast

import torch
from torch import nn

from reminding.checks import (
    at_least,
    finite_or_none,
    is_number,
    one_of,
    require,
    share,
    share_above_zero,
    yes_or_no,
)
from reminding.nn.parts.memory import EVICT, Evict
from reminding.nn.parts.scorers import Scorer
from reminding.ops.backends import names

SCORE_SIZE = 32
"""Usual width of the score's projections. A scorer as wide as the state takes parameters from the cell and gains
nothing: results/recipe."""
ENGINES = ("auto", "autograd", "replay")
CHANGED: Mapping[str, Callable[[Any, Any], Any]] = {
    "batch_first": lambda _, value: yes_or_no("batch_first", value),
    "dropout": lambda layer, value: dropout(value, layer.num_layers, stacklevel=5),
    "recurrent_dropout": lambda layer, value: recurrent_dropout(value, getattr(layer, "cells", layer.cell)),
    "memory_device": lambda _, value: device_or_none("memory_device", value),
    "credit_every": lambda _, value: at_least("credit_every", value, 1),
    "backend": lambda _, value: one_of("backend", value, ("auto", *names())),
    "engine": lambda _, value: one_of("engine", value, ENGINES),
}
"""Arguments that each call reads, and what one becomes that is assigned later: a function of layer and value."""


def changed(layer: Any, name: str, value: Any, fixed: Container[str]) -> Any:
    """What an attribute of a layer becomes where its user assigns a value.

    Args:
        fixed: the arguments that the layer was made with and keeps, since no call would follow a change of them.

    Raises:
        AttributeError: it is one of these.
        ValueError: it may be changed, but not to this.
    """
    if name in fixed:
        raise AttributeError(
            f"{name} of a layer cannot be changed, since its parameters and states depend on it: make another layer "
            f"with {name}={value!r}; it takes this one's state_dict() where the parameters are alike"
        )
    return CHANGED[name](layer, value) if name in CHANGED else value


def score_size(value: Any, hidden_size: int) -> int:
    """An integer of at least 1; None: `SCORE_SIZE`, or hidden_size if that is less."""
    return at_least("score_size", min(SCORE_SIZE, hidden_size) if value is None else value, 1)


def module_or_none(name: str, value: Any) -> nn.Module | None:
    """A module, or None."""
    if value is not None and not isinstance(value, nn.Module):
        raise ValueError(f"{name} must be a torch.nn.Module, or None, got {value!r}")
    return value


def kind(device: torch.device | str | None, dtype: torch.dtype | None) -> dict[str, Any]:
    """What parameters are made as: on a device, and of a type of real numbers; None: PyTorch's default."""
    if dtype is not None and not (isinstance(cast("object", dtype), torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype must be a floating-point type such as torch.float32, or None, got {dtype!r}")
    return {"device": device_or_none("device", device), "dtype": dtype}


def dropout(value: Any, num_layers: int, stacklevel: int = 3) -> float:
    """A number from 0 to 1, with a warning where there are no layers to drop between."""
    dropped = share("dropout", value)
    if dropped > 0 and num_layers == 1:
        warnings.warn("dropout acts between layers, and num_layers=1 has none", stacklevel=stacklevel)
    return dropped


def recurrent_dropout(value: Any, cell: object) -> float:
    """A number from 0 to 1; 0 where the cell is PyTorch's GRU."""
    dropped = share("recurrent_dropout", value)
    if dropped > 0:
        cells = cast("Iterable[Any]", cell) if isinstance(cell, list | tuple | nn.ModuleList) else [cell]
        if any(isinstance(module, nn.GRUCell) for module in cells):
            raise ValueError(
                "recurrent_dropout must be 0 with an nn.GRUCell, which carries the h it is given on: what is kept "
                "would grow at every step; cell='gru' masks h in its gates alone"
            )
    return dropped


def refuse_what_streams_lack(bidirectional: Any, proj_size: Any) -> None:
    """Refuse what `nn.LSTM` has and a stream cannot have, and its projection of h."""
    if bidirectional:
        raise ValueError(
            f"bidirectional must be False, got {bidirectional!r}: a backward pass over time reads the future, which "
            "a stream does not have yet. For whole sequences run a second layer over input.flip(0) and join the "
            "outputs"
        )
    if at_least("proj_size", proj_size, 0):
        raise ValueError(
            f"proj_size must be 0, got {proj_size}: memories hold h, whose size is hidden_size. An nn.Linear behind "
            "the layer projects its output"
        )


def one_of_two(name: str, value: Any, other: str, other_value: Any) -> Any:
    """What was given under either of two names of an argument; None where neither was."""
    if value is not None and other_value is not None:
        raise ValueError(f"{name} and {other} are two names of one argument, got both")
    return other_value if value is None else value


def device_or_none(name: str, value: Any) -> torch.device | None:
    """A device that can be named, or None."""
    try:
        return None if value is None else torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{name} must be a device such as 'cpu', or None, got {value!r}") from error


def null_score(value: Any, normalizer: str) -> float | None:
    """A finite number, or None; a number only where recalling nothing competes."""
    if value is None:
        return None
    finite_or_none("null_score", value)
    if normalizer != "softmax1":
        raise ValueError(
            f"null_score is for normalizer='softmax1', which can recall nothing, got normalizer={normalizer!r}"
        )
    return float(value)


def summary_gate(value: Any) -> float | None:
    """A number between -1 and 1, neither included, or None."""
    valid = value is None or (is_number(value) and -1 < value < 1)
    require(valid, "summary_gate", "be a number between -1 and 1, or None", value)
    return None if value is None else float(value)


def forget_scale(value: Any, cell: object) -> float:
    """A number above 0 and at most 1; 1 where the cell is no LSTM."""
    if share_above_zero("forget_scale", value) != 1 and cell != "lstm":
        raise ValueError(f"forget_scale is for cell='lstm', whose forget gate it multiplies, got cell={cell!r}")
    return float(value)


def evict(value: str | Evict) -> str | Evict:
    """The rule of eviction: one of the known names, or a function."""
    if callable(value):
        return next((name for name, known in EVICT.items() if known is value), value)
    return one_of("evict", value, tuple(EVICT))


def modules(name: str, value: object, num_layers: int) -> list[nn.Module]:
    """One module per layer."""
    if isinstance(value, nn.Module) and not isinstance(value, nn.ModuleList):
        value = [value]
    if not isinstance(value, Iterable):
        raise ValueError(f"{name} must be a name, a module, or a sequence of modules, got {value!r}")
    given = list(cast("Iterable[Any]", value))
    if not all(isinstance(module, nn.Module) for module in given):
        raise ValueError(f"{name} must be a name, a module, or a sequence of modules, got {value!r}")
    if len(given) != num_layers:
        raise ValueError(f"{name} must have one module per layer, {num_layers}, got {len(given)}")
    if len({id(module) for module in given}) != len(given):
        raise ValueError(f"{name} must have a module of its own for each layer, got the same one twice")
    return given


def scorer(module: nn.Module) -> Scorer:
    """A module that can score."""
    if not isinstance(module, Scorer):
        raise ValueError(
            f"score must have methods keys(memory) and scores(keys, query), {type(module).__name__} has not"
        )
    return module
