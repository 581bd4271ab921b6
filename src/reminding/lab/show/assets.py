"""HTML pages, put together from the style sheets, scripts and templates in `pages`."""

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
    """A self-contained page.

    Args:
        title: for the browser, not yet escaped.
        styles: names of style sheets, in addition to the one that all pages share.
        template: name of the template of the body.
        parts: mark in the template, such as "%CONTENT%" -> the HTML or script that replaces it.
    """
    style = "\n".join(asset(name) for name in ("base.css", *styles))
    body = _filled(asset(template), parts)
    return _filled(asset("page.html"), {"%TITLE%": html.escape(title), "%STYLE%": style, "%BODY%": body})


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """Replace the marks in one pass, so that text in a part is never taken for a mark."""
    return _MARK.sub(lambda mark: parts[mark[0]], template)


def in_script(text: str) -> str:
    """JSON for a script element, without "<", which could end the element."""
    return text.replace("<", "\\u003c")
