"""Each name of PyTorch and NumPy that the package uses is one of those that their oldest versions are known to have.

CI has the newest versions alone; `make test-oldest` runs this test, and all others, with the oldest.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import reminding

LIBRARIES = ("numpy", "torch")
KNOWN = Path(__file__).with_name("oldest_names.txt")
"""Names that the versions in requirements-oldest.txt have; `make test-oldest` tells whether a new one is one."""


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What each import of the libraries binds: a name of the file, and the dotted name it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in LIBRARIES:
            yield from ((each.asname or each.name, f"{node.module}.{each.name}") for each in node.names)
        elif isinstance(node, ast.Import):
            for each in node.names:
                root = each.name.split(".")[0]
                if root in LIBRARIES:
                    yield (each.asname, each.name) if each.asname else (root, root)


def dotted(node: ast.Attribute, bound: dict[str, str]) -> str | None:
    """The dotted name of an attribute of a library, such as torch.nn.functional.linear."""
    parts: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute):
        parts.append(inner.attr)
        inner = inner.value
    if not isinstance(inner, ast.Name) or inner.id not in bound:
        return None
    return ".".join([bound[inner.id], *reversed(parts)])


def used() -> set[str]:
    """Every name of the libraries in the package's source."""
    names: set[str] = set()
    for path in Path(reminding.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        bound = dict(imported(tree))
        names |= set(bound.values())
        attributes = (dotted(node, bound) for node in ast.walk(tree) if isinstance(node, ast.Attribute))
        names |= {name for name in attributes if name is not None}
    return names


def exists(name: str) -> bool:
    """Whether the installed library has a dotted name: a module, or an attribute of one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_every_name_is_known_to_be_in_the_oldest_versions() -> None:
    known = set(KNOWN.read_text(encoding="utf-8").split())
    assert sorted(used() - known) == [], "see `KNOWN`: does the oldest version have them?"
    assert sorted(known - used()) == [], f"no longer used: take them out of {KNOWN.name}"


def test_every_name_is_in_the_installed_versions() -> None:
    assert [name for name in sorted(used()) if not exists(name)] == []


def test_a_name_that_no_version_has_is_found_out() -> None:
    tree = ast.parse("from torch.nn import functional as F\nimport numpy as np\nF.linear\nnp.nothing.at_all\nx.y")
    bound = dict(imported(tree))
    names = {dotted(node, bound) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert names == {"torch.nn.functional.linear", "numpy.nothing", "numpy.nothing.at_all", None}
    assert exists("torch.nn.functional.linear")
    assert not exists("numpy.nothing")
