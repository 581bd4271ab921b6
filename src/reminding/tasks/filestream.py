"""Files read as unbroken streams: predict the next byte, audio sample or table row.

Shapes: N steps of the files, B batch (rows, one stream each), T steps of a chunk, I values of a step, C columns or
classes that are predicted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from reminding.checks import at_least, at_least_or_none, one_of
from reminding.tasks.data.audio import AudioSource, FollowedAudio
from reminding.tasks.data.reading import Reading
from reminding.tasks.data.sources import Source
from reminding.tasks.data.tables import Asked, TableSource, Wanted
from reminding.tasks.data.tables.header import Header
from reminding.tasks.data.tables.store import MISSING, Missing
from reminding.tasks.files.described import DescribedStream
from reminding.tasks.files.known import Known
from reminding.tasks.files.measured import Measured, constant_notes, far_away
from reminding.tasks.files.sets import FileSet, Format, format_of, list_files, named_files, open_files
from reminding.tasks.kinds.base import DERIVED, Batch, EvalSplit, Split
from reminding.tasks.kinds.facts import DATA
from reminding.tasks.kinds.nextstep import Row
from reminding.tasks.kinds.tallies import season_of

POLL_SECONDS = 0.2
"""Seconds between two checks of a file that is still being written."""
PIECE = 1 << 20
"""Values that are scaled or checked together."""
SEASON_ROWS = 20_000
"""Rows in which a season is looked for."""


@dataclass(frozen=True)
class FileStream(DescribedStream):
    """Predict the next step of files, each read from beginning to end as an unbroken stream.

    Each file is cut into a training part, a validation part and a test part, in this order, unless valid and test
    are given. The B rows of a batch read the training parts in parallel, in chunks of `chunk` steps. State is carried
    from chunk to chunk; a row begins anew with each file, and after a pass. No file is ever in memory as a whole.

    Bytes and audio are tokens, (T, B) int64, with a target of the same shape; the metric is the mean number of bits
    per token. Columns are real values, (T, B, I), scaled to mean 0 and deviation 1 over the training rows; the
    target, (T, B, C), is NaN where it is missing. The metric is the mean squared error on that scale. Split, scale,
    columns and masks are those of the files at the start of a run.

    With `follow` the file may still be growing: a single row follows the writer and waits for more. Such a file has
    no end, so that its first steps are held out.

    Args:
        data: the file, or a pattern such as logs/[0-9].csv of several, each a stream of its own.
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
        window: number of rows, from the first, that set the scale of a table's columns: training rows, or held-out
            rows with `follow`; None: all of them.
        follow: whether the file is still being written.
        size: required size of data, bytes; None: any. Runs of version 0.1 recorded it.

    Raises:
        ValueError: an option is out of range or, once asked for, a file is too short or cannot be read; it is named.
        FileNotFoundError: there is no such file, once it is asked for.
    """

    name: ClassVar[str] = "stream"
    lengthens: ClassVar[str] = "--held-out"

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
        """Check the options. The files are opened when something of them is first asked for."""
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
        Asked(self.separator, self.decimal, self.header, self.encoding, self.na)  # which checks them
        if self.follow and (self.valid or self.test):
            raise ValueError("follow reads a single file, and holds out its first steps; leave out valid and test")

    def unread(self) -> dict[str, str]:
        """Return `held_out` if both held-out parts are files of their own; see `Task.unread`."""
        return {"held_out": "is for parts of data; valid and test are files"} if self.valid and self.test else {}

    def _files(self) -> dict[Split, list[Path]]:
        """The files of each part; of new data all are for the test."""
        if self.new_data:
            return {"test": list_files(self.test or self.data)}
        files: dict[Split, list[Path]] = {"train": list_files(self.data)}
        if self.follow and len(files["train"]) > 1:
            raise ValueError("follow reads a single file, and the pattern of data matches several")
        if self.valid is not None:
            files["valid"] = list_files(self.valid, "valid")
        if self.test is not None:
            files["test"] = list_files(self.test, "test")
        return files

    def files(self) -> dict[str, Path]:
        """All files; of a pattern each by its place below the folder that the pattern names."""
        places = {"data": self.data, "valid": self.valid, "test": self.test}
        return {
            key: path for name, place in places.items() if place for key, path in named_files(name, place).items()
        }

    @property
    def _follows(self) -> bool:
        """Whether the files are still being written; new data of a run are complete."""
        return self.follow and not self.new_data

    def _wanted(self) -> Wanted:
        """What is read of a table: what the options say or, of a run, what it was begun with."""
        asked = Asked(self.separator, self.decimal, self.header, self.encoding, self.na)
        wanted = Wanted(self.columns, self.target, self.time, self.missing, None, asked)
        if self._facts is None:
            return wanted
        self.known.check_columns(self.columns, self.target)
        return self._as_in_training(wanted)

    def _as_in_training(self, wanted: Wanted) -> Wanted:
        """What is read of another table: the training data's columns and masks, by their decimal mark and dates."""
        known = self.known
        asked = replace(wanted.asked, usual=known.decimal, fixed=True)
        return replace(wanted, columns=known.columns, masks=known.masks, asked=asked, known=True, timing=known.timing)

    @cached_property
    def opened(self) -> FileSet:
        """All files, opened: data, then any valid and test. ValueError: `size` differs, or a file cannot be read."""
        files = self._files()
        if self.size is not None and not self.new_data:
            found = sum(path.stat().st_size for path in files["train"])
            if found != self.size:
                raise ValueError(f"size: {self.data} has {found} bytes, expected {self.size}; None accepts any size")
        paths = [path for part in files.values() for path in part]
        if self._facts is None:
            return open_files(paths, self.format, self._wanted(), self.follow)
        kind = format_of(paths, self.format, self.known.format)
        opened = open_files(paths, kind, self._wanted(), self._follows, self._begun(files))
        self.known.check_rate(opened.first)
        return opened

    def _begun(self, files: Mapping[Split, Sequence[Path]]) -> list[int | None]:
        """The rows that each table had when the run began, since it may have grown; None: unknown."""
        facts: Mapping[str, Any] = {} if self._facts is None or self.missing == "drop" else self._facts
        known: Mapping[str, list[int]] = facts.get(DATA, {}).get("steps", {})
        steps = [known.get(split) for split in files]
        return [
            count
            for paths, counts in zip(files.values(), steps, strict=True)
            for count in (counts if counts is not None and len(counts) == len(paths) else [None] * len(paths))
        ]

    def open(self, path: Path, columns: Sequence[str] | None = None) -> Source:
        """Open another file, which is read as the data are.

        Args:
            columns: to read of a table, which then needs neither the targets nor a time, whose column is read if it
                is there; None: those of the data.
        """
        known = self.known
        wanted = self._as_in_training(self._wanted())
        if columns is not None:
            masks = tuple(name for name in known.masks if name in columns)
            missing = "error" if self.missing == "drop" else self.missing
            wanted = replace(wanted, columns=tuple(columns), target=(), time=None, masks=masks, missing=missing)
        source = open_files([path], format_of([path], self.format, known.format), wanted, follow=False).first
        if columns is not None and isinstance(source, TableSource):
            source = source.timed(self.time)
        known.check_rate(source)
        return source

    def learn(self) -> dict[str, Any]:
        """Read the kind of the files, the statistics of their columns, and what else was read of them."""
        facts = self.known.to_facts()
        if self.vocabulary is None:
            facts |= {**self.measured.to_facts(), "season": self._season()}
        return {**facts, DATA: {**self._steps(), "reading": self.opened.reading([]).without_places().record()}}

    def _steps(self) -> dict[str, Any]:
        """The number of steps of each file, by part; {} for a file that may grow."""
        if self.follow:
            return {}
        sources = iter(self.opened.sources)
        return {"steps": {split: [next(sources).steps() for _ in paths] for split, paths in self._files().items()}}

    def _season(self) -> int | None:
        """The season of the targets in the first training rows of the longest file."""
        longest = max(self._known_rows(), key=len)
        first = next(self._values([longest], self.window), np.zeros((0, len(self.input_names))))
        columns = [self.column_names.index(name) for name in self.targets]
        return season_of(self.prepared(first[:SEASON_ROWS])[:, columns])

    def with_facts(self, facts: Mapping[str, Any]) -> Self:
        """See `Informed.with_facts`. Files that are open are not opened again if the facts were learned from them."""
        informed = super().with_facts(facts)
        if "opened" in vars(self) and facts == (self._learned if self._facts is None else self._facts):
            vars(informed)["opened"] = self.opened
        return informed

    def facts(self) -> dict[str, Any]:
        """See `Informed.facts`. The files are read for them once."""
        return dict(self._learned) if self._facts is None else super().facts()

    @cached_property
    def _learned(self) -> dict[str, Any]:
        return self.learn()

    @cached_property
    def known(self) -> Known:
        """The kind of the files, and the columns: of a run those that it was begun with."""
        if self._facts is not None:
            return Known.of_facts(self._facts)
        timing = self.opened.timing(len(self._files()["train"]))
        return Known.of_source(self.source, self.target, self.opened.decimal, timing)

    @property
    def source(self) -> Source:
        """The first file, which says how all are read."""
        return self.opened.first

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
        if self.new_data:
            return self.opened.ranges()
        if self.follow:
            return [self._part(split)]
        ranges = iter(self.opened.ranges())
        steps: Mapping[str, list[int]] = {} if self._facts is None else self._facts[DATA]["steps"]
        own: dict[Split, list[range]] = {}
        for name, paths in self._files().items():
            found = [next(ranges) for _ in paths]
            begun = steps.get(name, [len(each) for each in found])  # a file may have grown since
            own[name] = [each[:count] for each, count in zip(found, begun, strict=True)]
        if split != "train" and split in own:
            return own[split]
        held: list[Split] = [part for part in ("valid", "test") if part not in own]
        return [self._cut(file, split, held) for file in own["train"]]

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

    def times(self, start: int, stop: int) -> NDArray[Any] | None:
        """The time column of rows of one file, counted over all files, (n,); None without `time`."""
        return self.opened.times(start, stop)

    def numbers(self, start: int, stop: int) -> NDArray[np.int64]:
        """The numbers, in their file, of steps of one file, counted over all files, (n,): from 0."""
        return self.opened.numbers(start, stop)

    @cached_property
    def measured(self) -> Measured:
        """See `DescribedStream.measured`."""
        if self._facts is not None:
            return Measured.of_facts(self._facts)
        names = self.column_names
        rows = (rows[:, : len(names)] for rows in self._values(self._known_rows(), self.window))
        return Measured.of_rows(rows, names, self._where)

    def _known_rows(self) -> list[range]:
        """The rows that set the scale: those of training or, of a file that may grow, the held-out ones."""
        return [self._first(range(2 * int(self.held_out)))] if self.follow else self._pieces("train")

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

    def reading(self) -> Reading:
        """What was read. The held-out parts are looked at, so that a fault in them ends a run before it begins.

        Raises:
            ValueError: a held-out part is too short, or audio in it is damaged.
        """
        for split in () if self._follows else ("valid", "test"):
            self._check(split)
        return self.opened.reading([] if self.vocabulary is not None or self._follows else self._notes())

    def _notes(self) -> list[str]:
        """What is peculiar about the values of a table: constant columns, and columns that drift."""
        names, scale = self.input_names, self.scale
        if self.new_data:
            return [*constant_notes(names, scale, []), *self.unlike(self._values(self._pieces("test")))]
        notes = constant_notes(names, scale, self._values(self._pieces("train")))
        for split in ("valid", "test"):
            notes += [
                f"{names[i]} drifts: its mean in the {split} rows is {far} from that in the training rows, and "
                "may outweigh all others unless its change is predicted (--residual); or leave it out"
                for i, far in far_away(scale, self._values(self._pieces(split))).items()
            ]
        return notes
