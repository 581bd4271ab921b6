"""The pages of the documentation, their code blocks, and the names on them that do not exist yet."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

ANNOUNCED: list[str] = []
"""Commands and Python names that the pages use but that do not exist yet. Once a name exists, a test fails until the
name is removed from here."""
EXPLAIN_OPTIONS = {"--input", "--sequence", "--at", "--out"}


@dataclass(frozen=True)
class Block:
    """A code block on a page: its language, its text, and the line of the page above it."""

    page: str
    kind: str
    text: str
    line: int

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def announced(self) -> bool:
        """Whether the block uses a name that does not exist yet."""
        return any(re.search(rf"\b{name}\b", self.text) for name in ANNOUNCED)


def blocks_of(path: Path) -> list[Block]:
    """The fenced blocks of a page, from top to bottom."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT).as_posix()
    return [
        Block(name, found[1], found[2], text.count("\n", 0, found.start(2)))
        for found in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


def indented_blocks(path: Path) -> list[Block]:
    """The commands of `reminding` in the indented lines of a page, one a block, with seed 0 for a seed S."""
    text = path.read_text(encoding="utf-8")
    found = re.finditer(r"^ {4,}(reminding (?:.*\\\n)*.*)$", text, re.MULTILINE)
    name = path.relative_to(ROOT).as_posix()
    return [
        Block(name, "sh", each[1].replace("--seed S", "--seed 0"), text.count("\n", 0, each.start()))
        for each in found
    ]


PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(path for path in DOCS.rglob("*.md") if not {"_build", "_generated"} & set(path.parts)),
]
BLOCKS = [block for path in PAGES for block in blocks_of(path)]
TYPED = [block for path in sorted((ROOT / "results").rglob("*.md")) for block in indented_blocks(path)]


def command_lines(block: Block) -> list[list[str]]:
    """The commands of a shell block, as words, without comments."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line and not line.startswith("#")]
