"""The base of tasks of labelled series: their form, and the splits packed into arrays.

Shapes: N series, n values of a series, B batch, T steps, I values per step, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.tasks.kinds.base import Batch, Split
from reminding.tasks.kinds.classification import Classification
from reminding.tasks.kinds.facts import DATA


class One(NamedTuple):
    """A series and its label."""

    label: str
    values: NDArray[np.float32]


@dataclass(frozen=True)
class LabelledSeries:
    """One split of a set of series.

    Args:
        values: (N, T, I) float32; shorter series are padded with zeros before their first step.
        label: (N,) int64.
    """

    values: Tensor
    label: Tensor

    def batch(self, rows: Tensor) -> Batch:
        """Return the series at `rows` (B,): input (T, B, I), target (B,)."""
        return Batch(self.values[rows].transpose(0, 1).contiguous(), self.label[rows])


@dataclass(frozen=True)
class Form:
    """How series become what a model reads: learned from the training data.

    Args:
        classes: the labels, in the order of the classes.
        counts: number of training series of each class.
        mean, deviation: of the values of the training series.
        frame: values per step.
        samples: number of values of a series that are read; None: all.
        steps: T, the length of the longest series.
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    mean: float
    deviation: float
    frame: int
    samples: int | None
    steps: int

    def prepared(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Transform another series, (n,), to the form that the model reads, (T, I). T is larger for longer series."""
        beginning = values[: self.samples]
        steps = max(self.steps, -(-len(beginning) // self.frame))
        return in_frames((beginning - self.mean) / self.deviation, self.frame, steps)

    def class_of(self, label: str) -> int:
        """The number of a class, by its name.

        Raises:
            ValueError: the training data had no such label.
        """
        if label not in self.classes:
            raise ValueError(f"data: the label {label!r} is not one of the training data, {', '.join(self.classes)}")
        return self.classes.index(label)

    def to_facts(self) -> dict[str, Any]:
        """As JSON values, without the options of the task."""
        return {
            "classes": list(self.classes),
            "counts": list(self.counts),
            "mean": self.mean,
            "deviation": self.deviation,
            "steps": self.steps,
        }


@dataclass(frozen=True)
class Loaded:
    """All splits of a set of series, and their form.

    Args:
        read: number of series in each file that was read.
    """

    splits: dict[Split, LabelledSeries]
    form: Form
    read: tuple[int, ...] = ()


class LabelledTask(Classification):
    """Labelled series, cut into steps of `frame` values each."""

    frame: int

    def loaded(self) -> Loaded:
        """Return the data, read at most once per process."""
        raise NotImplementedError

    def longest(self) -> int | None:
        """The number of values of a series that are read; None: all."""
        raise NotImplementedError

    def learn(self) -> dict[str, Any]:
        """Read the classes, the scale, the longest series, and the number of series in each file."""
        loaded = self.loaded()
        return {**loaded.form.to_facts(), DATA: {"series": list(loaded.read)}}

    @property
    def form(self) -> Form:
        """How series become what a model reads, from the facts or from the training data."""
        facts = self._facts
        return self.loaded().form if facts is None else self._form(facts)

    def _form(self, facts: Mapping[str, Any]) -> Form:
        return Form(
            tuple(facts["classes"]),
            tuple(facts["counts"]),
            facts["mean"],
            facts["deviation"],
            self.frame,
            self.longest(),
            facts["steps"],
        )

    def examples(self, split: Split) -> LabelledSeries:
        """Return one split: values (N, T, I), label (N,)."""
        return self.loaded().splits[split]

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels in the data, in the order of the classes."""
        return self.form.classes

    @property
    def input_size(self) -> int:
        """I, the values of a frame."""
        return self.frame

    @property
    def output_size(self) -> int:
        """C, the number of labels."""
        return len(self.form.classes)


def form_of(parts: dict[Split, list[One]], frame: int, samples: int | None) -> Form:
    """The form that follows from the training data. Classes and the longest series are those of all parts."""
    classes = tuple(sorted({one.label for part in parts.values() for one in part}, key=by_number))
    if len(classes) < 2:
        raise ValueError(f"data must have at least 2 different labels, got {len(classes)}")
    shown = np.concatenate([one.values[:samples] for one in parts["train"]])
    counts = Counter(one.label for one in parts["train"])
    steps = max(-(-len(one.values[:samples]) // frame) for part in parts.values() for one in part)
    mean, deviation = float(shown.mean()), float(shown.std()) or 1.0
    return Form(classes, tuple(counts[label] for label in classes), mean, deviation, frame, samples, steps)


def pack(parts: dict[Split, list[One]], form: Form, read: tuple[int, ...] = ()) -> Loaded:
    """Cut and standardise all series, and pack those of each part into an array of the length of the longest."""
    splits: dict[Split, LabelledSeries] = {}
    for split, part in parts.items():
        cut = [one.values[: form.samples] for one in part]
        steps = max([form.steps, *(-(-len(values) // form.frame) for values in cut)])
        packed = np.zeros((len(part), steps, form.frame), np.float32)
        for row, values in zip(packed, cut, strict=True):
            row[:] = in_frames((values - form.mean) / form.deviation, form.frame, steps)
        labels = torch.as_tensor([form.class_of(one.label) for one in part], dtype=torch.int64)
        splits[split] = LabelledSeries(torch.as_tensor(packed), labels)
    return Loaded(splits, form, read)


def in_frames(values: NDArray[Any], frame: int, steps: int) -> NDArray[np.float32]:
    """A series as steps of `frame` values, (steps, frame), padded with zeros before its first step."""
    cut = np.zeros((steps, frame), np.float32)
    cut[steps - -(-len(values) // frame) :].reshape(-1)[: len(values)] = values
    return cut


def by_number(label: str) -> tuple[float, str]:
    """A sort key: numbers first, in their order, then other labels in alphabetical order."""
    try:
        return float(label), label
    except ValueError:
        return float("inf"), label
