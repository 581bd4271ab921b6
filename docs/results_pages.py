"""Pages of results, generated from the READMEs and reports beside the data, so that they cannot drift apart."""

from __future__ import annotations

import re
from pathlib import Path

from docs.figures.svg import write_if_changed

LINK = re.compile(r"(!?\[[^\]]*\])\(([^)#\s]+)\)")
SHOWN = {".md", ".png", ".json", ".jsonl"}


def write(out: Path, root: Path) -> None:
    """Copy results/ and benchmarks/README.md to a folder of the documentation's sources.

    Every README.md and report.md becomes a page and lists those below it; files they link to lie beside them, and a
    folder they link to becomes a page that lists its files.
    """
    results = root / "results"
    wanted = {path: out / path.relative_to(root) for path in sorted(results.rglob("*")) if path.suffix in SHOWN}
    wanted[root / "benchmarks" / "README.md"] = out / "benchmarks" / "README.md"
    written = {copy: _content(path, results) for path, copy in wanted.items()}
    for folder in _linked_folders(wanted):
        written[out / folder.relative_to(root) / "files.md"] = _listing(folder)
    for copy, content in written.items():
        write_if_changed(copy, content)
    for old in [path for kind in ("results", "benchmarks") for path in (out / kind).rglob("*") if path.is_file()]:
        if old not in written:
            old.unlink()


def _content(path: Path, results: Path) -> str | bytes:
    if path.suffix != ".md":
        return path.read_bytes()
    text = LINK.sub(lambda found: f"{found[1]}({_target(path, found[2])})", path.read_text(encoding="utf-8"))
    return text + _contents(path, results)


def _target(page: Path, link: str) -> str:
    """Where a link leads in the documentation: a folder's page in the place of the folder."""
    return f"{link.rstrip('/')}/files.md" if (page.parent / link).is_dir() else link


def _linked_folders(pages: dict[Path, Path]) -> set[Path]:
    return {
        (page.parent / link).resolve()
        for page in pages
        if page.suffix == ".md"
        for _, link in LINK.findall(page.read_text(encoding="utf-8"))
        if (page.parent / link).is_dir()
    }


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    files = "\n".join(f"- [{name}]({name})" for name in names)
    return f"---\norphan: true\n---\n# Files of {folder.parent.name}/{folder.name}\n\n{files}\n"


def _contents(page: Path, results: Path) -> str:
    """The pages directly below one of results."""
    if page.name != "README.md" or results not in page.parents:
        return ""
    below = [path for kind in ("README.md", "report.md") for path in sorted(page.parent.glob(f"*/{kind}"))]
    if not below:
        return ""
    names = "\n".join(path.relative_to(page.parent).as_posix().removesuffix(".md") for path in below)
    return f"\n```{{toctree}}\n:hidden:\n\n{names}\n```\n"
