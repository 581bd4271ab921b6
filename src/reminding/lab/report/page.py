"""A report as one self-contained HTML page that opens from disk, without a network."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path

from reminding.disk.writing import write_text
from reminding.lab.report.sections import (
    Block,
    Chart,
    Lead,
    Lines,
    Picture,
    Section,
    figures_of,
    markdown,
    relative,
)
from reminding.lab.show.assets import asset, in_script, whole_page
from reminding.lab.show.charts import library
from reminding.lab.show.escaping import for_html, for_link
from reminding.lab.show.tables import Table, notes, table


def write_pages(title: str, sections: Sequence[Section], out: Path) -> list[Path]:
    """Write a report to a folder as index.html and report.md; returns them, and its pictures."""
    index, text = out / "index.html", out / "report.md"
    write_text(text, markdown(title, sections, out))
    write_text(index, page(title, sections, out))
    return [index, text, *figures_of(sections)]


def page(title: str, sections: Sequence[Section], out: Path) -> str:
    """The page, as HTML.

    Args:
        out: folder of the page, for links to explanations.
    """
    charts = any(isinstance(block, Chart) for section in sections for block in section.blocks)
    named = [section for section in sections if section.title]
    opening = [section for section in sections if not section.title]
    links = "".join(f'<li><a href="#{_id(each.title)}">{for_html(each.title)}</a></li>' for each in named)
    parts = {
        "%HEADING%": for_html(title),
        "%CONTENTS%": links,
        "%OPENING%": "\n".join(_section(section, out) for section in opening),
        "%SECTIONS%": "\n".join(_section(section, out) for section in named),
        "%LIBRARY%": library() if charts else "",
        "%SCRIPT%": '"use strict";\n' + asset("theme.js") + asset("report.js"),
    }
    return whole_page(f"reminding: {title}", ["tables.css", "report.css"], "report.html", parts)


def _id(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _section(section: Section, out: Path) -> str:
    blocks = "".join(_block(block, section, out) for block in section.blocks)
    if not section.title:
        return blocks
    return f'<section id="{_id(section.title)}"><h2>{for_html(section.title)}</h2>{blocks}</section>'


def _block(block: Block, section: Section, out: Path) -> str:
    if isinstance(block, Table):
        heading = f"<h3>{for_html(block.title)}</h3>" if block.title not in ("", section.title) else ""
        return heading + table(block)
    if isinstance(block, Lead):
        return "".join(f'<p class="lead">{for_html(line)}</p>' for line in block.lines)
    if isinstance(block, Lines):
        return _typed(block.lines) if block.typed and block.lines else notes(block.lines)
    return _chart(block) if isinstance(block, Chart) else _picture(block, out)


def _typed(lines: Sequence[str]) -> str:
    typed = "\n".join(map(for_html, lines))
    return f'<div class="typed"><button type="button" class="copy">Copy</button><pre>{typed}</pre></div>'


def _chart(chart: Chart) -> str:
    """The place of the chart, its data and its numbers; a PNG picture if JavaScript is off."""
    name = for_html(chart.title)
    return (
        f'<h3>{name}</h3><div class="chart" role="img" aria-label="{name}; the numbers are in a table below"></div>'
        f'<script type="application/json" class="plot">{in_script(chart.plot)}</script>'
        f'<noscript><img alt="{name}" src="{_embedded(chart.figure)}"></noscript>'
        f"{_numbers(chart)}"
    )


def _numbers(chart: Chart) -> str:
    return f"<details><summary>The numbers</summary>{table(chart.numbers)}</details>" if chart.numbers else ""


def _picture(picture: Picture, out: Path) -> str:
    name = for_html(picture.title)
    below = name
    if picture.link:
        below += f'. <a href="{for_link(relative(picture.link[0], out))}">{for_html(picture.link[1])}</a>'
    if picture.command:
        below += f". For details: <code>{for_html(picture.command)}</code>"
    return f'<figure><img alt="{name}" src="{_embedded(picture.figure)}"><figcaption>{below}</figcaption></figure>'


def _embedded(figure: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(figure.read_bytes()).decode()}"
