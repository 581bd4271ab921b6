"""Count the structure of the package: floors and arrows per room, files per room, longest functions and signatures.

    python benchmarks/structure.py [--package src/reminding] [--markdown]

A room is a folder of the package. Its parts are the files and folders directly in it. An arrow goes from one part to
another where any file of the first imports from the second, at the head of the file or inside a function. The floors
are the longest chain of arrows, in parts; parts that import each other in a circle count as one floor, and are named.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

Graph = dict[str, set[str]]
Definition = ast.FunctionDef | ast.AsyncFunctionDef


@dataclasses.dataclass(frozen=True)
class Room:
    """What was counted of one folder: floors, arrows, Python files directly in it, and circles of its parts."""

    name: str
    floors: int
    arrows: int
    files: int
    circles: tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Function:
    """A function by its place: lines below the docstring, and named parameters without self.

    Args:
        place: file, line and name, a method's behind its class: "reminding/nn/layer/sab.py:112 SAB.__init__".
        lines: from the first statement below the docstring to the last.
        parameters: named ones, without self or cls; `*args` and `**kwargs` have no number.
        kernel: whether Triton compiles it.
        operator: whether PyTorch registers it under a schema, or as the schema's shape function.
    """

    place: str
    lines: int
    parameters: int
    kernel: bool
    operator: bool


def module_of(path: Path, package: Path) -> str:
    """The dotted name of a file: "reminding.nn.sab"; a folder's `__init__` keeps its name."""
    return ".".join([package.name, *path.relative_to(package).with_suffix("").parts])


def imported(path: Path, package: Path) -> set[str]:
    """Every file of the package that a file imports from, by dotted name; a name re-exported is its `__init__`'s."""
    own = module_of(path, package).split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {target for alias in node.names if (target := resolve(alias.name, package))}
        elif isinstance(node, ast.ImportFrom):
            base = own[: len(own) - node.level + 1] if node.level else []
            lead = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{lead}.{alias.name}" for alias in node.names]
            found |= {target for name in names if (target := resolve(name, package))}
    return found - {module_of(path, package)}


def resolve(name: str, package: Path) -> str | None:
    """The file of the package that a dotted name comes from; None for other libraries."""
    parts = name.split(".")
    if parts[0] != package.name:
        return None
    for end in range(len(parts), 0, -1):
        place = package.joinpath(*parts[1:end])
        if end > 1 and place.with_suffix(".py").is_file():
            return ".".join(parts[:end])
        if (place / "__init__.py").is_file():
            return ".".join([*parts[:end], "__init__"])
    return None


def graph_of(room: Path, package: Path, imports: dict[str, set[str]]) -> Graph:
    """The parts of a room, and from each the parts it imports."""
    lead = module_of(room / "x.py", package).removesuffix(".x")
    depth = len(lead.split("."))
    graph: Graph = defaultdict(set)
    for module, targets in imports.items():
        if not module.startswith(lead + "."):
            continue
        part = module.split(".")[depth]
        graph[part] |= {target.split(".")[depth] for target in targets if target.startswith(lead + ".")} - {part}
    return dict(graph)


def circles_of(graph: Graph) -> list[tuple[str, ...]]:
    """Sets of parts that reach each other."""
    reach = {part: _reachable(graph, part) for part in graph}
    sets = {tuple(sorted(b for b in graph if b in reach[a] and a in reach[b])) for a in graph}
    return sorted(each for each in sets if len(each) > 1)


def _reachable(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    front = [start]
    while front:
        for target in graph.get(front.pop(), ()):
            if target not in seen:
                seen.add(target)
                front.append(target)
    return seen


def floors_of(graph: Graph) -> dict[str, int]:
    """The floor of each part, from 1: one above the highest part it imports; a circle's parts share a floor."""
    circle = {part: each for each in circles_of(graph) for part in each}
    floors: dict[str, int] = {}

    def floor(part: str) -> int:
        if part not in floors:
            mine = circle.get(part, (part,))
            below = {target for each in mine for target in graph.get(each, ())} - set(mine)
            height = 1 + max((floor(target) for target in below), default=0)
            floors.update(dict.fromkeys(mine, height))
        return floors[part]

    for part in graph:
        floor(part)
    return floors


def rooms_of(package: Path) -> list[Room]:
    """Every folder of the package with Python files in it, counted."""
    files = sorted(package.rglob("*.py"))
    imports = {module_of(path, package): imported(path, package) for path in files}
    rooms: list[Room] = []
    for folder in sorted({path.parent for path in files}):
        graph = graph_of(folder, package, imports)
        arrows = sum(len(targets & graph.keys()) for targets in graph.values())
        own = sum(path.parent == folder for path in files)
        name = "/".join([package.name, *folder.relative_to(package).parts])
        floors = max(floors_of(graph).values(), default=0)
        rooms.append(Room(name, floors, arrows, own, tuple(circles_of(graph))))
    return rooms


def functions_of(package: Path) -> Iterator[Function]:
    """Every function of the package."""
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package.parent).as_posix()
        for node, name in _named_functions(ast.parse(path.read_text(encoding="utf-8")), ()):
            yield function_of(node, f"{file}:{node.lineno} {name}")


def _named_functions(tree: ast.AST, outer: tuple[str, ...]) -> Iterator[tuple[Definition, str]]:
    """Functions below a node, each with the names of the classes and functions around it: "SAB.forward"."""
    for node in ast.iter_child_nodes(tree):
        inner = outer
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = (*outer, node.name)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, ".".join(inner)
        yield from _named_functions(node, inner)


def function_of(node: Definition, place: str) -> Function:
    """What is counted of one function."""
    marks = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
    names = [each.arg for each in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]
    names = names[1:] if names[:1] in (["self"], ["cls"]) else names
    operator = "custom_op" in marks or "register_fake" in marks
    return Function(place, lines, len(names), "triton" in marks, operator)


def report(package: Path, markdown: bool) -> str:
    """The counts as text."""
    rooms, functions = rooms_of(package), list(functions_of(package))
    plain = [each for each in functions if not each.kernel and not each.operator]
    constructors = [each for each in plain if each.place.endswith("__init__")]
    others = [each for each in plain if not each.place.endswith("__init__")]
    rows = [(room.name, room.floors, room.arrows, room.files) for room in rooms]
    bar, head = ("| {} | {} | {} | {} |", "|---|---|---|---|") if markdown else ("{:<34}{:>7}{:>7}{:>7}", None)
    lines = [
        bar.format("room", "floors", "arrows", "files"),
        *([head] if head else []),
        *(bar.format(*r) for r in rows),
    ]
    lines += ["", *_largest("longest function: {} lines, {}", plain, "lines")]
    lines += _largest("most parameters: {}, {}", others, "parameters")
    lines += _largest("most parameters of a constructor: {}, {}", constructors, "parameters")
    lines += [f"circle in {room.name}: {', '.join(circle)}" for room in rooms for circle in room.circles]
    return "\n".join(lines)


def _largest(sentence: str, functions: Sequence[Function], count: str) -> list[str]:
    """The function with the largest count, told in a sentence; nothing where there is no function."""
    if not functions:
        return []
    largest = max(functions, key=lambda each: getattr(each, count))
    return [sentence.format(getattr(largest, count), largest.place)]


def main() -> None:
    """Print the counts of a package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parents[1] / "src" / "reminding"
    parser.add_argument("--package", type=Path, default=here, help="the package's folder (default: %(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args()
    if not (options.package / "__init__.py").is_file():
        parser.error(f"--package must be a package's folder, and {options.package} has no __init__.py")
    print(report(options.package.resolve(), options.markdown))


if __name__ == "__main__":
    main()
