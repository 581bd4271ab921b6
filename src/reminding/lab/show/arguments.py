"""Arguments of a figure, of NumPy, PyTorch, pandas or plain Python: arrays and texts that can be drawn, or an error.

Every error is a ValueError that begins with the name of the argument.

Shapes: T time, I input features, K recalled memories, N links.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from reminding.lab.show.times import time_texts


def numbers(name: str, values: Any, *, finite: bool = True) -> NDArray[np.float64]:
    """An array of numbers, float64. A tensor may be of any dtype and device, and may require gradient.

    Raises:
        ValueError: they are no real numbers; or one is not finite, with `finite`.
    """
    if isinstance(values, list | tuple):
        values = [_on_host(each) for each in cast("Sequence[Any]", values)]
    try:
        found = np.asarray(_on_host(values))
        if found.dtype.kind not in "biufO":
            raise TypeError(f"its type is {found.dtype}")
        found = found.astype(np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be real numbers in an array: {error}") from error
    if finite and not np.isfinite(found).all():
        place = tuple(map(int, np.argwhere(~np.isfinite(found))[0]))
        raise ValueError(f"{name} must be finite, got {found[place]} at {list(place)}")
    return found


def _on_host(values: Any) -> Any:
    """The numbers of a tensor as NumPy can read them, which has no bfloat16; anything else as it is."""
    return values.detach().cpu().double().numpy() if hasattr(values, "detach") else values


def whole_numbers(name: str, values: Any) -> NDArray[np.int64]:
    """An array of numbers of steps, int64.

    Raises:
        ValueError: they are not whole, or below 0.
    """
    found = numbers(name, values)
    wrong = found[(found < 0) | (found != np.floor(found))]
    if len(wrong):
        raise ValueError(f"{name} must be whole numbers from 0, got {wrong[0]:g}")
    return found.astype(np.int64)


def count(name: str, value: Any) -> int:
    """A whole number from 1.

    Raises:
        ValueError: it is none; or it is a tensor of several numbers, as `SABState.step` of a batch is.
    """
    try:
        found = operator.index(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from error
    if found < 1:
        raise ValueError(f"{name} must be at least 1, got {found}")
    return found


def recalled(step: Any, weight: Any) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The recalls of one sequence, (T, K) each.

    Raises:
        ValueError: the shapes are others; the message says how to choose a row of a batch.
    """
    steps, weights = whole_numbers("step", step), numbers("weight", weight)
    if steps.ndim in (3, 4) and weights.shape == steps.shape:
        layer = "[-1]" if steps.ndim == 4 else ""
        row = f"step{layer}[:, 0] and weight{layer}[:, 0]"
        raise ValueError(
            f"step and weight must be (T, K), of one sequence, got {steps.shape}; choose a row of the batch, such as "
            f"{row}, or step{layer}[0] and weight{layer}[0] of a layer with batch_first"
        )
    if steps.ndim != 2 or weights.shape != steps.shape:
        raise ValueError(f"step and weight must be (T, K), got {steps.shape} and {weights.shape}")
    if not len(steps):
        raise ValueError(f"step must have at least one row, got {steps.shape}")
    return steps, weights


def check_clock(reading: NDArray[np.int64], stored: NDArray[np.int64], first: int) -> None:
    """Check that every memory was stored before the step that recalled it.

    Args:
        reading, stored: stream steps of each link, (N,).
        first: the argument, the number of the first step that is drawn.

    Raises:
        ValueError: one was not; the message says what to pass.
    """
    late = np.flatnonzero(stored >= reading)
    if len(late):
        pair = f"step {reading[late[0]]} would have recalled a memory of step {stored[late[0]]}"
        raise ValueError(
            f"first: {pair}, if the first step is {first}; for a later chunk of a stream pass 1 + state.step of its "
            "row, of the state that the layer was given with the chunk"
        )


def check_credit(step: NDArray[np.int64], memory_step: NDArray[np.int64], first: int, last: int) -> None:
    """Check that each step lies in the sequence, and after the memory that it recalled; (N,) each.

    Raises:
        ValueError: one does not.
    """
    if (step > last).any():
        raise ValueError(
            f"step must be at most {last}, the end of the sequence, got {step.max()}; see first and steps"
        )
    if (step < first).any():
        raise ValueError(f"step must be at least {first}, the argument first, got {step.min()}")
    late = np.flatnonzero(memory_step >= step)
    if len(late):
        raise ValueError(f"memory_step must be before step {step[late[0]]}, got {memory_step[late[0]]}")


def length_of(input: Any) -> int:
    """The number of steps of the input.

    Raises:
        ValueError: it is a single number.
    """
    shape = numbers("input", input, finite=False).shape
    if not shape:
        raise ValueError("input must be (T,) or (T, I), got a number")
    return shape[0]


def shades_of(input: Any, steps: int) -> NDArray[np.float64]:
    """The input as a strip of shades, (T, I); NaN, a missing value, stays blank.

    Raises:
        ValueError: its shape is another, or it is infinite.
    """
    found = numbers("input", input, finite=False)
    if found.shape[:1] != (steps,):
        raise ValueError(f"input must have a value for each of {steps} steps, got {found.shape}")
    if found.ndim not in (1, 2) or not found.size:
        raise ValueError(f"input must be (T,) or (T, I), of one sequence, got {found.shape}")
    if np.isinf(found).any():
        raise ValueError("input must not be infinite; NaN leaves a step blank")
    return found[:, None] if found.ndim == 1 else found


def texts(name: str, values: Iterable[Any] | None, steps: int, *, more: bool = False) -> tuple[str, ...]:
    """A text for each step, (T,); () of none. Points in time, as NumPy and pandas have them, become texts.

    Args:
        more: whether there may be texts of further steps.

    Raises:
        ValueError: there are too few, or too many.
    """
    given = () if values is None else np.asarray(_on_host(values))
    found = (
        time_texts(given) if isinstance(given, np.ndarray) and given.dtype.kind in "Mif" else tuple(map(str, given))
    )
    if found and (len(found) < steps or (len(found) > steps and not more)):
        raise ValueError(f"{name} must have a text for each of {steps} steps, got {len(found)}")
    return found


def curve_points(
    label: str, steps: Any, values: Any, band: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64] | None]:
    """The points of a curve: steps and values, (N,), and its band, (N, 2), if it has one. Values may be NaN.

    Raises:
        ValueError: the shapes do not fit.
    """
    along = numbers(f"steps of {label!r}", steps)
    height = numbers(f"values of {label!r}", values, finite=False)
    if along.ndim != 1 or height.shape != along.shape:
        raise ValueError(f"steps and values of {label!r} must be (N,), got {along.shape} and {height.shape}")
    if band is None or not len(band):
        return along, height, None
    limits = numbers(f"band of {label!r}", band, finite=False)
    if limits.shape != (len(along), 2):
        raise ValueError(f"band of {label!r} must be {(len(along), 2)}, got {limits.shape}")
    return along, height, limits


def figure_path(path: Path | str) -> Path:
    """The file to save a figure to.

    Raises:
        ValueError: it is no path.
    """
    try:
        return Path(path)
    except TypeError as error:
        raise ValueError(f"path must be a file, got {path!r}") from error
