"""Names and texts of a user, made safe for each medium: every character is shown, and none is an instruction.

Names of runs, columns, classes and files may hold anything that a file name or a cell may hold: control characters,
markup, formulas. Whatever is drawn or printed passes through the function of its medium.
"""

from __future__ import annotations

import html
import os
import re
import unicodedata
from pathlib import PurePath

LAYOUT = "\n\t"
"""Control characters that a terminal may get in running text."""
_UNSEEN = {"Cc", "Cs", "Zl", "Zp"}
"""Categories of Unicode without a glyph: control characters, halves of pairs, and separators of lines."""
_TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that change the direction of the text around them."""
_MARKDOWN = re.compile(r"[\\`*\[\]<>$]|(?<![^\W_])_|_(?![^\W_])")
MOST_LETTERS = 120
"""Letters of a user's text in the name of a file, which has at most 255."""
_LINK = re.compile(rb"[^A-Za-z0-9._~/-]")


def visible(text: str, keep: str = "") -> str:
    r"""Text with an escape such as \x1b in the place of each character that cannot be seen.

    Args:
        keep: characters that stay.
    """
    return "".join(letter if letter in keep else _seen(letter) for letter in text)


def _seen(letter: str) -> str:
    if letter.isascii() and letter.isprintable():
        return letter
    hidden = unicodedata.category(letter) in _UNSEEN or letter in _TURNING
    return letter.encode("unicode_escape").decode("ascii") if hidden else letter


def for_terminal(text: str, encoding: str | None = None) -> str:
    """Running text for a terminal: line ends and tabs stay.

    Args:
        encoding: of the terminal; characters that it lacks are escaped. None: it has all.
    """
    shown = visible(text, keep=LAYOUT)
    return shown.encode(encoding, "backslashreplace").decode(encoding) if encoding else shown


def for_figure(text: str) -> str:
    """Text for matplotlib: a dollar sign begins no formula, and no label is left out of a legend."""
    shown = visible(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def for_chart(text: str) -> str:
    """Text for plotly, which reads some HTML."""
    return html.escape(visible(text), quote=False)


def for_html(text: str) -> str:
    """Text for HTML, between tags or in a quoted attribute."""
    return html.escape(visible(text))


def for_markdown(text: str) -> str:
    """Text for one line of Markdown, or for one cell of a table."""
    shown = _MARKDOWN.sub(lambda sign: f"\\{sign[0]}", visible(text))
    return shown.replace("|", "&#124;")


def for_link(path: PurePath | str) -> str:
    """A relative path as an address in HTML or Markdown."""
    raw = os.fsencode(path.as_posix() if isinstance(path, PurePath) else path)
    return _LINK.sub(lambda byte: b"%%%02X" % byte[0][0], raw).decode("ascii")


def for_file_name(text: str) -> str:
    """Text as a part of a file name: letters, digits, points and dashes; of a long one the end, with its number."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[-MOST_LETTERS:].strip("-.") or "unnamed"
