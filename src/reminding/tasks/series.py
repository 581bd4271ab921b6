"""Labelled series, classified at the last step: UCR and .ts files, folders of audio files, and spoken digits.

Shapes: N series, D dimensions, B batch, T steps, I values per step, C classes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reminding.checks import at_least, at_least_or_none, one_of
from reminding.tasks.data.audio import audio_files, audio_form, read_audio, same_rate
from reminding.tasks.data.labelled import splits
from reminding.tasks.data.labelled.arrays import MISSING, Missing
from reminding.tasks.data.labelled.files import NEEDED, One, read_series
from reminding.tasks.data.labelled.folders import AudioFile, list_recordings
from reminding.tasks.data.reading import FileSteps, Reading
from reminding.tasks.files.labelled import Form, LabelledTask, Loaded
from reminding.tasks.kinds.facts import DATA

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
        spectrum: for sound: whether a step reads the log power spectrum of its frame, of which at least 8 values are
            needed, in the place of the values. It is relative to the mean power of the series, so that loud and soft
            recordings are alike.
        samples: number of values of a series to read, from its beginning; None: all.
        missing: what a missing value becomes: error: it is refused; carry: the last value; zero: 0 on the scale. With
            carry and zero each dimension has a mask as a further input, if any value is missing.
        pattern: the places of audio files below the folder, such as "{label}/{group}/*" or "{label}_{group}_*";
            use {split} for train, valid or test. A group, such as a speaker, is held out as a whole.

    Raises:
        FileNotFoundError: when examples are asked for, a file or folder does not exist.
        ValueError: a line or file cannot be read (the message names it), a class has a single series, or there is one
            class.
    """

    name: ClassVar[str] = "series"

    data: Path | None = None
    valid: Path | None = None
    test: Path | None = None
    frame: int = 1
    spectrum: bool = False
    samples: int | None = None
    missing: Missing = "error"
    pattern: str | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        at_least("frame", self.frame, 1)
        at_least_or_none("samples", self.samples, 1)
        one_of("missing", self.missing, MISSING)
        self.check_spectrum()

    def loaded(self) -> Loaded:
        """Return the data, read at most once per process.

        Raises:
            ValueError: data is None, or a file cannot be read as labelled series; the message names it.
            FileNotFoundError: there is no such file or folder.
        """
        if self.data is None:
            raise ValueError("data: a file of labelled series, or a folder of audio files, is needed: --data PATH")
        return (_load_new if self.new_data else _load)(self, self.known_form())

    def longest(self) -> int | None:
        """`samples`."""
        return self.samples

    def filling(self) -> Missing:
        """`missing`."""
        return self.missing

    def files(self) -> dict[str, Path]:
        """The files of all parts; of a folder each audio file in it."""
        places = {"data": self.data, "valid": self.valid, "test": _test_of(self)}
        return {key: path for name, place in places.items() if place for key, path in _named(name, place).items()}


@dataclass(frozen=True)
class SpokenDigits(LabelledTask):
    """Ten digits spoken by six people, raw 8 kHz audio.   [Jackson et al. 2018, Free Spoken Digit Dataset]

    Input (T, B, frame): `frame` samples per step, of the first second of each recording, which ends at the last step.
    The official test set is takes 0 to 4 of each digit and speaker; takes 5 to 9 are the validation set here.

    Args:
        data_dir: folder with the recordings (`0_george_0.wav`, ...), or with a folder `fsdd` or `recordings` that
            holds them.
        frame: samples per step, at least 1; 16 are two milliseconds.
        spectrum: whether a step reads the log power spectrum of its frame, of which at least 8 samples are needed, in
            the place of the samples. It is relative to the mean power of the recording.
        hold_out: takes: as above, all speakers are in all parts; speakers: the test set is the last speaker by name,
            the validation set the one before.

    Raises:
        FileNotFoundError: when examples are asked for, there are no recordings; the message says where to get them.
        ValueError: a file is damaged; the message names it.
    """

    name: ClassVar[str] = "spoken"

    data_dir: Path | None = None
    frame: int = 16
    spectrum: bool = False
    hold_out: Literal["takes", "speakers"] = "takes"

    def __post_init__(self) -> None:
        """Check the options."""
        at_least("frame", self.frame, 1)
        one_of("hold_out", self.hold_out, ("takes", "speakers"))
        self.check_spectrum()

    def loaded(self) -> Loaded:
        """Return the data, read at most once per process."""
        return _load_digits(self, find_recordings(self.data_dir), self.known_form())

    def longest(self) -> int | None:
        """One second."""
        return DIGIT_SAMPLES

    def files(self) -> dict[str, Path]:
        """The recordings."""
        return _named("data_dir", find_recordings(self.data_dir))


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
def _load_digits(task: SpokenDigits, folder: Path, known: str | None) -> Loaded:
    hold_out = task.hold_out
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
    parts = _ordered(parts)
    return _loaded(parts, {"train": found}, task.form_for(parts, found.rate, known), f"{hold_out} held out")


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
def _load(task: Series, known: str | None) -> Loaded:
    """Read the data of a run.

    Args:
        known: the facts of a run that was begun before, whose files may have grown at their end since; as text.
    """
    assert task.data is not None
    begun: dict[str, int] = {} if known is None else json.loads(known)[DATA]["series"]
    places = {"train": task.data, "valid": task.valid, "test": _test_of(task)}
    found = {split: _read(path, task.pattern, begun.get(split)) for split, path in places.items() if path}
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
    parts = _ordered(parts)
    return _loaded(parts, found, task.form_for(parts, rate, known), held)


@lru_cache(maxsize=2)
def _load_new(task: Series, known: str) -> Loaded:
    """Read a file or folder that the run was not trained on: all of it is a test split."""
    place = task.test or task.data
    assert place is not None
    found, form = _read(place, task.pattern), task.form_of(json.loads(known))
    form.check_kind(place, found.rate)
    everything = [one for part in found.parts.values() for one in part]
    return _loaded({"train": [], "valid": [], "test": everything}, {"test": found}, form, "new data")


def _test_of(task: Series) -> Path | None:
    """The test series: those named, or NAME_TEST beside NAME_TRAIN."""
    if task.test is not None or task.data is None or not _TRAIN.search(task.data.name):
        return task.test
    beside = task.data.with_name(_TRAIN.sub(lambda match: match[0].replace("TRAIN", "TEST"), task.data.name))
    return beside if beside.exists() else None


def _named(name: str, place: Path) -> dict[str, Path]:
    """A file under a name, or the audio files of a folder, each under that name and its own."""
    if not place.is_dir():
        return {name: place}
    return {f"{name}/{path.relative_to(place).as_posix()}": path for path in audio_files(place)}


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


def _read(path: Path, pattern: str | None, first: int | None = None) -> _Found:
    """The series of a text file, or of a folder of audio files.

    Args:
        first: number of series to read of a text file, from its beginning; None: all.
    """
    if path.is_dir():
        return _heard(list_recordings(path, pattern), path)
    if not path.is_file():
        raise FileNotFoundError(f"data: {path} is neither a file nor a folder")
    if pattern is not None:
        raise ValueError(f"pattern is for folders of audio files, {path} is a file")
    series = read_series(path)[:first]
    for one in series:
        if not one.label:
            raise ValueError(f"data: {one.where}: the series has no label (@classLabel false); {NEEDED}")
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


def _loaded(parts: dict[str, list[One]], found: Mapping[str, _Found], form: Form, held: str) -> Loaded:
    lengths = [len(one.values) for part in parts.values() for one in part]
    shortest, longest, rate = min(lengths), max(lengths), form.rate
    settings = [
        ("classes", ", ".join(form.classes[:12]) + (", ..." if len(form.classes) > 12 else "")),
        ("length", str(longest) if shortest == longest else f"{shortest} to {longest}"),
        ("dimensions", str(form.dimensions)),
        *([("sample rate", f"{rate} Hz")] if rate is not None else []),
        *((split, f"{len(parts[split]):,}") for split in ("train", "valid", "test") if parts[split]),
    ]
    counts = {split: sum(map(len, each.parts.values())) for split, each in found.items()}
    files = tuple(FileSteps(str(each.path), counts[split]) for split, each in found.items())
    kind = "audio" if rate is not None else "labelled series"
    reading = Reading(files, kind, "example", tuple(settings), notes=(held,))
    return Loaded.of_parts(parts, form, reading, counts)
