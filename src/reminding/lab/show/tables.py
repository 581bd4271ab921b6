"""A table of texts, whatever it is shown in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table, and what to know when reading it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """The table in Markdown, and its notes below."""
        cells = [self.columns, *self.rows]
        head, *lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in cells]
        lines = [head, "|" + "---|" * len(self.columns), *lines]
        return "\n".join([*lines, *(["", *(f"- {note}" for note in self.notes)] if self.notes else []), ""])
