"""Files as streams of steps: bytes and audio samples. Files are read in pieces, and may be larger than memory.

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
"""Parameter of the mu-law: 256 levels, as in telephony (ITU-T G.711) and WaveNet."""


class Source(ABC):
    """A file as a stream of steps.

    Args:
        path: of the file.
        growing: whether the file is still being written; `steps` then checks it at every call.
    """

    vocabulary: ClassVar[int | None]
    """The number of tokens; None: the steps are real values."""
    unit: ClassVar[str]
    """The name of a step."""

    def __init__(self, path: Path, growing: bool = False) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"data: {path} is not a file")
        self.path = path
        self.growing = growing

    @property
    @abstractmethod
    def features(self) -> int:
        """Values per step; for tokens, the size of the vocabulary."""

    @abstractmethod
    def steps(self) -> int:
        """The number of complete steps in the file."""

    @abstractmethod
    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Steps start to stop - 1: tokens (n,) uint8, or values (n, C) float64."""


class BytesSource(Source):
    """Any file, one byte per step."""

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
    """A WAV file of integer PCM samples as mu-law levels, one sample per step, channels averaged.

    Neighbouring mu-law levels have a constant ratio, so that 256 of them sound like 14 bits. A model predicts a
    distribution over levels, which says more than the mean of the next sample.

    Raises:
        ValueError: the file is not a WAV file of integer PCM.
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
            self._begin = file.tell()  # the samples begin where the header ends
        self._channels, self._width = header.getnchannels(), header.getsampwidth()
        self._declared = header.getnframes()

    @property
    def features(self) -> int:
        """256."""
        return MU + 1

    def steps(self) -> int:
        """Samples per channel. The header of a growing file is not final, so that its size counts instead."""
        available = (self.path.stat().st_size - self._begin) // (self._channels * self._width)
        return available if self.growing else min(available, self._declared)

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Levels, (n,) uint8."""
        frame = self._channels * self._width
        raw = read_range(self.path, self._begin + start * frame, self._begin + stop * frame)
        return mu_law(pcm(raw, self._width).reshape(-1, self._channels).mean(1))


def read_range(path: Path, start: int, stop: int) -> bytes:
    """Bytes start to stop - 1 of a file.

    Raises:
        ValueError: the file is shorter; it was truncated while being read.
    """
    with path.open("rb") as file:
        file.seek(start)
        raw = file.read(stop - start)
    if len(raw) < stop - start:
        raise ValueError(f"data: {path} ends at byte {start + len(raw)}, expected at least {stop}")
    return raw


def pcm(raw: bytes, width: int) -> NDArray[np.float64]:
    """Little-endian PCM samples as numbers from -1 to 1, (n,).

    Args:
        width: bytes per sample: 1 (unsigned, as in WAV), 2, 3 or 4 (signed).
    """
    if width == 1:
        return np.frombuffer(raw, np.uint8) / 128.0 - 1.0
    # The bytes of a sample become the upper bytes of a 32-bit integer, which handles every width and the sign.
    wide = np.zeros((len(raw) // width, 4), np.uint8)
    wide[:, 4 - width :] = np.frombuffer(raw, np.uint8).reshape(-1, width)
    return wide.reshape(-1).view("<i4") / 2.0**31


def mu_law(samples: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Samples from -1 to 1 as one of 256 levels; silence is 128.   [ITU-T G.711, continuous form]"""
    squeezed = np.sign(samples) * np.log1p(MU * np.abs(samples)) / np.log1p(MU)
    return np.floor((squeezed + 1) / 2 * MU + 0.5).astype(np.uint8)
