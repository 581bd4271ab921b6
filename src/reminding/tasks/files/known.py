"""What a stream of files knows of them without opening them: their kind, and the columns of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from reminding.tasks.data.audio import AudioSource, check_rate
from reminding.tasks.data.sources import Source
from reminding.tasks.data.tables import FollowedTable, TableSource
from reminding.tasks.data.tables.clock import Timing
from reminding.tasks.data.times.interval import UNITS
from reminding.tasks.files.sets import Format
from reminding.tasks.kinds.facts import DATA

MASK = " missing"
"""What is added to the name of a column to name its mask."""
FORMATS: dict[str, Format] = {"bytes": "bytes", "audio": "wav", "table": "csv"}
"""The format that opens files of a kind; "csv" opens Parquet files too."""


@dataclass(frozen=True)
class Known:
    """The kind of some files, and the columns of a table in their order.

    Args:
        kind: how the files are read.
        unit: the name of a step.
        vocabulary: the number of tokens; None for a table.
        rate: samples of audio a second.
        columns: that are read.
        masks: those with a mask as a further input, which is 1 where the value is missing.
        targets: those that are predicted.
        decimal: the decimal mark, if an option or a file decided it; None: unknown, as of Parquet.
        timing: of the times of a table; None: it has none, or what is known of them was not kept.
    """

    kind: Literal["bytes", "audio", "table"]
    unit: str
    vocabulary: int | None
    rate: int | None = None
    columns: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    decimal: str | None = None
    timing: Timing | None = None

    @staticmethod
    def of_source(
        source: Source, target: Sequence[str], decimal: str | None = None, timing: Timing | None = None
    ) -> Known:
        """What an open file says.

        Args:
            decimal, timing: of all files.
            target: the columns to predict; (): all.
        """
        if isinstance(source, TableSource | FollowedTable):
            wanted = {name.strip() for name in target}
            targets = tuple(name for name in source.columns if not wanted or name.strip() in wanted)
            return Known("table", source.unit, None, None, source.columns, source.masks, targets, decimal, timing)
        if isinstance(source, AudioSource):
            return Known("audio", source.unit, source.vocabulary, source.form.rate)
        return Known("bytes", source.unit, source.vocabulary)

    @staticmethod
    def of_facts(facts: Mapping[str, Any]) -> Known:
        """What `to_facts` wrote."""
        columns, masks, targets = (tuple(map(str, facts.get(name, ()))) for name in ("columns", "masks", "targets"))
        kind, unit, vocabulary = (facts[name] for name in ("kind", "unit", "vocabulary"))
        settings = facts.get(DATA, {}).get("reading", {}).get("settings", {})  # of a run before "decimal" was kept
        decimal = facts.get("decimal", "," if settings.get("decimal mark") == "," else None)
        timing = Timing(**facts["timing"]) if facts.get("timing") else _told(facts)
        return Known(kind, unit, vocabulary, facts.get("rate"), columns, masks, targets, decimal, timing)

    def to_facts(self) -> dict[str, Any]:
        """As JSON values, without entries for other kinds of files."""
        found: dict[str, Any] = {"kind": self.kind, "unit": self.unit, "vocabulary": self.vocabulary}
        if self.kind == "audio":
            found["rate"] = self.rate
        if self.kind == "table":
            found |= {"columns": list(self.columns), "masks": list(self.masks), "targets": list(self.targets)}
            found |= {} if self.decimal is None else {"decimal": self.decimal}
        if self.timing is not None:
            found["timing"] = asdict(self.timing)
        return found

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the values of a step of a table: columns, then masks."""
        return (*self.columns, *(f"{name}{MASK}" for name in self.masks))

    @property
    def mask_places(self) -> dict[str, int]:
        """The place of each mask among the inputs, by its column. A real column may be called as a mask is."""
        return {name: len(self.columns) + i for i, name in enumerate(self.masks)}

    @property
    def target_places(self) -> list[int]:
        """The places of the targets among the inputs."""
        return [self.columns.index(name) for name in self.targets]

    @property
    def format(self) -> Format:
        """The format that opens other files of this kind."""
        return FORMATS[self.kind]

    def check_columns(self, columns: Sequence[str], target: Sequence[str]) -> None:
        """Refuse options that name other columns than those that are known.

        Raises:
            ValueError: names the option.
        """
        read = (*columns, *target) if columns else ()
        for option, given, known in (("columns", read, self.columns), ("target", target, self.targets)):
            if given and {name.strip() for name in given} != {name.strip() for name in known}:
                raise ValueError(
                    f"{option} must be those of the training data, {', '.join(known)}, got {', '.join(given)}"
                )

    def check_rate(self, source: Source) -> None:
        """Refuse audio of another sample rate."""
        if isinstance(source, AudioSource):
            check_rate(self.rate, source.path, source.form.rate)


def _told(facts: Mapping[str, Any]) -> Timing | None:
    """What the reading of the training data says of their times, in a run that kept no more of them."""
    times: Sequence[Mapping[str, str]] = facts.get(DATA, {}).get("reading", {}).get("times", ())
    if not times:
        return None
    number, _, unit = times[0]["step"].partition(" ")
    return Timing(dated=unit in UNITS, step=float(number) * UNITS.get(unit, 1))
