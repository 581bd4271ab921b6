"""Files as streams of steps: bytes, and audio samples. Read in pieces, so that no file is too large.

Shapes: n steps, C channels or columns.
"""

from __future__ import annotations

import wave
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

MU = 255
"""Of the mu-law: 256 levels, as in telephony (ITU-T G.711) and WaveNet."""


class Source(ABC):
    """A file as a stream of steps.

    Args:
        path: of the file.
        growing: whether it is still being written; `steps` then looks again each time.
    """

    vocabulary: ClassVar[int | None]
    """How many tokens there are; None: the steps are real values."""
    unit: ClassVar[str]
    """What a step is."""

    def __init__(self, path: Path, growing: bool = False) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"data: {path} is not a file")
        self.path = path
        self.growing = growing

    @property
    @abstractmethod
    def features(self) -> int:
        """Values of a step; of tokens, the size of the vocabulary."""

    @abstractmethod
    def steps(self) -> int:
        """How many whole steps the file has."""

    @abstractmethod
    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Steps start to stop - 1: tokens (n,) uint8, or values (n, C) float64."""


class BytesSource(Source):
    """Any file, one byte a step."""

    vocabulary = 256
    unit = "byte"

    @property
    def features(self) -> int:
        """256."""
        return 256

    def steps(self) -> int:
        """The file's size, bytes."""
        return self.path.stat().st_size

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Bytes, (n,) uint8."""
        return np.frombuffer(read_range(self.path, start, stop), np.uint8)


class WavSource(Source):
    """A WAV file of integer PCM samples, its channels averaged, as mu-law levels: one sample a step.

    A mu-law level keeps the ratio between neighbouring loudnesses constant, so that 256 of them sound like 14
    bits; and a distribution over levels can be learned where the mean of the next sample says little.

    Raises:
        ValueError: it is no WAV file, or of a kind that is not integer PCM.
    """

    vocabulary = MU + 1
    unit = "sample"

    def __init__(self, path: Path, growing: bool = False) -> None:
        super().__init__(path, growing)
        with path.open("rb") as file:
            try:
                header = wave.Wave_read(file)
            except (wave.Error, EOFError) as error:
                raise ValueError(f"data: {path} cannot be read as WAV with integer PCM samples: {error}") from error
            self._begin = file.tell()  # reading the header ends where the samples begin
        self._channels, self._width = header.getnchannels(), header.getsampwidth()
        self._said = header.getnframes()

    @property
    def features(self) -> int:
        """256."""
        return MU + 1

    def steps(self) -> int:
        """Samples a channel. While it is being written, what is there, since the header does not know yet."""
        there = (self.path.stat().st_size - self._begin) // (self._channels * self._width)
        return there if self.growing else min(there, self._said)

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Levels, (n,) uint8."""
        frame = self._channels * self._width
        raw = read_range(self.path, self._begin + start * frame, self._begin + stop * frame)
        return mu_law(pcm(raw, self._width).reshape(-1, self._channels).mean(1))


def read_range(path: Path, start: int, stop: int) -> bytes:
    """Bytes start to stop - 1 of a file.

    Raises:
        ValueError: the file ends before; somebody has cut it.
    """
    with path.open("rb") as file:
        file.seek(start)
        raw = file.read(stop - start)
    if len(raw) < stop - start:
        raise ValueError(f"data: {path} ends at byte {start + len(raw)}, expected {stop} at least")
    return raw


def pcm(raw: bytes, width: int) -> NDArray[np.float64]:
    """Little-endian PCM samples as numbers from -1 to 1, (n,).

    Args:
        width: bytes a sample: 1 (unsigned, as WAV has it), 2, 3 or 4 (signed).
    """
    if width == 1:
        return np.frombuffer(raw, np.uint8) / 128.0 - 1.0
    # The sample's bytes become the upper ones of a 32-bit integer: one path for every width, signs included.
    wide = np.zeros((len(raw) // width, 4), np.uint8)
    wide[:, 4 - width :] = np.frombuffer(raw, np.uint8).reshape(-1, width)
    return wide.reshape(-1).view("<i4") / 2.0**31


def mu_law(samples: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Samples from -1 to 1 as one of 256 levels; silence is 128.   [ITU-T G.711, continuous form]"""
    squeezed = np.sign(samples) * np.log1p(MU * np.abs(samples)) / np.log1p(MU)
    return np.floor((squeezed + 1) / 2 * MU + 0.5).astype(np.uint8)
