"""What the numbers in a task's sequences mean to a reader: characters, pixels, samples, classes.

Shapes: T time, I values of a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.characters import CharacterStream
from reminding.tasks.data.scale import Scale
from reminding.tasks.data.sources import MU
from reminding.tasks.delayed.match import MatchSpeaker
from reminding.tasks.delayed.nback import NBack
from reminding.tasks.delayed.noisy_cifar10 import NoisyCIFAR10
from reminding.tasks.files.labelled import LabelledTask
from reminding.tasks.filestream import FileStream
from reminding.tasks.kinds.asked import Asked
from reminding.tasks.kinds.classification import PixelClassification
from reminding.tasks.mnist import pixel_permutation

AMPLITUDE = "amplitude"
"""The name of the values of a stream of sound."""
VISIBLE = {"\n": "⏎", "\r": "␍", "\t": "⇥", " ": "␣"}
"""Visible glyphs for white space."""
MATCHED = ("another", "same")
"""The classes of the task match."""


@dataclass(frozen=True)
class Legend:
    """How to show a sequence and its predictions.

    Args:
        kind: "tokens": each step is a name in `names`; "wave": one line through all values of all steps; "lines": one
            line for each value of a step; "pixels": each step is a shade.
        unit: the name of a step.
        names: of tokens.
        quiet: tokens that carry little information, such as blanks.
        classes: names of the predicted classes, in the order of the prediction's values; empty if values are
            predicted.
        channels: names of the values of a step that are drawn.
        side: pixels on a side of the square image that the steps form; 0 if they form none.
        order: the pixel, counted in row order, that each step shows; None: row order.
        units: of the values of a step, "" where unknown; () if all are.
        scale: undone to show values in their own units, (D,), each step with one or several frames of D values, each
            followed by its masks; None: values are shown as they are, and there are no masks.
        masked: those of the D values that have a mask, in the order of the masks.
        pooled: whether the mean of each of the D values over a step is shown in their place.
        sampled: whether tokens are mu-law levels of sound, which are shown as amplitudes.
    """

    kind: str
    unit: str = "step"
    names: tuple[str, ...] = ()
    quiet: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    side: int = 0
    order: NDArray[np.int64] | None = None
    units: tuple[str, ...] = ()
    scale: Scale | None = None
    masked: tuple[int, ...] = ()
    pooled: bool = False
    sampled: bool = False

    def values(
        self, input: NDArray[Any], padding: int = 0, absent: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """The real values to draw, (T, J), of tokens (T,) or values (T, I), in their own units.

        Args:
            padding: number of the first steps that are none of the sequence's.
            absent: whether each value is missing, (T, n, D), where no mask says so; None: masks tell.

        Returns:
            without masks, and NaN where a value is missing, or is padding.
        """
        if input.ndim == 1:
            return (from_mu_law(input) if self.sampled else input.astype(np.float64))[:, None]
        steps = len(input)
        columns = input.shape[1] if self.scale is None else len(self.scale.mean)
        frames = input.astype(np.float64).reshape(steps, -1, columns + len(self.masked))
        values = np.array(frames[..., :columns] if self.scale is None else self.scale.undo(frames[..., :columns]))
        for place, column in enumerate(self.masked):
            values[..., column][frames[..., columns + place] > 0] = np.nan
        if absent is not None:
            values[absent] = np.nan
        values[:padding] = np.nan
        if not self.pooled:
            return values.reshape(steps, -1)
        return mean_of_known(values) if self.scale is not None else values.mean(-1)

    def shades(
        self, input: NDArray[Any], padding: int = 0, absent: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """The input for a strip of shades, (T, J): `values`, of which columns with their own units go from 0 to 1."""
        values = self.values(input, padding, absent)
        if self.kind != "lines":
            return values
        known = ~np.isnan(values)
        low = np.where(known, values, np.inf).min(0)
        high = np.where(known, values, -np.inf).max(0)
        return np.where(known, values - low, np.nan) / np.where(high > low, high - low, 1)

    def marks(self, input: NDArray[Any]) -> list[str]:
        """A short text for each step: the name of its token, "" if it is quiet or a value."""
        if self.kind != "tokens":
            return [""] * len(input)
        return ["" if token in self.quiet else self.names[token] for token in input.tolist()]


def legend_of(task: Any) -> Legend:
    """The legend of a task's sequences."""
    if isinstance(task, FileStream):
        return _of_file(task)
    if isinstance(task, CharacterStream):
        return _of_text(task.symbols, task.unit)
    if isinstance(task, PixelClassification):
        order = pixel_permutation().numpy() if task.name == "pmnist" else None
        return Legend("pixels", "pixel", classes=numbered(task.output_size), side=task.side, order=order)
    if isinstance(task, LabelledTask | MatchSpeaker) and task.spectrum:
        classes = task.classes if isinstance(task, LabelledTask) else MATCHED
        return Legend("lines", classes=classes, channels=("mean of the log spectrum",), pooled=True)
    if isinstance(task, LabelledTask):
        return _of_series(task)
    if isinstance(task, MatchSpeaker):
        return Legend("wave", classes=MATCHED, channels=("value",))
    if isinstance(task, NBack | NoisyCIFAR10):
        return Legend("wave", classes=numbered(task.output_size), channels=("pixel",))
    if task.vocabulary is None:
        return Legend("lines", channels=("value", "marker") if task.name == "adding" else numbered(task.input_size))
    # Copying, selective copying and cue: the blank, then symbols by number, and last the marker that asks for them.
    names = ("·", *numbered(task.vocabulary - 2, 1), "?")
    classes = numbered(task.output_size, 1) if isinstance(task, Asked) else names
    return Legend("tokens", names=names, quiet=(0,), classes=classes)


def _of_series(task: LabelledTask) -> Legend:
    """One line through the values of a series, or one for each of its dimensions, of their means over a step."""
    cut, count = task.form.cut, task.form.dimensions
    masked = tuple(range(count)) if cut.masked else ()
    if count == 1:
        return Legend("wave", classes=task.classes, channels=("value",), scale=cut.scale, masked=masked)
    names = tuple(f"dimension {name}" for name in numbered(count, 1))
    return Legend("lines", classes=task.classes, channels=names, scale=cut.scale, masked=masked, pooled=True)


def _of_file(task: FileStream) -> Legend:
    if task.vocabulary is None:
        names, scale = task.column_names, task.measured.scale
        units = tuple(task.unit_of(name) for name in names)
        masked = tuple(names.index(name) for name in task.masks)
        return Legend("lines", task.unit, channels=names, units=units, scale=scale, masked=masked)
    if task.unit == "sample":
        return Legend("lines", task.unit, channels=(AMPLITUDE,), sampled=True)
    return _of_text(bytes(range(256)), task.unit)


def _of_text(symbols: bytes, unit: str) -> Legend:
    names = tuple(VISIBLE.get(chr(byte), chr(byte) if 32 < byte < 127 else f"{byte:02x}") for byte in symbols)
    quiet = tuple(token for token, byte in enumerate(symbols) if chr(byte).isspace())
    return Legend("tokens", unit, names=names, quiet=quiet, classes=names)


def mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over the frames of each step, (T, D), of values (T, n, D); NaN where none is known."""
    known = ~np.isnan(values)
    count = known.sum(1)
    total = np.where(known, values, 0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def numbered(count: int, first: int = 0) -> tuple[str, ...]:
    """Numbers as names."""
    return tuple(str(number) for number in range(first, first + count))


def from_mu_law(levels: NDArray[Any]) -> NDArray[np.float64]:
    """Levels 0 to 255 as samples from -1 to 1: the reverse of `sources.mu_law`, to within its steps."""
    squeezed = levels.astype(np.float64) / MU * 2 - 1
    return np.sign(squeezed) * np.expm1(np.abs(squeezed) * np.log1p(MU)) / MU
