"""Labelled series, classified at the last step: UCR files, folders of WAV files, and spoken digits.

Shapes: N series, n values of a series, B batch, T steps, I values per step, C classes.
"""

from __future__ import annotations

import re
import wave
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.tasks.data.sources import pcm
from reminding.tasks.kinds.base import Batch, Split
from reminding.tasks.kinds.checks import at_least, at_least_or_none
from reminding.tasks.kinds.classification import Classification

HELD_OUT = 0.2
"""Share of each class that is held out for validation, and for the test if it has no file of its own."""
DIGIT_SAMPLES = 8000
"""Samples of a spoken digit that are read: one second. Fewer than one digit in a hundred is longer."""
_TRAIN = re.compile(r"_TRAIN(?=\.[^.]+$)")
_DIGIT = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav$")


class One(NamedTuple):
    """A series and its label."""

    label: str
    values: NDArray[np.float32]


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
        mean, deviation: of the training data.
        frame: values per step.
        samples: number of values of a series that are read; None: all.
        steps: T, the length of the longest series.
    """

    splits: dict[Split, LabelledSeries]
    classes: tuple[str, ...]
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


class LabelledTask(Classification):
    """Labelled series, cut into steps of `frame` values each."""

    frame: int

    def loaded(self) -> Loaded:
        """Return the data, read at most once per process."""
        raise NotImplementedError

    def examples(self, split: Split) -> LabelledSeries:
        """Return one split: values (N, T, I), label (N,)."""
        return self.loaded().splits[split]

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels in the data, in the order of the classes."""
        return self.loaded().classes

    @property
    def input_size(self) -> int:
        """I, the values of a frame."""
        return self.frame

    @property
    def output_size(self) -> int:
        """C, the number of labels."""
        return len(self.loaded().classes)


@dataclass(frozen=True)
class Series(LabelledTask):
    """Your own labelled series: a file in a format of the UCR archive, or a folder of WAV files.

    A file is `.ts` (sktime's format: values, a colon, the label), or another text with one series per line, the label
    first, separated by white space, commas or tabs. A folder holds WAV files, in one folder per label or named
    LABEL_anything.wav. Input (T, B, frame), standardised with the mean and deviation of the training data. T is the
    length of the longest series; shorter ones are padded with zeros before their first step, so that all are
    classified at their end.

    Args:
        data: the training series. The last fifth of each class in the file is held out for validation.
        test: the test series, a file or folder like data; None: NAME_TEST.ts beside NAME_TRAIN.ts, if data has such a
            name, otherwise another fifth of the data.
        frame: values per step, at least 1; the last frame of a series is padded with zeros.
        samples: number of values of a series to read, from its beginning; None: all.
    Raises (when examples are asked for):
        FileNotFoundError: data or test does not exist.
        ValueError: a line cannot be read (the message names it), a class has a single series, or there is one class.
    """

    name: ClassVar[str] = "series"

    data: Path | None = None
    test: Path | None = None
    frame: int = 1
    samples: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        at_least("frame", self.frame, 1)
        at_least_or_none("samples", self.samples, 1)

    def loaded(self) -> Loaded:
        """Return the data, read at most once per process."""
        if self.data is None:
            raise ValueError("data: a file of labelled series, or a folder of WAV files, is needed: --data PATH")
        return _load(self.data, self.test, self.frame, self.samples)


@dataclass(frozen=True)
class SpokenDigits(LabelledTask):
    """Ten digits spoken by six people, raw 8 kHz audio.   [Jackson et al. 2018, Free Spoken Digit Dataset]

    Input (T, B, frame): `frame` samples per step, of the first second of each recording, which ends at the last step.
    The official test set is takes 0 to 4 of each digit and speaker; takes 5 to 9 are the validation set here.

    Args:
        data_dir: folder with the recordings (`0_george_0.wav`, ...), or with a folder `fsdd` or `recordings` that
            holds them.
        frame: samples per step, at least 1; 16 are two milliseconds.
    Raises (when examples are asked for):
        FileNotFoundError: there are no recordings; the message says where to get them.
        ValueError: a file is damaged; the message names it.
    """

    name: ClassVar[str] = "spoken"

    data_dir: Path | None = None
    frame: int = 16

    def __post_init__(self) -> None:
        """Check the frame."""
        at_least("frame", self.frame, 1)

    def loaded(self) -> Loaded:
        """Return the data, read at most once per process."""
        return _load_digits(find_recordings(self.data_dir), self.frame)


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
        if any(_DIGIT.match(path.name) for path in place.glob("*.wav")):
            return place
    raise FileNotFoundError(
        f"data_dir: no recordings such as 0_george_0.wav in {data_dir}, nor in its folders fsdd and recordings; "
        "get the folder recordings of the Free Spoken Digit Dataset (Jakobovski/free-spoken-digit-dataset on GitHub)"
    )


def read_recordings(folder: Path) -> list[Recording]:
    """The recordings in a folder, `DIGIT_SPEAKER_TAKE.wav`, in the order of their names."""
    named = [(path, _DIGIT.match(path.name)) for path in sorted(folder.glob("*.wav"))]
    return [Recording(name[1], name[2], int(name[3]), read_wav(path)) for path, name in named if name is not None]


@lru_cache(maxsize=2)
def _load_digits(folder: Path, frame: int) -> Loaded:
    parts: dict[Split, list[One]] = {"train": [], "valid": [], "test": []}
    for each in read_recordings(folder):
        split: Split = "test" if each.take < 5 else "valid" if each.take < 10 else "train"
        parts[split].append(One(each.digit, each.values))
    return _pack(parts, frame, DIGIT_SAMPLES)


@lru_cache(maxsize=2)
def _load(data: Path, test: Path | None, frame: int, samples: int | None) -> Loaded:
    if test is None and _TRAIN.search(data.name):
        beside = data.with_name(_TRAIN.sub("_TEST", data.name))
        test = beside if beside.exists() else None
    train = read_series(data)
    tested: list[One] = []
    if test is None:
        train, tested = _hold_out(train, data)
    else:
        tested = read_series(test)
    train, valid = _hold_out(train, data)
    return _pack({"train": train, "valid": valid, "test": tested}, frame, samples)


def _hold_out(series: Sequence[One], path: Path) -> tuple[list[One], list[One]]:
    """The series without the last fifth of each class, at least one; and that fifth."""
    held: set[int] = set()
    for label in {one.label for one in series}:
        members = [number for number, one in enumerate(series) if one.label == label]
        if len(members) < 2:
            raise ValueError(f"data: {path} has too few series with the label {label!r} to hold some out")
        held.update(members[-max(1, int(HELD_OUT * len(members))) :])
    return (
        [one for number, one in enumerate(series) if number not in held],
        [series[number] for number in sorted(held)],
    )


def _pack(parts: dict[Split, list[One]], frame: int, samples: int | None) -> Loaded:
    """Cut and standardise all series, and pack them into arrays of the length of the longest."""
    classes = tuple(sorted({one.label for part in parts.values() for one in part}, key=_by_number))
    if len(classes) < 2:
        raise ValueError(f"data must have at least 2 different labels, got {len(classes)}")
    cut: dict[Split, list[NDArray[np.float32]]] = {
        split: [one.values[:samples] for one in part] for split, part in parts.items()
    }
    shown = np.concatenate(cut["train"])
    mean, deviation = float(shown.mean()), float(shown.std()) or 1.0
    steps = max(-(-len(values) // frame) for part in cut.values() for values in part)
    number = {label: index for index, label in enumerate(classes)}
    splits: dict[Split, LabelledSeries] = {}
    for split, part in cut.items():
        packed = np.zeros((len(part), steps, frame), np.float32)
        for row, values in zip(packed, part, strict=True):
            row[:] = in_frames((values - mean) / deviation, frame, steps)
        labels = [number[one.label] for one in parts[split]]
        splits[split] = LabelledSeries(torch.as_tensor(packed), torch.as_tensor(labels))
    return Loaded(splits, classes, mean, deviation, frame, samples, steps)


def in_frames(values: NDArray[Any], frame: int, steps: int) -> NDArray[np.float32]:
    """A series as steps of `frame` values, (steps, frame), padded with zeros before its first step."""
    cut = np.zeros((steps, frame), np.float32)
    cut[steps - -(-len(values) // frame) :].reshape(-1)[: len(values)] = values
    return cut


def _by_number(label: str) -> tuple[float, str]:
    """A sort key: numbers first, in their order, then other labels in alphabetical order."""
    try:
        return float(label), label
    except ValueError:
        return float("inf"), label


def read_series(path: Path) -> list[One]:
    """Read labelled series from a text file, or from a folder of WAV files.

    Raises:
        FileNotFoundError: `path` does not exist, or the folder has no WAV file.
        ValueError: a line is not a series; the message names the file and the line.
    """
    if path.is_dir():
        files = sorted(path.rglob("*.wav"))
        if not files:
            raise FileNotFoundError(f"data: there is no .wav file in {path}")
        return [One(wav_label(each, path), read_wav(each)) for each in files]
    if not path.is_file():
        raise FileNotFoundError(f"data: {path} is neither a file nor a folder")
    with path.open(encoding="utf-8-sig") as lines:
        return _read_ts(lines, path) if path.suffix == ".ts" else _read_rows(lines, path)


def wav_label(path: Path, folder: Path) -> str:
    """The label of a WAV file: its own folder or, directly in `folder`, its name up to the first underscore."""
    return path.stem.split("_")[0] if path.parent == folder else path.parent.name


def read_wav(path: Path) -> NDArray[np.float32]:
    """The samples of a WAV file of integer PCM, from -1 to 1, channels averaged, (n,).

    Raises:
        ValueError: the file is not such a WAV file.
    """
    try:
        with wave.open(str(path), "rb") as file:
            raw = file.readframes(file.getnframes())
            samples = pcm(raw, file.getsampwidth()).reshape(-1, file.getnchannels())
    except (wave.Error, EOFError, ValueError) as error:
        raise ValueError(f"data: {path} cannot be read as WAV with integer PCM samples: {error}") from error
    return _checked(samples.mean(1).astype(np.float32), str(path))


def _read_ts(lines: Iterable[str], path: Path) -> list[One]:
    """The format of sktime: a header of lines that begin with # or @, then `values:label`, one series per line."""
    series: list[One] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text[0] in "#@":
            continue
        values, *rest = text.split(":")
        if len(rest) != 1:
            raise ValueError(f"data: {path}, line {number}: {len(rest)} colons, expected one series and its label")
        series.append(One(rest[0].strip(), _numbers(values.split(","), f"{path}, line {number}")))
    return series


def _read_rows(lines: Iterable[str], path: Path) -> list[One]:
    """The label first, then the values. A shorter series may end in NaN."""
    series: list[One] = []
    for number, line in enumerate(lines, 1):
        label, *cells = re.split(r"[,;\s]+", line.strip().rstrip(",;"))
        if not label:
            continue
        label = f"{float(label):g}" if _is_number(label) else label
        series.append(One(label, _numbers(cells, f"{path}, line {number}")))
    return series


def _is_number(text: str) -> bool:
    return _by_number(text)[0] < float("inf")


def _numbers(cells: Sequence[str], where: str) -> NDArray[np.float32]:
    try:
        values = np.array([float(cell) for cell in cells], np.float32)
    except ValueError as error:
        raise ValueError(f"data: {where}: {error}") from error
    while len(values) and np.isnan(values[-1]):  # the archive pads shorter series with NaN
        values = values[:-1]
    return _checked(values, where)


def _checked(values: NDArray[np.float32], where: str) -> NDArray[np.float32]:
    if not len(values):
        raise ValueError(f"data: {where}: no values, expected a label and at least one value")
    if not np.isfinite(values).all():
        raise ValueError(f"data: {where}: value {int(np.flatnonzero(~np.isfinite(values))[0]) + 1} is not finite")
    return values
