"""The base of tasks of labelled series: their form, and the splits packed into arrays.

Shapes: N series, n values of a series, D dimensions, B batch, T steps, I values per step, C classes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.checks import at_least, require
from reminding.tasks.data.audio import check_rate, read_audio
from reminding.tasks.data.labelled.arrays import SPECTRUM_FRAME, Cut, Missing, classes_of, cut_of, pack
from reminding.tasks.data.labelled.files import One
from reminding.tasks.data.reading import Reading
from reminding.tasks.data.scale import Scale
from reminding.tasks.kinds.base import Batch, EvalSplit, Split
from reminding.tasks.kinds.classification import Classification
from reminding.tasks.kinds.facts import DATA

Parts = Mapping[str, Sequence[One]]


@dataclass(frozen=True)
class LabelledSeries:
    """One split of a set of series.

    Args:
        values: (N, T, I) float32; shorter series are padded with zeros before their first step.
        label: (N,) int64.
        own: number of the last steps that hold the series, (N,) int64; those before them are padding.
        least: the steps that a batch has at least: those of the longest series of the run's own data.
    """

    values: Tensor
    label: Tensor
    own: Tensor
    least: int

    def steps(self, rows: Tensor) -> Tensor:
        """The number of steps in which each of the series at `rows` (B,) is read alone, (B,)."""
        return self.own[rows].clamp(min=self.least)

    def batch(self, rows: Tensor) -> Batch:
        """Return the series at `rows` (B,): input (T, B, I), target (B,). T is that of the longest of them."""
        longest = int(self.steps(rows).max()) if len(rows) else self.least
        values = self.values[rows, self.values.shape[1] - longest :]
        return Batch(values.transpose(0, 1).contiguous(), self.label[rows])


@dataclass(frozen=True)
class Form:
    """How series become what a model reads: learned from the training data.

    Args:
        classes: the labels, in the order of the classes.
        counts: number of training series of each class.
        cut: scale, frames, and what a missing value becomes.
        rate: samples per second of audio; None: the series are not audio.
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    cut: Cut
    rate: int | None

    @staticmethod
    def of_parts(parts: Parts, cut: Cut, rate: int | None) -> Form:
        """The form that follows from the training data. Classes are those of all parts."""
        classes, counts = classes_of(parts), Counter(one.label for one in parts["train"])
        return Form(classes, tuple(counts[label] for label in classes), cut, rate)

    @staticmethod
    def of_facts(facts: Mapping[str, Any], frame: int, samples: int | None, missing: Missing, spectrum: bool) -> Form:
        """What `to_facts` wrote, with the options of the task."""
        scale = Scale.load(cast("Any", facts))
        cut = Cut(frame, samples, facts["steps"], missing, facts["masked"], scale, spectrum)
        return Form(tuple(facts["classes"]), tuple(facts["counts"]), cut, facts["rate"])

    def to_facts(self) -> dict[str, Any]:
        """As JSON values, without the options of the task."""
        return {
            "classes": list(self.classes),
            "counts": list(self.counts),
            **self.cut.scale.record(),
            "steps": self.cut.steps,
            "masked": self.cut.masked,
            "rate": self.rate,
        }

    @property
    def dimensions(self) -> int:
        """D, values of a series at a time."""
        return len(self.cut.scale.mean)

    @property
    def features(self) -> int:
        """I, the values of a step."""
        return self.cut.features

    def class_of(self, one: One) -> int | None:
        """The number of a series' class; None if its label is not known.

        Raises:
            ValueError: its label is none of the training data's.
        """
        if not one.label:
            return None
        if one.label not in self.classes:
            raise ValueError(
                f"data: {one.where} has the label {one.label!r}, expected one of {', '.join(self.classes)}, or ? if "
                "it is not known"
            )
        return self.classes.index(one.label)

    def check_kind(self, place: Path, rate: int | None) -> None:
        """Refuse audio where the training data were text, text where they were audio, and another sample rate.

        Args:
            rate: samples per second; None: the place holds text.

        Raises:
            ValueError: names both kinds, or both rates.
        """
        if (rate is None) != (self.rate is None):
            kinds = ("audio", "text") if self.rate is None else ("text", "audio")
            raise ValueError(f"data: {place} is {kinds[0]}, and the training data are {kinds[1]}")
        check_rate(self.rate, place, rate)

    def recording(self, path: Path) -> NDArray[np.float64]:
        """The samples of an audio file, where the training data were audio of its sample rate."""
        samples, rate = read_audio(path)
        self.check_kind(path, rate)
        return samples

    def prepared(self, values: NDArray[Any], where: str = "data") -> NDArray[np.float32]:
        """Another series, (n,) or (n, D), in the form that the model reads, (T, I). T is larger for longer series.

        Raises:
            ValueError: as in `check_samples` and `Cut.prepared`.
        """
        self.check_samples(values, where)
        return self.cut.prepared(values, where)

    def check_samples(self, values: NDArray[Any], where: str) -> None:
        """Refuse the whole numbers of a sound where those of training were samples from -1 to 1, as files are read.

        A spectrum is the same however loud the sound is.

        Raises:
            ValueError: all values are whole, and some are beyond -1 and 1.
        """
        cut = self.cut
        if self.rate is None or cut.spectrum or not values.size or cut.scale.deviation.max() > 1:
            return
        largest = np.abs(values).max()
        if largest > 1 and bool((values == np.round(values)).all()):
            raise ValueError(
                f"{where}: whole numbers up to {largest:g}, expected samples from -1 to 1, as files are read; divide "
                "those of 16 bits by 32768"
            )


@dataclass(frozen=True)
class Loaded:
    """All splits of a set of series, their form, and what was read.

    Args:
        read: number of series in each file that holds several, by its part.
    """

    splits: dict[Split, LabelledSeries]
    form: Form
    reading: Reading
    read: Mapping[str, int]

    @staticmethod
    def of_parts(parts: Parts, form: Form, reading: Reading, read: Mapping[str, int]) -> Loaded:
        """Pack all series into arrays."""
        packed = pack(parts, form.classes, form.cut)
        splits: dict[Split, LabelledSeries] = {}
        for split in ("train", "valid", "test"):
            values, label, own = map(torch.as_tensor, packed[split])
            splits[split] = LabelledSeries(values, label, own, form.cut.steps)
        return Loaded(splits, form, reading, read)


class LabelledTask(Classification):
    """Labelled series, cut into steps of `frame` values each, or of the spectrum of these with `spectrum`."""

    frame: int
    spectrum: bool

    def loaded(self) -> Loaded:
        """Return the data, read at most once per process."""
        raise NotImplementedError

    def longest(self) -> int | None:
        """The number of values of a series that are read; None: all."""
        raise NotImplementedError

    def filling(self) -> Missing:
        """What a missing value becomes."""
        return "error"

    def check_spectrum(self) -> None:
        """Check that a frame is long enough for its spectrum, and that no value may be missing in it.

        Raises:
            ValueError: it is not.
        """
        if self.spectrum:
            at_least("frame with spectrum", self.frame, SPECTRUM_FRAME)
            require(self.filling() == "error", "missing with spectrum", "be error", self.filling())

    def learn(self) -> dict[str, Any]:
        """Read the classes, the scale, the longest series, and what else was read of the files."""
        loaded = self.loaded()
        reading = loaded.reading.without_places().record()
        return {**loaded.form.to_facts(), DATA: {"series": dict(loaded.read), "reading": reading}}

    @property
    def form(self) -> Form:
        """How series become what a model reads, from the facts or from the training data."""
        facts = self._facts
        return self.loaded().form if facts is None else self.form_of(facts)

    def form_of(self, facts: Mapping[str, Any]) -> Form:
        """The form of a run."""
        return Form.of_facts(facts, self.frame, self.longest(), self.filling(), self.spectrum)

    def form_for(self, parts: Parts, rate: int | None, known: str | None) -> Form:
        """The form of these series or, if they are read for a run, of that run.

        Args:
            known: what `known_form` says.
        """
        if known is not None:
            return self.form_of(json.loads(known))
        cut = cut_of(parts, self.frame, self.longest(), self.filling(), self.spectrum)
        return Form.of_parts(parts, cut, rate)

    def known_form(self) -> str | None:
        """The facts as text, by which data in memory are found again; None: there are none."""
        return None if self._facts is None else json.dumps(dict(self._facts), allow_nan=False)

    def reading(self) -> Reading:
        """What was read."""
        return self.loaded().reading

    def examples(self, split: Split) -> LabelledSeries:
        """Return one split: values (N, T, I), label (N,)."""
        return self.loaded().splits[split]

    def eval_batches(self, split: EvalSplit, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """All series of a split, or `limit` of them; see `Classification.eval_batches`.

        A series that is longer than those of the run's own data shares its batch with others of its length, and none
        is padded for it: what is said of a series does not depend on the others in its file.
        """
        rows = self.evaluated(split, batch_size, limit)
        examples = self.examples(split)
        steps = examples.steps(rows)
        alike = (rows[steps == number] for number in np.unique(steps.numpy()).tolist())
        return (examples.batch(part) for same in alike for part in torch.split(same, batch_size))

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels in the data, in the order of the classes."""
        return self.form.classes

    @property
    def input_size(self) -> int:
        """I, the values of a step: of all dimensions, and of their masks."""
        return self.form.features

    @property
    def output_size(self) -> int:
        """C, the number of labels."""
        return len(self.form.classes)
