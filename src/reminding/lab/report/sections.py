"""The parts of a report, for Markdown and for HTML."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from reminding.lab.show.escaping import for_link, for_markdown, visible
from reminding.lab.show.tables import Table


@dataclass(frozen=True)
class Chart:
    """A figure, also as an interactive chart, and its numbers.

    Args:
        figure: a PNG picture.
        plot: the chart, from `reminding.lab.show.charts`.
        numbers: the values shown; None if a table beside it has them.
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
        link: a page with details, and its name.
        command: the command that makes such a page, if there is none.
    """

    title: str
    figure: Path
    link: tuple[Path, str] | None = None
    command: str | None = None


@dataclass(frozen=True)
class Lines:
    """Lines of text: remarks or, if `typed`, commands."""

    lines: Sequence[str]
    typed: bool = False


@dataclass(frozen=True)
class Lead:
    """Sentences that stand first, in larger letters."""

    lines: Sequence[str]


Block = Table | Chart | Picture | Lines | Lead


@dataclass(frozen=True)
class Section:
    """A part of a report with its own heading."""

    title: str
    blocks: Sequence[Block]


def filled(block: Block) -> bool:
    """Whether there is anything in a block."""
    return bool(block.lines) if isinstance(block, Lines | Lead) else True


def tables_of(sections: Iterable[Section]) -> list[Table]:
    """The tables of all sections, without those behind charts."""
    return [block for section in sections for block in section.blocks if isinstance(block, Table)]


def figures_of(sections: Iterable[Section]) -> list[Path]:
    """The pictures of all sections."""
    return [block.figure for section in sections for block in section.blocks if isinstance(block, Chart | Picture)]


def relative(path: Path, out: Path) -> str:
    """A path relative to the report's folder, with forward slashes."""
    return Path(os.path.relpath(path, out)).as_posix()


def markdown(title: str, sections: Sequence[Section], out: Path) -> str:
    """A report in Markdown.

    Args:
        out: folder of the report.
    """
    lines = [f"# {for_markdown(title)}", ""]
    for section in sections:
        lines += [f"## {for_markdown(section.title)}", ""] if section.title else []
        for block in section.blocks:
            lines += _block(block, section, out)
    return "\n".join(lines)


def _block(block: Block, section: Section, out: Path) -> list[str]:
    if isinstance(block, Table):
        heading = [f"### {for_markdown(block.title)}", ""] if block.title and block.title != section.title else []
        return [*heading, block.markdown()]
    if isinstance(block, Lead):
        return [line for each in block.lines for line in (for_markdown(each), "")]
    if isinstance(block, Lines):
        return [*(f"    {visible(line)}" if block.typed else f"- {for_markdown(line)}" for line in block.lines), ""]
    lines = [f"![{for_markdown(block.title)}]({for_link(relative(block.figure, out))})", ""]
    if isinstance(block, Picture):
        if block.link:
            lines += [f"[{for_markdown(block.link[1])}]({for_link(relative(block.link[0], out))})", ""]
        if block.command:
            lines += ["For details:", "", f"    {visible(block.command)}", ""]
    return lines
