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
MATCHED = ("another", "same")
"""Visible glyphs for white space."""


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
        channels: names of the values of a step.
        side: pixels on a side of the square image that the steps form; 0 if they form none.
        order: the pixel, counted in row order, that each step shows; None: row order.
        units: of the values of a step, "" where unknown; () if all are.
        scale: undone to show values in their own units, (D,), each step with one or several frames of D values; None:
            values are shown as they are.
        pooled: whether the mean of a step's values is shown in their place.
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
    pooled: bool = False
    sampled: bool = False

    def values(self, input: NDArray[Any]) -> NDArray[np.float64]:
        """The real values to draw, (T, I), of tokens (T,) or values (T, I), in their own units."""
        if input.ndim == 2:
            values = input.astype(np.float64)
            if self.pooled:
                return values.mean(1, keepdims=True)
            if self.scale is None:
                return values
            return self.scale.undo(values.reshape(len(values), -1, len(self.scale.mean))).reshape(values.shape)
        return (from_mu_law(input) if self.sampled else input.astype(np.float64))[:, None]

    def shades(self, input: NDArray[Any]) -> NDArray[np.float64]:
        """The input for a strip of shades, (T, I): columns, which have their own units, from 0 to 1."""
        values = self.values(input)
        if self.kind != "lines":
            return values
        low, high = values.min(0), values.max(0)
        return (values - low) / np.where(high > low, high - low, 1)

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
        return Legend("wave", classes=task.classes, channels=("value",), scale=_scale_of_series(task))
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


def _scale_of_series(task: LabelledTask) -> Scale:
    """The scale of the values of a step; masks stay as they are."""
    cut = task.form.cut
    masks = len(cut.scale.mean) if cut.masked else 0
    return Scale(np.append(cut.scale.mean, np.zeros(masks)), np.append(cut.scale.deviation, np.ones(masks)))


def _of_file(task: FileStream) -> Legend:
    if task.vocabulary is None:
        units = (*(task.unit_of(name) for name in task.column_names), *("" for _ in task.masks))
        return Legend("lines", task.unit, channels=task.input_names, units=units, scale=task.scale)
    if task.unit == "sample":
        return Legend("lines", task.unit, channels=(AMPLITUDE,), sampled=True)
    return _of_text(bytes(range(256)), task.unit)


def _of_text(symbols: bytes, unit: str) -> Legend:
    names = tuple(VISIBLE.get(chr(byte), chr(byte) if 32 < byte < 127 else f"{byte:02x}") for byte in symbols)
    quiet = tuple(token for token, byte in enumerate(symbols) if chr(byte).isspace())
    return Legend("tokens", unit, names=names, quiet=quiet, classes=names)


def numbered(count: int, first: int = 0) -> tuple[str, ...]:
    """Numbers as names."""
    return tuple(str(number) for number in range(first, first + count))


def from_mu_law(levels: NDArray[Any]) -> NDArray[np.float64]:
    """Levels 0 to 255 as samples from -1 to 1: the reverse of `sources.mu_law`, to within its steps."""
    squeezed = levels.astype(np.float64) / MU * 2 - 1
    return np.sign(squeezed) * np.expm1(np.abs(squeezed) * np.log1p(MU)) / MU
