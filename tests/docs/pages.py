"""The pages of the documentation, their blocks of code, and the names they use that do not exist yet."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

ANNOUNCED: list[str] = []
"""Verbs of the command line, and names in Python, that the pages use and that are not there yet. To be emptied when
they are: a test fails until it is."""
EXPLAIN_OPTIONS = {"--input", "--sequence", "--at", "--out"}


@dataclass(frozen=True)
class Block:
    """Some code on a page: what it is written in, its text, and the line of the page above it."""

    page: str
    kind: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def announced(self) -> bool:
        """Whether it needs what is not there yet."""
        return any(re.search(rf"\b{name}\b", self.text) for name in ANNOUNCED)


def blocks_of(path: Path) -> list[Block]:
    """The fenced blocks of a page, from top to bottom."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT).as_posix()
    return [
        Block(name, found[1], found[2], text.count("\n", 0, found.start(2)))
        for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in DOCS.rglob("*.md") if not {"_build", "_generated"} & set(path.parts)),
]
BLOCKS = [block for path in PAGES for block in blocks_of(path)]


def command_lines(block: Block) -> list[list[str]]:
    """The commands of a shell block, as words, without comments."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line and not line.startswith("#")]
