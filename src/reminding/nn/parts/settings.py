"""What the settings that only a layer has may be: checks that turn a mistake into a `ValueError` naming it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import nn

from reminding.checks import at_least, finite_or_none, is_number, one_of, require, share, share_above_zero
from reminding.nn.parts.memory import EVICT, Evict
from reminding.nn.parts.scorers import Scorer

SCORE_SIZE = 32
"""Usual width of the score's projections. A scorer as wide as the state takes parameters from the cell and gains
nothing: results/recipe."""


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


def dropout(value: Any, num_layers: int) -> float:
    """A number from 0 to 1, with a warning where there are no layers to drop between."""
    dropped = share("dropout", value)
    if dropped > 0 and num_layers == 1:
        warnings.warn("dropout acts between layers, and num_layers=1 has none", stacklevel=3)
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
