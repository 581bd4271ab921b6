"""What the pages are made of: the style sheets, scripts and templates beside this file, filled in.

Shapes: none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any


def asset(name: str) -> str:
    """A file of `pages`, as text."""
    return (files("reminding.lab") / "pages" / name).read_text(encoding="utf-8")


def filled(name: str, parts: Mapping[str, str]) -> str:
    """A template of `pages` with a text in the place of each mark such as "%TITLE%".

    In order, so that what comes from a user is best given last: nothing in it is taken for a mark then.
    """
    text = asset(name)
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text


def as_script(content: Any) -> str:
    """JSON that may stand in a script element, which only a "<" could end."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
