"""A table of texts, for the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table with notes for its reader."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """The table in Markdown, with its notes below."""
        cells = [self.columns, *self.rows]
        head, *lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in cells]
        lines = [head, "|" + "---|" * len(self.columns), *lines]
        return "\n".join([*lines, *(["", *(f"- {note}" for note in self.notes)] if self.notes else []), ""])
