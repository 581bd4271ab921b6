"""A table of texts, for the terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reminding.lab.show.escaping import for_markdown


@dataclass(frozen=True)
class Table:
    """A table with notes for its reader."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """The table in Markdown, with its notes below."""
        head, *lines = [f"| {' | '.join(map(for_markdown, row))} |" for row in (self.columns, *self.rows)]
        lines = [head, "|" + "---|" * len(self.columns), *lines]
        return "\n".join(
            [*lines, *(["", *(f"- {for_markdown(note)}" for note in self.notes)] if self.notes else []), ""]
        )
