"""Files as streams of steps, and whether a file changed while it was read. Files may be larger than memory.

Shapes: n steps, I values of a step.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from reminding.tasks.data.reading import FileSteps, Reading

MU = 255
"""Parameter of the mu-law: 256 levels, as in telephony (ITU-T G.711) and WaveNet."""
_WITNESS = 64
"""Bytes at the beginning and at the last known end of a growing file that must stay as they were."""


@dataclass(frozen=True)
class Identity:
    """What shows that a file is the one that was opened: its size, its time of change, and its place on the disk.

    Args:
        fixed: whether it cannot be followed: its form is none that grows, or the run was trained on other files.
    """

    size: int
    modified: int
    inode: int
    fixed: bool = field(default=False, compare=False)

    @staticmethod
    def of(path: Path, fixed: bool = False) -> Identity:
        """The identity that a file has now.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it cannot be read.
        """
        if not path.is_file():
            raise FileNotFoundError(f"data: {path} is not a file")
        if not os.access(path, os.R_OK):
            raise ValueError(f"data: {path} cannot be read: permission denied")
        found = path.stat()
        return Identity(found.st_size, found.st_mtime_ns, found.st_ino, fixed)

    def check(self, path: Path) -> None:
        """Raise a ValueError if the file was replaced, cut or written to."""
        if Identity.of(path) != self:
            follow = "" if self.fixed else ", or train on it with --follow if it is written at its end"
            raise ValueError(f"data: {path} changed while it was read; give a copy that stays as it is{follow}")


class Growth:
    """A file that may grow: it may only be written to at its end."""

    def __init__(self, path: Path) -> None:
        self._path, self._inode, self._size = path, Identity.of(path).inode, 0
        self._begin = self._end = b""

    def size(self) -> int:
        """The size, bytes.

        Raises:
            ValueError: the file was replaced or cut, or what was written before is not there any more.
        """
        found = Identity.of(self._path)
        with self._path.open("rb") as file:
            begin = file.read(len(self._begin))
            file.seek(max(self._size - len(self._end), 0))
            end = file.read(len(self._end))
            if found.inode != self._inode or found.size < self._size or (begin, end) != (self._begin, self._end):
                raise ValueError(
                    f"data: {self._path} was replaced, cut or written anew after {self._size} bytes of it were read; "
                    "a file that is read while it is written may only grow at its end"
                )
            if found.size > self._size:
                self._size = found.size
                file.seek(0)
                self._begin = file.read(_WITNESS)
                file.seek(max(self._size - _WITNESS, 0))
                self._end = file.read(_WITNESS)
                self._size = max(self._size - _WITNESS, 0) + len(self._end)
        return self._size

    def since(self, opened: Identity) -> bool:
        """Whether the file has grown since it was opened.

        Raises:
            ValueError: what was there has changed.
        """
        now = Identity.of(self._path)
        if now != opened and now.size <= opened.size:
            opened.check(self._path)
        return now != opened and self.size() > opened.size


class Source(ABC):
    """A file as a stream of steps.

    Args:
        path: of the file.
    """

    vocabulary: ClassVar[int | None]
    """The number of tokens; None: the steps are real values."""
    unit: ClassVar[str]
    """The name of a step."""

    def __init__(self, path: Path) -> None:
        Identity.of(path)
        self.path = path

    @property
    @abstractmethod
    def features(self) -> int:
        """I, values per step; for tokens, the size of the vocabulary."""

    @abstractmethod
    def steps(self) -> int:
        """The number of complete steps in the file."""

    @abstractmethod
    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Steps start to stop - 1: tokens (n,) uint8, or values (n, I) float64."""

    @abstractmethod
    def like(self, path: Path) -> Source:
        """Another file, read in the same way."""

    @abstractmethod
    def reading(self) -> Reading:
        """What was read."""


class BytesSource(Source):
    """Any file, one byte per step. Bytes that are added at its end while it is open are left out.

    Args:
        growing: whether they are steps, too; `steps` then looks at the file at every call.
    """

    vocabulary = 256
    unit = "byte"

    def __init__(self, path: Path, growing: bool = False) -> None:
        super().__init__(path)
        self._growth, self._growing = Growth(path), growing
        self._identity = Identity.of(path, fixed=True)
        self._size = self._growth.size()

    @property
    def features(self) -> int:
        """256."""
        return 256

    def steps(self) -> int:
        """The file's size, bytes."""
        return self._growth.size() if self._growing else self._size

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Bytes, (n,) uint8."""
        if not self._growing:
            self._growth.since(self._identity)
        return np.frombuffer(read_range(self.path, start, stop), np.uint8)

    def like(self, path: Path) -> BytesSource:
        """Another file, byte by byte."""
        return BytesSource(path)

    def reading(self) -> Reading:
        """What was read."""
        return Reading((FileSteps(str(self.path), self.steps()),), "bytes", self.unit)


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


def mu_law(samples: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Samples from -1 to 1 as one of 256 levels; silence is 128.   [ITU-T G.711, continuous form]"""
    clipped = np.clip(samples, -1, 1)
    squeezed = np.sign(clipped) * np.log1p(MU * np.abs(clipped)) / np.log1p(MU)
    return np.floor((squeezed + 1) / 2 * MU + 0.5).astype(np.uint8)
