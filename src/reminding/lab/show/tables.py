"""A table of texts, for the terminal, Markdown and HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reminding.lab.show.escaping import for_html, for_markdown

LONG = 40
"""A cell with more characters is broken into lines."""


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


def table(content: Table) -> str:
    """A table with its notes below, without its title. It scrolls by itself if it is wider than the page."""
    first = content.rows[0] if content.rows else [""] * len(content.columns)
    head = "".join(map(_heading, content.columns, first))
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in content.rows)
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f"{notes(content.notes)}"
    )


def notes(lines: Sequence[str]) -> str:
    """Remarks as a list; "" if there are none."""
    return f'<ul class="notes">{"".join(f"<li>{for_html(line)}</li>" for line in lines)}</ul>' if lines else ""


def _cell(text: str) -> str:
    return f"<td{_kind(text)}>{for_html(text)}</td>"


def _heading(column: str, first: str) -> str:
    return f'<th scope="col"{_kind(first)}>{for_html(column)}</th>'


def _kind(text: str) -> str:
    """The style of a cell: numbers are aligned right, words left, and long texts are broken into lines."""
    if re.match(r"[-\d]", text):
        return ""
    return ' class="words long"' if len(text) > LONG else ' class="words"'
