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
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.sources import pcm
from reminding.tasks.kinds.base import Split
from reminding.tasks.kinds.checks import at_least, at_least_or_none
from reminding.tasks.kinds.facts import DATA
from reminding.tasks.kinds.labelled import Form, LabelledTask, Loaded, One, by_number, form_of, pack

HELD_OUT = 0.2
"""Share of each class that is held out for validation, and for the test if it has no file of its own."""
DIGIT_SAMPLES = 8000
"""Samples of a spoken digit that are read: one second. Fewer than one digit in a hundred is longer."""
_TRAIN = re.compile(r"_TRAIN(?=\.[^.]+$)")
_DIGIT = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav$")


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
        if self._facts is None:
            return _load(self.data, self.test, self.frame, self.samples)
        if self.new_data:
            return _load_new(self.test or self.data, self.form)
        return _load(self.data, self.test, self.frame, self.samples, self.form, tuple(self.facts()[DATA]["series"]))

    def longest(self) -> int | None:
        """`samples`."""
        return self.samples

    def files(self) -> dict[str, Path]:
        """The files of the training and test data; of a folder each WAV file in it."""
        if self.data is None:
            return {}
        test = _test_beside(self.data) if self.test is None else self.test
        return {**_named("data", self.data), **({} if test is None else _named("test", test))}


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
        return _load_digits(_recordings(self.data_dir), self.frame, None if self._facts is None else self.form)

    def longest(self) -> int | None:
        """One second."""
        return DIGIT_SAMPLES

    def files(self) -> dict[str, Path]:
        """The recordings."""
        return _named("data_dir", _recordings(self.data_dir))


def _recordings(data_dir: Path | None) -> Path:
    """The folder of the recordings."""
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


@lru_cache(maxsize=2)
def _load_digits(folder: Path, frame: int, form: Form | None) -> Loaded:
    parts: dict[Split, list[One]] = {"train": [], "valid": [], "test": []}
    for path in sorted(folder.glob("*.wav")):
        if (name := _DIGIT.match(path.name)) is not None:
            take = int(name[3])
            split: Split = "test" if take < 5 else "valid" if take < 10 else "train"
            parts[split].append(One(name[1], read_wav(path)))
    return pack(parts, form or form_of(parts, frame, DIGIT_SAMPLES))


@lru_cache(maxsize=2)
def _load(
    data: Path,
    test: Path | None,
    frame: int,
    samples: int | None,
    form: Form | None = None,
    first: tuple[int, ...] = (),
) -> Loaded:
    """Read the data of a run.

    Args:
        form: of a run that was begun before; None: that of these data.
        first: number of series to read of each file, from its beginning; by default all.
    """
    test = _test_beside(data) if test is None else test
    series = [read_series(path) for path in (data, test) if path is not None]
    series = [each[:number] for each, number in zip(series, first, strict=True)] if first else series
    train, valid = series[0], []
    tested: list[One] = []
    if test is None:
        train, tested = _hold_out(train, data)
    else:
        tested = series[1]
    train, valid = _hold_out(train, data)
    parts: dict[Split, list[One]] = {"train": train, "valid": valid, "test": tested}
    return pack(parts, form or form_of(parts, frame, samples), tuple(map(len, series)))


@lru_cache(maxsize=2)
def _load_new(data: Path, form: Form) -> Loaded:
    """Read a file that the run was not trained on: all of it is a test split."""
    return pack({"train": [], "valid": [], "test": read_series(data)}, form)


def _test_beside(data: Path) -> Path | None:
    """NAME_TEST beside NAME_TRAIN, if there is one."""
    if not _TRAIN.search(data.name):
        return None
    beside = data.with_name(_TRAIN.sub("_TEST", data.name))
    return beside if beside.exists() else None


def _named(name: str, path: Path) -> dict[str, Path]:
    """A file under a name, or the WAV files of a folder, each under that name and its own."""
    if not path.is_dir():
        return {name: path}
    return {f"{name}/{each.relative_to(path).as_posix()}": each for each in sorted(path.rglob("*.wav"))}


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
    return by_number(text)[0] < float("inf")


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
