"""A few shapes of hand-written SVG. Colours are the page's own, so that a picture fits light and dark.

Lengths are units of the view box; y grows downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

INK, FAINT = "currentColor", "var(--color-foreground-border)"
RECALL, CREDIT = "var(--picture-recall)", "var(--picture-credit)"
PAPER = "var(--color-background-primary)"
ON_WHITE = {INK: "#1a1a1a", FAINT: "#b0b0b0", RECALL: "#0072b2", CREDIT: "#d55e00", PAPER: "#ffffff"}
"""Colours of a picture that is shown outside the documentation."""
UNIT = 0.075
"""The length of a unit of a picture, in rem, where the page is wide enough."""


@dataclass
class Picture:
    """A drawing of a given size; a screen reader reads out `about`."""

    name: str
    width: float
    height: float
    about: str
    parts: list[str] = field(default_factory=list[str])

    def line(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        colour: str = INK,
        *,
        wide: float = 1.5,
        dash: str = "",
        arrow: bool = False,
    ) -> None:
        """A straight line, with a head at its end if it is an arrow."""
        self._path(f"M{x1:.1f} {y1:.1f} L{x2:.1f} {y2:.1f}", colour, wide, dash, arrow)

    def arc(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        rise: float,
        colour: str,
        *,
        wide: float = 1.5,
        dash: str = "",
        arrow: bool = True,
    ) -> None:
        """A curve from one point to another that rises so far above the higher one."""
        top = min(y1, y2) - rise * 4 / 3
        self._path(
            f"M{x1:.1f} {y1:.1f} C{x1:.1f} {top:.1f} {x2:.1f} {top:.1f} {x2:.1f} {y2:.1f}", colour, wide, dash, arrow
        )

    def _path(self, d: str, colour: str, wide: float, dash: str, arrow: bool) -> None:
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        head = f' marker-end="url(#{self._marker(colour)})"' if arrow else ""
        self.parts.append(f'<path d="{d}" fill="none" stroke="{colour}" stroke-width="{wide}"{dashed}{head}/>')

    def box(
        self,
        x: float,
        y: float,
        size: float,
        text: str = "",
        colour: str = INK,
        *,
        full: bool = False,
        round_: float = 3,
    ) -> None:
        """A square around a point, with a short text in it."""
        fill = f'fill="{colour}" fill-opacity="0.25"' if full else f'fill="{PAPER}"'
        half = size / 2
        self.parts.append(
            f'<rect x="{x - half:.1f}" y="{y - half:.1f}" width="{size}" height="{size}" rx="{round_}" {fill} '
            f'stroke="{colour}" stroke-width="1.5"/>'
        )
        if text:
            self.text(x, y + 5, text)

    def panel(
        self, x: float, y: float, width: float, title: str, lines: Sequence[str] = (), colour: str = INK
    ) -> float:
        """A box that begins at (x, y), with a title and lines of text below it; returns the height of the box."""
        height = 24 + 16 * len(lines)
        fill = f'fill="{PAPER}"' if colour == INK else f'fill="{colour}" fill-opacity="0.12"'
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:g}" height="{height:g}" rx="4" {fill} '
            f'stroke="{colour}" stroke-width="1.3"/>'
        )
        self.text(x + 8, y + 17, title, anchor="start", size=13, bold=True)
        for number, line in enumerate(lines):
            self.text(x + 8, y + 34 + 16 * number, line, anchor="start", size=12)
        return height

    def text(
        self,
        x: float,
        y: float,
        text: str,
        colour: str = INK,
        *,
        anchor: str = "middle",
        size: float = 14,
        bold: bool = False,
    ) -> None:
        """A line of text."""
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{weight} fill="{colour}">'
            f"{escape(text)}</text>"
        )

    def _marker(self, colour: str) -> str:
        names = {INK: "ink", FAINT: "faint", RECALL: "recall", CREDIT: "credit"}
        return f"{self.name}-{names[colour]}"

    def svg(self) -> str:
        """All of it, as part of a page."""
        heads = "".join(
            f'<marker id="{self._marker(colour)}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="9" '
            f'markerHeight="9" markerUnits="userSpaceOnUse" orient="auto">'
            f'<path d="M0 0 L8 4 L0 8 z" fill="{colour}"/></marker>'
            for colour in (INK, FAINT, RECALL, CREDIT)
        )
        return (
            f'<svg class="picture" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" '
            f'role="img" aria-label="{escape(self.about)}" font-family="sans-serif" {self._on_a_page()}>'
            f"<defs>{heads}</defs>\n" + "\n".join(self.parts) + "\n</svg>\n"
        )

    def _on_a_page(self) -> str:
        """The size of the picture on a page: text is as large in a wide picture as in a narrow one."""
        return f'style="max-width: {self.width * UNIT:g}rem"'

    def standalone(self) -> str:
        """The same as a file of its own, on white, for pages that do not have the documentation's colours."""
        ground = f'<rect width="{self.width:g}" height="{self.height:g}" rx="8" fill="{PAPER}"/>\n'
        svg = self.svg().replace("</defs>\n", "</defs>\n" + ground, 1)
        size = f'width="{self.width * UNIT * 16:g}" height="{self.height * UNIT * 16:g}"'
        svg = svg.replace(self._on_a_page(), size, 1)
        for own, colour in ON_WHITE.items():
            svg = svg.replace(own, colour)
        return svg


def write_if_changed(path: Path, content: str | bytes) -> None:
    """Write a file, but leave one alone that has this content, so that Sphinx need not read it again."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_bytes() != data:
        path.write_bytes(data)
