"""Labelled series as arrays of equal length, scaled, with masks where values are missing.

Shapes: N series, n values of a series, D dimensions, T steps, I values per step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.labelled.files import One, label_order
from reminding.tasks.data.scale import Scale, check_range, scale_of
from reminding.tasks.data.tables.store import carried

Missing = Literal["error", "carry", "zero"]
MISSING: tuple[Missing, ...] = ("error", "carry", "zero")
SPECTRUM_FRAME = 8
"""The least values of a frame whose spectrum is read."""
FAINT = 100.0
"""Powers are told apart down to about the mean power divided by this."""


@dataclass(frozen=True)
class Cut:
    """How a series becomes the steps that a model reads.

    Args:
        frame: values per step and dimension.
        samples: number of values of a series that are read; None: all.
        steps: T, the least number of steps.
        missing: what a missing value becomes.
        masked: whether each dimension has a mask as a further dimension, 1 where a value is missing.
        scale: of the dimensions, (D,).
        spectrum: whether the log power spectrum of a frame is read in the place of its values.
    """

    frame: int
    samples: int | None
    steps: int
    missing: Missing
    masked: bool
    scale: Scale
    spectrum: bool = False

    @property
    def features(self) -> int:
        """I, the values of a step: of all dimensions, and of their masks."""
        each = self.frame // 2 + 1 if self.spectrum else self.frame
        return each * len(self.scale.mean) * (2 if self.masked else 1)

    def own_steps(self, values: NDArray[Any]) -> int:
        """The number of steps that hold a series, (n,) or (n, D); those in front of them are padding."""
        return -(-len(values[: self.samples]) // self.frame)

    def prepared(
        self, values: NDArray[Any], where: str = "data", last: NDArray[np.float64] | None = None
    ) -> NDArray[np.float32]:
        """A series, (n,) or (n, D), in the form that the model reads, (T, I). T is larger for longer series.

        Args:
            last: the values before the first, (D,), which are carried if it is missing; None: there are none.

        Raises:
            ValueError: the number of dimensions differs, or a value is missing and nothing says what it becomes.
        """
        beginning = (values[:, None] if values.ndim == 1 else values)[: self.samples]
        if beginning.shape[1] != len(self.scale.mean):
            raise ValueError(f"{where}: {beginning.shape[1]} dimensions, expected {len(self.scale.mean)}")
        absent = np.isnan(beginning)
        if absent.any() and self.missing == "error":
            raise ValueError(missing_value(where, int(np.flatnonzero(absent.any(1))[0])))
        filled = carried(beginning, last) if self.missing == "carry" else beginning
        scaled = np.nan_to_num(self.scale.apply(filled))
        if self.masked:
            scaled = np.concatenate([scaled, absent], axis=1)
        own = self.own_steps(values)
        frames = in_frames(scaled, self.frame, max(self.steps, own))
        return log_spectrum(frames, scaled.shape[1], own) if self.spectrum else frames


def classes_of(parts: Mapping[str, Sequence[One]]) -> tuple[str, ...]:
    """The labels of all parts, in the order of their numbers."""
    return tuple(sorted({one.label for part in parts.values() for one in part}, key=label_order))


def cut_of(
    parts: Mapping[str, Sequence[One]], frame: int, samples: int | None, missing: Missing, spectrum: bool
) -> Cut:
    """The cut by the mean and deviation of the training series, and by the longest of all.

    Raises:
        ValueError: there is one class, the dimensions differ, a value is missing and nothing says what it becomes, or
            a label of a held-out part is not in the training part.
    """
    everything = [one for part in parts.values() for one in part]
    _check(parts, everything, samples, missing)
    train = parts["train"]
    scale = scale_of((one.values[:samples] for one in train), train[0].values.shape[1])
    check_range([f"dimension {i + 1}" for i in range(len(scale.mean))], scale.mean, scale.deviation)
    masked = any(bool(np.isnan(one.values[:samples]).any()) for one in everything)
    cut = Cut(frame, samples, 1, missing, masked, scale, spectrum)
    return replace(cut, steps=max(cut.own_steps(one.values) for one in everything))


class Packed(NamedTuple):
    """The series of a part.

    Attributes:
        values: (N, T, I), where shorter series are padded with zeros before their first step.
        label: numbers of the labels, (N,).
        own: number of the last steps that hold the series, (N,); those before them are padding.
    """

    values: NDArray[np.float32]
    label: NDArray[np.int64]
    own: NDArray[np.int64]


def pack(parts: Mapping[str, Sequence[One]], classes: Sequence[str], cut: Cut) -> dict[str, Packed]:
    """Cut and scale all series into arrays, of each part of the length of its longest.

    Raises:
        ValueError: a label is not among the classes, or a series does not fit the cut.
    """
    number = {label: index for index, label in enumerate(classes)}
    packed: dict[str, Packed] = {}
    for split, part in parts.items():
        own = np.array([cut.own_steps(one.values) for one in part], np.int64)
        wide = replace(cut, steps=max(cut.steps, int(own.max(initial=0))))
        for one in part:
            if one.label not in number:
                known = ", ".join(classes)
                raise ValueError(
                    f"data: {one.where}: the label {one.label!r} is not one of the training data, {known}"
                )
        values = [wide.prepared(one.values, one.where) for one in part]
        labels = np.array([number[one.label] for one in part], np.int64)
        packed[split] = Packed(np.stack(values) if values else np.zeros((0, 0, 0), np.float32), labels, own)
    return packed


def _check(
    parts: Mapping[str, Sequence[One]], everything: Sequence[One], samples: int | None, missing: Missing
) -> None:
    for split, part in parts.items():
        if not part:
            raise ValueError(f"data: the {split} part has no series")
    first = everything[0]
    for one in everything:
        if one.values.shape[1] != first.values.shape[1]:
            dimensions = f"{one.values.shape[1]} dimensions, {first.where} has {first.values.shape[1]}"
            raise ValueError(f"data: {one.where}: {dimensions}")
        absent = np.isnan(one.values[:samples]).any(1)
        if absent.any() and missing == "error":
            raise ValueError(missing_value(one.where, int(np.flatnonzero(absent)[0])))
    known = {one.label for one in parts["train"]}
    if len({one.label for one in everything}) < 2:
        raise ValueError(f"data must have at least 2 different labels, got {len(known)}")
    for split, part in parts.items():
        for one in part:
            if one.label not in known:
                raise ValueError(f"{split}: {one.where}: no training series has the label {one.label!r}")


def missing_value(where: str, place: int) -> str:
    """What is said of a missing value."""
    return f"missing: {where}: value {place + 1} is missing; --missing carry (the last value) or zero says what to do"


def in_frames(values: NDArray[Any], frame: int, steps: int) -> NDArray[np.float32]:
    """A series (n, D) as steps of `frame` values a dimension, (steps, frame D), padded before its first step."""
    width = values.shape[1]
    cut = np.zeros((steps, frame * width), np.float32)
    cut[steps - -(-len(values) // frame) :].reshape(-1)[: values.size] = values.reshape(-1)
    return cut


def log_spectrum(frames: NDArray[np.float32], width: int, own: int) -> NDArray[np.float32]:
    """The log power spectrum of each frame, relative to the mean power of the series: loud and soft ones are alike.

    Args:
        frames: (T, frame D).
        width: D.
        own: number of the last frames, which hold the series; those before them are padding.

    Returns:
        (T, (frame // 2 + 1) D): 1 at a frequency with the mean power, and 0 where there is none.
    """
    steps, frame = len(frames), frames.shape[1] // width
    values = frames.reshape(steps, frame, width).astype(np.float64)
    power = np.abs(np.fft.rfft(values * np.hanning(frame)[:, None], axis=1)) ** 2  # (T, frame // 2 + 1, D)
    mean = power[steps - own :].mean((0, 1))
    relative = np.divide(power, mean, out=np.zeros_like(power), where=mean > 0)
    return (np.log1p(FAINT * relative) / np.log1p(FAINT)).reshape(steps, -1).astype(np.float32)
