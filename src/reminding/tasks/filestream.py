"""Files read as unbroken streams: predict the next byte, audio sample or table row.

Shapes: N steps of the files, B batch (rows, one stream each), T steps of a chunk, I values of a step, C columns or
classes that are predicted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.tasks.data.audio import AudioSource, FollowedAudio
from reminding.tasks.data.reading import Reading
from reminding.tasks.data.scale import Scale, scale_of
from reminding.tasks.data.sources import Source
from reminding.tasks.data.tables import Asked, FollowedTable, TableSource, Wanted
from reminding.tasks.data.tables.columns import MISSING, Missing
from reminding.tasks.data.tables.dialect import Header
from reminding.tasks.filesets import FileSet, Format, list_files, open_files
from reminding.tasks.kinds.base import DERIVED, Batch, EvalSplit, Split
from reminding.tasks.kinds.checks import at_least, at_least_or_none, one_of
from reminding.tasks.kinds.nextstep import NextStep, Row

POLL_SECONDS = 0.2
"""Seconds between two checks of a file that is still being written."""
PIECE = 1 << 20
"""Values that are scaled or checked together."""
FAR = 10.0
"""Deviations from the training mean at which the mean of a held-out part is said to have drifted."""
MASK = " missing"
"""What is added to the name of a column to name its mask."""


@dataclass(frozen=True)
class FileStream(NextStep):
    """Predict the next step of files, each read from beginning to end as an unbroken stream.

    Each file is cut into a training part, a validation part and a test part, in this order, unless valid and test
    are given. The B rows of a batch read the training parts in parallel, in chunks of `chunk` steps. State is carried
    from chunk to chunk; a row begins anew with each file, and after a pass. No file is ever in memory as a whole.

    Bytes and audio are tokens, (T, B) int64, with a target of the same shape; the metric is the mean number of bits
    per token. Columns are real values, (T, B, I), scaled to mean 0 and deviation 1 over the training rows; the
    target, (T, B, C), is NaN where it is missing. The metric is the mean squared error on that scale.

    With `follow` the file may still be growing: a single row follows the writer and waits for more. Such a file has
    no end, so that its first steps are held out.

    Args:
        data: the file, or a pattern such as "logs/*.csv" of several, each a stream of its own.
        valid: the validation file or pattern; None: a part of data.
        test: the test file or pattern; None: a part of data.
        format: of the files; auto: by their suffix and, for .txt and .dat, by their content; bytes for an unknown
            suffix. wav stands for every audio file.
        columns: of a table; by default every column of numbers.
        target: columns to predict; the others are known inputs. By default all are predicted.
        time: the column of times. It is no input; its order is checked, and its gaps are said.
        missing: what a missing value becomes: error: it is refused; carry: the last value; zero: 0 on the scale;
            drop: its row is left out. With carry and zero the column has a mask as a further input, and a missing
            value is no target.
        na: further words or numbers that stand for a missing value, such as -999 and ?.
        separator: of cells; by default it is found. A blank is any white space.
        decimal: the decimal mark, a point or a comma; by default it is found.
        header: whether the first line holds names; auto: it is found.
        encoding: of a text table; by default it is found.
        chunk: steps per batch.
        held_out: size of the validation part of each file, and of the test part: a share, or a number of steps.
        eval_rows: number of parallel streams into which a held-out part is cut.
        window: number of rows, from the first, that set the scale of a table's columns: training rows or, with
            `follow`, held-out rows; None: all of them.
        follow: whether the file is still being written.
        size: required size of data, bytes; None: its present size. A run is thus not resumed on another file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an option is out of range, or a file is too short or cannot be read; the message says which.
    """

    name: ClassVar[str] = "stream"

    data: Path
    valid: Path | None = None
    test: Path | None = None
    format: Format = "auto"
    columns: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    time: str | None = None
    missing: Missing = "error"
    na: tuple[str, ...] = ()
    separator: str | None = None
    decimal: Literal[".", ","] | None = None
    header: Header = "auto"
    encoding: str | None = None
    chunk: int = 100
    held_out: float = 0.05
    eval_rows: int = 8
    window: int | None = None
    follow: bool = False
    size: int | None = field(default=None, metadata={DERIVED: True})

    def __post_init__(self) -> None:
        """Check the options, and that the files exist."""
        for name in ("chunk", "eval_rows"):
            at_least(name, getattr(self, name), 1)
        at_least_or_none("window", self.window, 1)
        one_of("missing", self.missing, MISSING)
        if not self.held_out > 0 or 0.5 <= self.held_out < 1:
            raise ValueError(f"held_out must be a share below 0.5 or a number of steps, got {self.held_out}")
        if self.follow and self.held_out < 1:
            raise ValueError(
                f"held_out must be a number of steps with follow, such as 10000, got {self.held_out}: a growing file "
                "has no length to take a share of"
            )
        for name in ("columns", "target", "na"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self._asked()
        files = self._files()
        if self.follow and (len(files["train"]) > 1 or self.valid or self.test):
            raise ValueError("follow reads a single file, and holds out its first steps; leave out valid and test")
        size = None if self.follow else sum(path.stat().st_size for path in files["train"])
        if self.size is not None and self.size != size:
            raise ValueError(f"size: {self.data} has {size} bytes, expected {self.size}; None accepts any size")
        object.__setattr__(self, "size", size)

    def _files(self) -> dict[Split, list[Path]]:
        files: dict[Split, list[Path]] = {"train": list_files(self.data)}
        if self.valid is not None:
            files["valid"] = list_files(self.valid, "valid")
        if self.test is not None:
            files["test"] = list_files(self.test, "test")
        return files

    def _asked(self) -> Asked:
        return Asked(self.separator, self.decimal, self.header, self.encoding, self.na)

    @cached_property
    def opened(self) -> FileSet:
        """All files, opened: data, then valid and test if they are given."""
        wanted = Wanted(self.columns, self.target, self.time, self.missing, None, self._asked())
        paths = [path for part in self._files().values() for path in part]
        return open_files(paths, self.format, wanted, self.follow)

    @property
    def source(self) -> Source:
        """The first file, which says how all are read."""
        return self.opened.first

    @property
    def vocabulary(self) -> int | None:
        """256 for bytes and audio, None for tables."""
        return self.source.vocabulary

    @property
    def input_size(self) -> int:
        """256 tokens, or I: the columns and the masks."""
        return self.source.features

    @property
    def output_size(self) -> int:
        """256 tokens, or C: the columns that are predicted."""
        return self.input_size if self.vocabulary is not None else len(self.targets)

    @property
    def unit(self) -> str:
        """The name of a step: "byte", "sample" or "row"."""
        return self.source.unit

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns that are read, in the order of the inputs; () for tokens."""
        source = self.source
        return source.columns if isinstance(source, TableSource | FollowedTable) else ()

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the I values of a step of a table: columns, then masks; () for tokens."""
        source = self.source
        if not isinstance(source, TableSource | FollowedTable):
            return ()
        return (*source.columns, *(f"{name}{MASK}" for name in source.masks))

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the C columns that are predicted, in the order of the file's columns; () for tokens."""
        return tuple(self.input_names[i] for i in self._target_places)

    @cached_property
    def _target_places(self) -> list[int]:
        """The places of what is predicted among the inputs."""
        source = self.source
        if not isinstance(source, TableSource | FollowedTable):
            return []
        wanted = {name.strip() for name in self.target}
        return [i for i, name in enumerate(source.columns) if not wanted or name.strip() in wanted]

    @property
    def _where(self) -> str:
        return str(self.data)

    def _part(self, split: Split) -> range:
        """The steps of a split of a single file that is followed; training has no end."""
        total, held = self.source.steps(), int(self.held_out)
        parts: dict[Split, range] = {
            "valid": range(held),
            "test": range(held, 2 * held),
            "train": range(2 * held, 2**62),
        }
        if split != "train" and total < 2 * held:
            raise ValueError(f"held_out: {self.data} has only {total} steps so far, expected at least {2 * held}")
        return parts[split]

    def _pieces(self, split: Split) -> list[range]:
        if self.follow:
            return [self._part(split)]
        ranges = self.opened.ranges()
        own: dict[Split, list[range]] = {}
        for name, paths in self._files().items():
            own[name], ranges = ranges[: len(paths)], ranges[len(paths) :]
        if split != "train" and split in own:
            return own[split]
        return [
            self._cut(file, split, [part for part in ("valid", "test") if part not in own]) for file in own["train"]
        ]

    def _cut(self, file: range, split: Split, held: Sequence[Split]) -> range:
        """The part of a file that belongs to a split; the parts in `held` are its last ones."""
        each = int(self.held_out * len(file)) if self.held_out < 1 else int(self.held_out)
        train = max(len(file) - each * len(held), 0)
        if split == "train":
            return file[:train]
        begin = train + each * held.index(split)
        return file[begin : begin + each]

    def _check(self, split: EvalSplit) -> None:
        """Find what would end a run at its end: a part that is too short, or audio that is damaged."""
        rows = self._rows(split, self.eval_rows)
        if isinstance(self.source, AudioSource) and not isinstance(self.source, FollowedAudio):
            for piece in (piece for row in rows for piece in row.pieces):
                for begin in range(piece.start, piece.stop, PIECE):
                    self.opened.read(begin, min(begin + PIECE, piece.stop))

    def _training(self, batch_size: int, start: int) -> Iterator[Batch]:
        if not self.follow:
            return super()._training(batch_size, start)
        if batch_size != 1:
            raise ValueError(f"batch_size must be 1 with follow, which reads a single stream, got {batch_size}")
        return self._following(start)

    def _following(self, start: int) -> Iterator[Batch]:
        """One row that follows the writer; batches have 0 steps while there is no data."""
        part = self._part("train")
        for number in count(start):
            end = part[(number + 1) * self.chunk]
            while self.source.steps() <= end:
                time.sleep(POLL_SECONDS)
                yield Batch(torch.zeros(0, 1), torch.zeros(0, 1))
            yield self._chunk([Row((part,), self.chunk)], number)

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        return self.prepared(self.opened.read(start, stop))

    def prepared(self, values: NDArray[Any]) -> NDArray[Any]:
        """Steps as the model reads them: tokens as they are, values (n, I) on the scale, 0 where one is missing."""
        if self.vocabulary is not None:
            return values
        return np.nan_to_num(self.scale.apply(values), nan=0.0)

    def target_of(self, values: NDArray[Any]) -> NDArray[Any]:
        """What is predicted of steps, (..., C), from what is read of them, (..., I): NaN where it is missing."""
        if self.vocabulary is not None:
            return values
        found = np.array(values[..., self._target_places])
        for i, name in enumerate(self.targets):
            if f"{name}{MASK}" in self.input_names:
                absent = values[..., self.input_names.index(f"{name}{MASK}")] > 0
                found[..., i] = np.where(absent, np.nan, found[..., i])
        return found

    def unchanged(self, input: Tensor) -> Tensor:
        """What predicts no change: the present values (T, B, C) of what is predicted, from the input (T, B, I)."""
        return input[..., self._target_places]

    @cached_property
    def scale(self) -> Scale:
        """Mean and deviation of each input, (I,), over the training rows; masks stay as they are."""
        names = self.input_names
        masks = [i for i, name in enumerate(names) if name.endswith(MASK) and name.removesuffix(MASK) in names]
        known = [self._first(range(2 * int(self.held_out)))] if self.follow else self._pieces("train")
        found = scale_of(self._values(known, self.window), len(names))
        mean, deviation = found.mean, found.deviation
        mean[masks], deviation[masks] = 0.0, 1.0
        return Scale(mean, deviation, tuple(i for i in found.constant if i not in masks))

    def _first(self, steps: range) -> range:
        """Those of the first steps that are there."""
        return steps[: self.source.steps()]

    def _values(self, pieces: Sequence[range], limit: int | None = None) -> Iterator[NDArray[Any]]:
        """Rows of some pieces, a few at a time, (n, I), as the file has them; at most `limit` rows in all."""
        left = sum(map(len, pieces)) if limit is None else limit
        each = max(1, PIECE // max(len(self.input_names), 1))
        for piece in pieces:
            piece = piece[:left]
            left -= len(piece)
            for begin in range(0, len(piece), each):
                part = piece[begin : begin + each]
                yield self.opened.read(part.start, part.stop)

    @property
    def target_scale(self) -> Scale:
        """The scale of what is predicted, (C,)."""
        return self.scale.of(self._target_places)

    def reading(self) -> Reading:
        """What was read. The held-out parts are looked at, so that a fault in them ends a run before it begins.

        Raises:
            ValueError: a held-out part is too short, or audio in it is damaged.
        """
        if not self.follow:
            for split in ("valid", "test"):
                self._check(split)
        return self.opened.reading([] if self.vocabulary is not None or self.follow else self._notes())

    def _notes(self) -> list[str]:
        """What is peculiar about the values of a table: constant columns, and columns that drift."""
        names, scale = self.input_names, self.scale
        notes = [
            f"{names[i]} is constant in the training rows; a change of it counts in its own units"
            for i in scale.constant
        ]
        for split in ("valid", "test"):
            held = scale_of(self._values(self._pieces(split)), len(names))
            away = np.abs(held.mean - scale.mean) / scale.deviation
            for i in np.flatnonzero(away > FAR):
                notes.append(
                    f"{names[i]} drifts: its mean in the {split} rows is {away[i]:,.0f} deviations from that in the "
                    "training rows, and its error may outweigh all others; predict its differences, or leave it out"
                )
        return notes
