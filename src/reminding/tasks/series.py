"""Labelled series, classified at the last step: UCR and .ts files, folders of audio files, and spoken digits.

Shapes: N series, D dimensions, B batch, T steps, I values per step, C classes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.tasks.data.audio import audio_form, read_audio, same_rate
from reminding.tasks.data.labelled import splits
from reminding.tasks.data.labelled.files import One, read_series
from reminding.tasks.data.labelled.folders import AudioFile, list_recordings
from reminding.tasks.data.labelled.packed import MISSING, Cut, Missing, Packed, pack
from reminding.tasks.data.reading import FileSteps, Reading
from reminding.tasks.kinds.base import Batch, Split
from reminding.tasks.kinds.checks import at_least, at_least_or_none, one_of
from reminding.tasks.kinds.classification import Classification

DIGIT_SAMPLES = 8000
"""Samples of a spoken digit that are read: one second. Fewer than one digit in a hundred is longer."""
_TRAIN = re.compile(r"_TRAIN(?=\.[^.]+$)", re.IGNORECASE)
_DIGIT = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav$", re.IGNORECASE)


class Recording(NamedTuple):
    """A spoken digit: its label, the speaker's name, the number of the take, and the samples from -1 to 1."""

    digit: str
    speaker: str
    take: int
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
class Loaded:
    """All splits of a set of series, the name of each class, and the transformation of the series.

    Args:
        cut: how another series becomes what the model reads, with the scale.
        rate: samples per second of audio; None: the series are not audio.
        reading: what was read.
    """

    splits: dict[Split, LabelledSeries]
    classes: tuple[str, ...]
    cut: Cut
    rate: int | None
    reading: Reading

    def prepared(self, values: NDArray[Any], where: str = "data") -> NDArray[np.float32]:
        """Another series, (n,) or (n, D), in the form that the model reads, (T, I). T is larger for longer series."""
        return self.cut.prepared(values, where)


class LabelledTask(Classification):
    """Labelled series, cut into steps of `frame` values each."""

    frame: int

    def loaded(self) -> Loaded:
        """Return the data, read at most once per process."""
        raise NotImplementedError

    def reading(self) -> Reading:
        """What was read."""
        return self.loaded().reading

    def examples(self, split: Split) -> LabelledSeries:
        """Return one split: values (N, T, I), label (N,)."""
        return self.loaded().splits[split]

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels in the data, in the order of the classes."""
        return self.loaded().classes

    @property
    def input_size(self) -> int:
        """I, the values of a frame: of all dimensions, and of their masks."""
        cut = self.loaded().cut
        return self.frame * len(cut.scale.mean) * (2 if cut.masked else 1)

    @property
    def output_size(self) -> int:
        """C, the number of labels."""
        return len(self.loaded().classes)


@dataclass(frozen=True)
class Series(LabelledTask):
    """Your own labelled series: a file in a format of the UCR archive, or a folder of audio files.

    A file is `.ts` (sktime's format: one or several dimensions of values, and the label, divided by colons), or
    another text with one series per line, the label first, separated by white space, commas or tabs. A folder holds
    audio files (WAV, FLAC, ...) of one sample rate, in one folder per label or named LABEL_anything, below folders
    train, valid and test if it has them; `pattern` describes other folders. Labels are texts. Input (T, B, I), each
    dimension standardised with the mean and deviation of the training data. T is the length of the longest series;
    shorter ones are padded with zeros before their first step, so that all are classified at their end.

    Args:
        data: the training series. What is not given by valid and test is held out of them: of a file the last fifth
            of each class, of a folder every fifth file of each class or, with {group} in the pattern, whole groups.
        valid: the validation series, a file or folder like data.
        test: the test series, a file or folder like data; None: NAME_TEST.ts beside NAME_TRAIN.ts, if data has such a
            name.
        frame: values per step and dimension, at least 1; the last frame of a series is padded with zeros.
        samples: number of values of a series to read, from its beginning; None: all.
        missing: what a missing value becomes: error: it is refused; carry: the last value; zero: 0 on the scale. With
            carry and zero each dimension has a mask as a further input, if any value is missing.
        pattern: the places of audio files below the folder, such as "{label}/{group}/*" or "{label}_{group}_*", with
            {split} for train, valid or test. A group, such as a speaker, is held out as a whole.
    Raises (when examples are asked for):
        FileNotFoundError: a file or folder does not exist.
        ValueError: a line or file cannot be read (the message names it), a class has a single series, or there is one
            class.
    """

    name: ClassVar[str] = "series"

    data: Path | None = None
    valid: Path | None = None
    test: Path | None = None
    frame: int = 1
    samples: int | None = None
    missing: Missing = "error"
    pattern: str | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        at_least("frame", self.frame, 1)
        at_least_or_none("samples", self.samples, 1)
        one_of("missing", self.missing, MISSING)

    def loaded(self) -> Loaded:
        """Return the data, read at most once per process."""
        if self.data is None:
            raise ValueError("data: a file of labelled series, or a folder of audio files, is needed: --data PATH")
        return _load(self)


@dataclass(frozen=True)
class SpokenDigits(LabelledTask):
    """Ten digits spoken by six people, raw 8 kHz audio.   [Jackson et al. 2018, Free Spoken Digit Dataset]

    Input (T, B, frame): `frame` samples per step, of the first second of each recording, which ends at the last step.
    The official test set is takes 0 to 4 of each digit and speaker; takes 5 to 9 are the validation set here.

    Args:
        data_dir: folder with the recordings (`0_george_0.wav`, ...), or with a folder `fsdd` or `recordings` that
            holds them.
        frame: samples per step, at least 1; 16 are two milliseconds.
        hold_out: takes: as above, all speakers are in all parts; speakers: the test set is the last speaker by name,
            the validation set the one before.
    Raises (when examples are asked for):
        FileNotFoundError: there are no recordings; the message says where to get them.
        ValueError: a file is damaged; the message names it.
    """

    name: ClassVar[str] = "spoken"

    data_dir: Path | None = None
    frame: int = 16
    hold_out: Literal["takes", "speakers"] = "takes"

    def __post_init__(self) -> None:
        """Check the options."""
        at_least("frame", self.frame, 1)
        one_of("hold_out", self.hold_out, ("takes", "speakers"))

    def loaded(self) -> Loaded:
        """Return the data, read at most once per process."""
        return _load_digits(find_recordings(self.data_dir), self.frame, self.hold_out)


def find_recordings(data_dir: Path | None) -> Path:
    """The folder of the Free Spoken Digit Dataset's recordings.

    Raises:
        FileNotFoundError: there are none; the message says where to get them.
        ValueError: data_dir is None.
    """
    if data_dir is None:
        raise ValueError(
            "data_dir: the folder with the recordings is needed; they are not downloaded: --data-dir DIR"
        )
    places = [data_dir, data_dir / "recordings", data_dir / "fsdd", data_dir / "fsdd" / "recordings"]
    for place in places:
        if any(_DIGIT.match(path.name) for path in place.glob("*.[wW][aA][vV]")):
            return place
    raise FileNotFoundError(
        f"data_dir: no recordings such as 0_george_0.wav in {data_dir}, nor in its folders fsdd and recordings; "
        "get the folder recordings of the Free Spoken Digit Dataset (Jakobovski/free-spoken-digit-dataset on GitHub)"
    )


@dataclass(frozen=True)
class _Found:
    """Series of one file or folder, by the split that their place names ("" for none), and the sample rate."""

    parts: dict[str, list[One]]
    rate: int | None
    path: Path


@lru_cache(maxsize=2)
def _load_digits(folder: Path, frame: int, hold_out: str) -> Loaded:
    files = [
        AudioFile(path, name[1], name[2], _take_split(int(name[3])) if hold_out == "takes" else "")
        for path, name in _digits(folder)
    ]
    found = _heard(files, folder)
    if hold_out == "takes":
        parts: dict[str, list[One]] = found.parts
    else:
        rest, tested = splits.groups(found.parts[""], folder)
        train, valid = splits.groups(rest, folder)
        parts = {"train": train, "valid": valid, "test": tested}
    held = f"{hold_out} held out"
    return _loaded(parts, [found], pack(_ordered(parts), frame, DIGIT_SAMPLES, "error"), held)


def _digits(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    """The recordings in a folder, sorted by name, with digit, speaker and take of each."""
    named = [(path, _DIGIT.match(path.name)) for path in sorted(folder.iterdir())]
    return [(path, name) for path, name in named if name is not None]


def read_recordings(folder: Path) -> list[Recording]:
    """The recordings in a folder, `DIGIT_SPEAKER_TAKE.wav`, in the order of their names."""
    found: list[Recording] = []
    for path, name in _digits(folder):
        samples, _ = read_audio(path)
        found.append(Recording(name[1], name[2], int(name[3]), samples.astype(np.float32)))
    return found


def _take_split(take: int) -> str:
    return "test" if take < 5 else "valid" if take < 10 else "train"


@lru_cache(maxsize=2)
def _load(task: Series) -> Loaded:
    assert task.data is not None
    test = task.test
    if test is None and _TRAIN.search(task.data.name):
        beside = task.data.with_name(_TRAIN.sub(lambda match: match[0].replace("TRAIN", "TEST"), task.data.name))
        test = beside if beside.exists() else None
    found = {"train": _read(task.data, task.pattern)}
    found |= {split: _read(path, task.pattern) for split, path in (("valid", task.valid), ("test", test)) if path}
    first, rate = found["train"], found["train"].rate
    for other in found.values():
        if (other.rate is None) != (rate is None):
            raise ValueError(f"data: {other.path} and {first.path} must both be audio, or both be text")
        if rate is not None and other.rate is not None:
            same_rate(first.path, rate, other.path, other.rate)
    parts = {split: [one for part in each.parts.values() for one in part] for split, each in found.items()}
    named = {split: part for split, part in first.parts.items() if split}
    parts["train"] = [*first.parts.get("train", []), *first.parts.get("", [])]
    parts = {**{split: part for split, part in named.items() if split != "train"}, **parts}
    hold = _hold_out(first)
    said = [f"{split} of its own" for split in ("valid", "test") if split in parts]
    for split in ("test", "valid"):
        if split not in parts:
            parts["train"], parts[split] = hold(parts["train"], task.data)
    held = ", ".join(said) or _SAID[hold]
    return _loaded(parts, list(found.values()), pack(_ordered(parts), task.frame, task.samples, task.missing), held)


_SAID: dict[Any, str] = {
    splits.last_of_each: "the last fifths of each class held out",
    splits.spread_of_each: "every fifth file of each class held out (whole speakers by {group} in a --pattern)",
    splits.groups: "whole groups held out",
}


def _hold_out(found: _Found) -> Callable[[Sequence[One], Path], tuple[list[One], list[One]]]:
    if found.rate is None:
        return splits.last_of_each
    grouped = any(one.group for part in found.parts.values() for one in part)
    return splits.groups if grouped else splits.spread_of_each


def _ordered(parts: dict[str, list[One]]) -> dict[str, list[One]]:
    return {split: parts.get(split, []) for split in ("train", "valid", "test")}


def _read(path: Path, pattern: str | None) -> _Found:
    """The series of a text file, or of a folder of audio files."""
    if path.is_dir():
        return _heard(list_recordings(path, pattern), path)
    if not path.is_file():
        raise FileNotFoundError(f"data: {path} is neither a file nor a folder")
    if pattern is not None:
        raise ValueError(f"pattern is for folders of audio files, {path} is a file")
    series = read_series(path)
    for one in series:
        if not one.label:
            raise ValueError(f"data: {one.where}: the series has no label (@classLabel false), expected one")
    return _Found({"": series}, None, path)


def _heard(recordings: Sequence[AudioFile], folder: Path) -> _Found:
    """The samples of recordings, which must have one sample rate."""
    parts: dict[str, list[One]] = {}
    first, rate = recordings[0].path, audio_form(recordings[0].path).rate
    for recording in recordings:
        samples, other = read_audio(recording.path)
        same_rate(first, rate, recording.path, other)
        one = One(recording.label, samples[:, None], str(recording.path), recording.group)
        parts.setdefault(recording.split, []).append(one)
    return _Found(parts, rate, folder)


def _loaded(parts: dict[str, list[One]], found: Sequence[_Found], packed: Packed, held: str) -> Loaded:
    tensors: dict[Split, LabelledSeries] = {}
    for split in ("train", "valid", "test"):
        tensors[split] = LabelledSeries(torch.as_tensor(packed.values[split]), torch.as_tensor(packed.labels[split]))
    lengths = [len(one.values) for part in parts.values() for one in part]
    shortest, longest = min(lengths), max(lengths)
    rate = found[0].rate
    settings = [
        ("classes", ", ".join(packed.classes[:12]) + (", ..." if len(packed.classes) > 12 else "")),
        ("length", str(longest) if shortest == longest else f"{shortest} to {longest}"),
        ("dimensions", str(len(packed.cut.scale.mean))),
        *([("sample rate", f"{rate} Hz")] if rate is not None else []),
        *((split, f"{len(parts[split]):,}") for split in ("train", "valid", "test")),
    ]
    files = tuple(FileSteps(str(each.path), sum(map(len, each.parts.values()))) for each in found)
    kind = "audio" if rate is not None else "labelled series"
    reading = Reading(files, kind, "example", tuple(settings), notes=(held,))
    return Loaded(tensors, packed.classes, packed.cut, rate, reading)
