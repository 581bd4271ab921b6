"""Rows of the tables of results/ and of README.md, and the JSON files beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.places import RESULTS

PAGES = sorted(RESULTS.glob("*/README.md"))


@cache
def rows(page: Path) -> list[tuple[str, str]]:
    """The rows of the tables of a page, each with the heading row of its table."""
    found: list[tuple[str, str]] = []
    head = ""
    for line in page.read_text(encoding="utf-8").replace("**", "").splitlines():
        head = (head or line) if line.startswith("|") else ""
        found += [(line, head)] if head else []
    return found


@cache
def read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)


def files(runs: str, name: str) -> list[Any]:
    found = [read(path) for path in sorted(RESULTS.glob(f"{runs}/{name}"))]
    assert found, runs
    return found


def numbers(row: str) -> list[str]:
    """The numbers in a row as they are shown, but for those of its first cell."""
    return re.findall(r"(?<![\w.-])-?\d+(?:,\d{3})*(?:\.\d+)?", row.split("|", 2)[2])


def same(text: str, value: float) -> bool:
    return abs(float(text.replace(",", "")) - value) <= 0.5 * 10 ** -len(text.partition(".")[2]) + 1e-9


def has(row: str, values: Sequence[float]) -> bool:
    """Whether the figures stand in the row side by side, each rounded to as many places as are shown."""
    texts = numbers(row)
    return any(all(map(same, texts[at:], values)) for at in range(len(texts) - len(values) + 1))


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]
