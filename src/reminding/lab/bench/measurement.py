"""What both benchmarks do with what they measured: a table for people, measured.json for programs, and report.md."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from reminding.disk.fields import plain
from reminding.disk.records import write_json
from reminding.disk.writing import discard, make_folder, write_text
from reminding.lab.bench.options import StepOptions
from reminding.lab.runs.machine import command_line, environment
from reminding.lab.show.tables import Table

FORMAT_VERSION = 1
RECORD_NAME = "measured.json"
PAGE_NAME = "report.md"
FIGURE_NAME = "growth.png"


@dataclass(frozen=True)
class Measurement(ABC):
    """Everything that one run of a benchmark measured.

    Args:
        options: of the run.
    """

    heading: ClassVar[str]
    """Of the page."""

    options: StepOptions

    @abstractmethod
    def setting(self) -> list[str]:
        """What all figures have in common, a line each."""

    @abstractmethod
    def tables(self) -> list[Table]:
        """The figures; their notes say what could not be measured, and why."""

    @abstractmethod
    def results(self) -> dict[str, Any]:
        """The entries of measured.json that the two benchmarks do not share."""

    def left_out(self) -> list[str]:
        """Why figures are missing, as far as the tables do not say it."""
        return []

    def draw(self, out: Path) -> list[Path]:
        """Draw figures to a folder; returns the files."""
        return []

    def record(self) -> dict[str, Any]:
        """The content of measured.json."""
        return {
            "format": FORMAT_VERSION,
            "command": command_line(),
            "options": plain(self.options),
            **self.results(),
            **environment(self.options.device),
        }

    def page(self, figures: Sequence[Path] = ()) -> str:
        """The setting, the tables, the figures and the command, in Markdown."""
        lines = [f"# {self.heading}", ""]
        for line in self.setting():
            lines += [line, ""]
        for table in self.tables():
            lines += [f"## {table.title}", "", table.markdown(), ""]
        if missing := self.left_out():
            lines += ["Not measured (-):", "", *(f"- {line}" for line in missing), ""]
        for figure in figures:
            lines += [f"![{figure.stem}]({figure.name})", ""]
        return "\n".join([*lines, f"    {command_line()}", ""])

    def prepare(self, out: Path) -> None:
        """Make the folder to write to: what is in its way is told before a measurement, which may take hours.

        Raises:
            CannotWriteError: it cannot be made.
        """
        make_folder(out)

    def write(self, out: Path) -> list[Path]:
        """Write measured.json, report.md and the figures to a folder, replacing old ones; returns the files."""
        self.prepare(out)
        record, page = out / RECORD_NAME, out / PAGE_NAME
        write_json(record, self.record())
        figures = self.draw(out)
        if out / FIGURE_NAME not in figures:
            discard(out / FIGURE_NAME)  # of an earlier run
        write_text(page, self.page(figures))
        return [record, page, *figures]


def shown(value: float | None, finest: int = 2) -> str:
    """A figure with three digits or more, "-" if there is none; below 0.1 it has `finest` decimal places."""
    if value is None:
        return "-"
    places = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 0.1 else finest
    return f"{value:,.{places}f}"
