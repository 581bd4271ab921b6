"""What a report is made of, whatever it is written in.

Shapes: none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reminding.lab.show.tables import Table


@dataclass(frozen=True)
class Chart:
    """A figure, the same as a chart to be pointed at, and its numbers.

    Args:
        figure: a PNG picture.
        plot: of `reminding.lab.show.charts`.
        numbers: what it shows; None where a table beside it says the same.
    """

    title: str
    figure: Path
    plot: str
    numbers: Table | None = None


@dataclass(frozen=True)
class Picture:
    """A figure with a line below it.

    Args:
        figure: a PNG picture.
        link: a page that says more, and what it is called.
        command: what makes such a page, where there is none.
    """

    title: str
    figure: Path
    link: tuple[Path, str] | None = None
    command: str | None = None


@dataclass(frozen=True)
class Lines:
    """Text as it is typed or told: commands, or remarks."""

    lines: Sequence[str]
    typed: bool = False


Block = Table | Chart | Picture | Lines


@dataclass(frozen=True)
class Section:
    """A part of a report with a heading of its own."""

    title: str
    blocks: Sequence[Block]


def tables_of(sections: Iterable[Section]) -> list[Table]:
    """The tables of all sections, but for those behind charts."""
    return [block for section in sections for block in section.blocks if isinstance(block, Table)]


def figures_of(sections: Iterable[Section]) -> list[Path]:
    """The pictures of all sections."""
    return [block.figure for section in sections for block in section.blocks if isinstance(block, Chart | Picture)]


def relative(path: Path, out: Path) -> str:
    """A path as seen from the report's folder, with the slashes of an address."""
    return Path(os.path.relpath(path, out)).as_posix()


def markdown(title: str, sections: Sequence[Section], out: Path) -> str:
    """A report in Markdown.

    Args:
        out: folder that the text will lie in.
    """
    lines = [f"# {title}", ""]
    for section in sections:
        lines += [f"## {section.title}", ""] if section.title else []
        for block in section.blocks:
            lines += _block(block, section, out)
    return "\n".join(lines)


def _block(block: Block, section: Section, out: Path) -> list[str]:
    if isinstance(block, Table):
        heading = [f"### {block.title}", ""] if block.title and block.title != section.title else []
        return [*heading, block.markdown()]
    if isinstance(block, Lines):
        return [*(f"    {line}" if block.typed else f"- {line}" for line in block.lines), ""]
    lines = [f"![{block.title}]({relative(block.figure, out)})", ""]
    if isinstance(block, Picture):
        if block.link:
            lines += [f"[{block.link[1]}]({relative(block.link[0], out)})", ""]
        if block.command:
            lines += ["To look closer:", "", f"    {block.command}", ""]
    return lines
