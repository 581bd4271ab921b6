"""HTML pages, put together from the style sheets, scripts and templates in `pages`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, cast

from reminding.lab.show.escaping import for_html, visible

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
    return _filled(asset("page.html"), {"%TITLE%": for_html(title), "%STYLE%": style, "%BODY%": body})


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """Replace the marks in one pass, so that text in a part is never taken for a mark."""
    return _MARK.sub(lambda mark: parts[mark[0]], template)


def in_script(text: str) -> str:
    """JSON for a script element, without "<", which could end the element."""
    return text.replace("<", "\\u003c")


def data(value: Any) -> str:
    """JSON values for a script element. Characters that cannot be seen are escaped in all texts.

    A number that is not finite becomes null: a browser reads no JSON with NaN in it.
    """
    return in_script(json.dumps(_seen(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False))


def _seen(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {name: _seen(each) for name, each in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_seen(each) for each in cast("Sequence[Any]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
