"""The table of docs/howto/kiln.md: clay is loaded into a kiln, and its strength shows 280 to 320 rows later."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path

from reminding.disk.writing import write_text

MINUTES = 300_000
"""Rows, to the end of the charge that is in the kiln then."""


def table(folder: Path) -> Path:
    """The path of kiln.csv in a folder; it is made if it is not there. It is the same on every machine.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / "kiln" / "kiln.csv"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, _text())
    return path


def _text() -> str:
    """The rows, as the script on that page writes them."""
    draw, text, minute = random.Random(0), io.StringIO(), 0
    rows = csv.writer(text)
    rows.writerow(["minute", "temperature", "red", "grey", "white", "unload", "strength"])
    while minute < MINUTES:
        clay = draw.randrange(3)
        last = draw.randint(280, 320)
        for t in range(last + 1):
            loaded = [int(t == 0 and clay == kind) for kind in range(3)]
            strength = round(30 + 15 * clay + draw.gauss(0, 1), 2) if t == last else ""
            rows.writerow([minute, round(draw.gauss(900, 15), 1), *loaded, int(t == last - 1), strength])
            minute += 1
    return text.getvalue()
