"""What was read: the form of the files, the columns and their use, the time range, and what was noticed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePath
from typing import Any, Literal

Role = Literal["input and target", "target", "known input", "time", "ignored"]
SHOWN = 12
"""Columns and files that are listed one by one on the terminal; the record has all."""
SPOKEN = {",": "comma", ";": "semicolon", ".": "point", "|": "bar"}
"""Signs that would read as punctuation of the sentence they stand in."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: as the header has it, without blanks around it.
        kind: "number", "text", "timestamp", "empty", or the type in a Parquet file.
        role: what it is used for.
        reason: why it is ignored; "" if it is used.
        missing: number of rows without a value.
        unit: of its values, if the file names it; else "".
    """

    name: str
    kind: str
    role: Role
    reason: str = ""
    missing: int = 0
    unit: str = ""


@dataclass(frozen=True)
class TimeRange:
    """The time column.

    Args:
        column: its name.
        first, last: its values in the first and the last row.
        step: the usual interval of two rows, such as "15 min" or "1 month".
        gaps: number of places where the distance is larger.
        largest_gap: the largest distance, "" if there is no gap.
        irregular: number of places where the distance is smaller.
    """

    column: str
    first: str
    last: str
    step: str
    gaps: int
    largest_gap: str
    irregular: int

    def line(self) -> str:
        """One line for the terminal."""
        if self.first == self.last:  # of a single row, which is at no distance
            return f"time: {told_name(self.column)}, {self.first}"
        steps = f"every {self.step.removeprefix('1 ') if self.step in ('1 month', '1 year') else self.step}"
        several = f"{self.gaps:,} gaps, the largest {self.largest_gap}"
        gaps = several if self.gaps > 1 else f"1 gap of {self.largest_gap}" if self.gaps else "no gaps"
        shorter = f", {self.irregular:,} shorter distances" if self.irregular else ""
        return f"time: {told_name(self.column)}, {self.first} to {self.last}, {steps}, {gaps}{shorter}"


@dataclass(frozen=True)
class FileSteps:
    """One file that was read, and its number of steps."""

    path: str
    steps: int


@dataclass(frozen=True)
class Reading:
    """What was read of one file or several files of the same form.

    Args:
        files: with the number of steps of each; a labelled series counts as one step.
        format: "csv", "parquet", "audio", "bytes", ".ts", ...
        unit: the name of a step.
        settings: how the files were read, by name: separator, header, encoding, sample rate, ...
        columns: of a table.
        times: the time range of each file, if a time column is named.
        notes: what a reader should know, one sentence each.
    """

    files: tuple[FileSteps, ...]
    format: str
    unit: str
    settings: tuple[tuple[str, str], ...] = ()
    columns: tuple[Column, ...] = ()
    times: tuple[TimeRange, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Steps of all files."""
        return sum(file.steps for file in self.files)

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "settings": dict(self.settings), "steps": self.steps}

    @staticmethod
    def load(record: Mapping[str, Any]) -> Reading:
        """The reading that `record` wrote.

        Raises:
            KeyError, TypeError: the values are not those of a reading.
        """
        return Reading(
            tuple(FileSteps(**each) for each in record["files"]),
            record["format"],
            record["unit"],
            tuple((str(name), str(value)) for name, value in record["settings"].items()),
            tuple(Column(**each) for each in record["columns"]),
            tuple(TimeRange(**each) for each in record["times"]),
            tuple(map(str, record["notes"])),
        )

    def without_places(self) -> Reading:
        """The same, with the names of the files alone, so that nothing tells where they lie."""
        return replace(self, files=tuple(FileSteps(PurePath(file.path).name, file.steps) for file in self.files))

    def lines(self) -> list[str]:
        """For the terminal, a few lines however many columns and files there are."""
        first = self.files[0].path if self.files else "no file"
        more = f" and {len(self.files) - 1} more file{'s' * (len(self.files) > 2)}" if len(self.files) > 1 else ""
        settings = "".join(f", {name} {SPOKEN.get(value, value)}" for name, value in self.settings)
        found = [f"data: {first}{more}: {self.steps:,} {self.unit}{'s' * (self.steps != 1)}, {self.format}{settings}"]
        used = [column for column in self.columns if column.role != "ignored"]
        ignored = [column for column in self.columns if column.role == "ignored"]
        if used:
            found.append(f"columns: {_listed([_used(column) for column in used])}")
        if ignored:
            found.append(f"ignored: {_listed([f'{told_name(column.name)} ({column.reason})' for column in ignored])}")
        found += [time.line() for time in self.times[:1]]
        return [*found, *(f"note: {note}" for note in self.notes[:SHOWN])]


def together(readings: Sequence[Reading], notes: Sequence[str] = ()) -> Reading:
    """The reading of several files of the same form."""
    first = readings[0]
    columns = tuple(
        replace(column, missing=sum(_missing(reading, column.name) for reading in readings))
        for column in first.columns
    )
    return replace(
        first,
        files=tuple(file for reading in readings for file in reading.files),
        columns=columns,
        times=tuple(time for reading in readings for time in reading.times),
        notes=tuple(dict.fromkeys([*(note for reading in readings for note in reading.notes), *notes])),
    )


def _missing(reading: Reading, name: str) -> int:
    return sum(column.missing for column in reading.columns if column.name == name)


def _used(column: Column) -> str:
    facts = [column.unit, "" if column.role == "input and target" else column.role]
    facts.append(f"{column.missing:,} missing" if column.missing else "")
    said = ", ".join(fact for fact in facts if fact)
    return f"{told_name(column.name)} ({said})" if said else told_name(column.name)


def told_name(name: str) -> str:
    """A name in a list of names: in quotes if it holds what separates them, or a line end."""
    return repr(name) if "," in name or len(name.splitlines()) > 1 else name


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
