"""What the pages are made of: the style sheets, scripts and templates of `pages`, filled in.

Shapes: none.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files

_MARK = re.compile("%[A-Z]+%")


def asset(name: str) -> str:
    """A file of `pages`, as text."""
    return (files("reminding.lab.show") / "pages" / name).read_text(encoding="utf-8")


def whole_page(title: str, styles: Sequence[str], template: str, parts: Mapping[str, str]) -> str:
    """A page that needs nothing beside it.

    Args:
        title: as the browser shows it, not yet escaped.
        styles: names of style sheets, after the one that all pages share.
        template: name of its body.
        parts: mark of the template, such as "%CONTENT%" -> HTML or script in its place.
    """
    style = "\n".join(asset(name) for name in ("base.css", *styles))
    body = _filled(asset(template), parts)
    return _filled(asset("page.html"), {"%TITLE%": html.escape(title), "%STYLE%": style, "%BODY%": body})


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """In one pass, so that nothing in a part is taken for a mark."""
    return _MARK.sub(lambda mark: parts[mark[0]], template)


def in_script(text: str) -> str:
    """JSON that may stand in a script element, which only a "<" could end."""
    return text.replace("<", "\\u003c")
