"""The rooms of the package: which may import which, and how large a room may be."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "reminding"
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def said_of(folder: Path) -> set[str] | None:
    """The rooms that the docstring of a folder says it may import, such as nn/parts; None: it says nothing."""
    _, begun, told = (ast.get_docstring(TREES[folder / "__init__.py"]) or "").partition("May import: ")
    names = re.findall(r"[a-z_]+(?:[./][a-z_]+)*", told)
    return {name.removeprefix("reminding.").replace(".", "/") for name in names} if begun else None


FOLDERS = sorted({path.parent for path in FILES} - {PACKAGE})
# A file belongs to the innermost room: "nn/parts" is the folder parts of nn, and "nn" has the files directly in nn.
# "" is the __init__ of the package.
ROOMS: dict[str, set[str]] = {
    **{folder.relative_to(PACKAGE).as_posix(): said_of(folder) or set() for folder in FOLDERS},
    "__main__": {"cli"},
    "moved": set(),
    "checks": set(),
    "version": set(),
    "": {"nn", "moved", "version", "lab/predict"},
}
WHOLE = ("nn", "tasks")
"""To rooms outside them, these stand for all that is within them."""
TORCH_ONLY = ("ops", "nn")
REQUIRED = {"torch", "numpy"}
OPTIONAL = {
    *(
        "safetensors",
        "tyro",
        "rich",
        "tensorboard",
        "matplotlib",
        "pooch",
        "sklearn",
        "accelerate",
        "plotly",
        "optuna",
    ),
    *(
        "PIL",
        "duckdb",
        "flatbuffers",
        "pandas",
        "soundfile",
        "triton",
        "onnx",
        "onnxscript",
        "onnxruntime",
        "huggingface_hub",
        "river",
    ),
}
LAUNCHED = {
    PACKAGE / "ops" / "cuda_op" / "triton" / name
    for name in ("kernels.py", "device.py", "rows.py", "scores.py", "search.py", "tiled.py")
}
"""Files written in Triton's language, which own that library; they are imported when a kernel is launched."""
FACES = {PACKAGE / "estimators" / name for name in ("offline.py", "online.py")}
"""Subclasses of what scikit-learn and river define; imported when they are asked for."""
OUTSIDE = LAUNCHED | FACES
"""Files that need an optional dependency to be imported."""
NETWORK = {"urllib", "http", "socket", "ssl", "ftplib", "requests", "httpx", "aiohttp", "pooch", "webbrowser"}
NETWORK_OWNER = PACKAGE / "tasks" / "data" / "download.py"
ADDRESS_OWNER = PACKAGE / "tasks" / "data" / "datasets.py"
NAMES_THAT_SAY_NOTHING = {"utils", "helpers", "misc", "common"}
LONGEST_FILE = 400
LONGEST_FUNCTION = 40
LONGEST_KERNEL = 120


@dataclass(frozen=True)
class Import:
    """One imported name, in full, and whether it is imported inside a function."""

    path: Path
    line: int
    name: str
    inside: bool

    @property
    def library(self) -> str:
        parts = self.name.split(".")
        return "tensorboard" if parts[:3] == ["torch", "utils", "tensorboard"] else parts[0]

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.name}"


def names_of(node: ast.AST, path: Path) -> list[str]:
    """The names that a statement or call imports, with relative names resolved."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        package = list(path.relative_to(SOURCE).parts[:-1])
        base = package[: len(package) - node.level + 1] if node.level else []
        lead = ".".join([*base, *([node.module] if node.module else [])])
        return [f"{lead}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and node.args:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return [beginning_of(node.args[0])] if called in ("import_module", "__import__") else []
    return []


def beginning_of(name: ast.expr) -> str:
    """The readable part of a name that is put together at run time; "?" if not even its library is readable."""
    while isinstance(name, ast.JoinedStr) and name.values:
        name = name.values[0]
    return str(name.value) if isinstance(name, ast.Constant) else "?"


def imports_of(path: Path, tree: ast.AST, inside: bool = False) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        for name in names_of(node, path):
            yield Import(path, getattr(node, "lineno", 0), name, inside)
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from imports_of(path, node, inside or function)


IMPORTS = [found for path, tree in TREES.items() for found in imports_of(path, tree)]


def room_of(path: Path) -> str:
    """The room a file is in."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else innermost(parts)


def room_named(name: str) -> str | None:
    """The room that a dotted name belongs to; None for other libraries. The package's re-exports belong to nn."""
    parts = name.split(".")
    if parts[0] != "reminding" or parts[1:] == ["__version__"]:
        return None
    return innermost(tuple(parts[1:])) or "nn"


def innermost(parts: tuple[str, ...]) -> str:
    """The longest prefix of a path that is a room; "" if there is none."""
    return next((room for n in range(len(parts), 0, -1) if (room := "/".join(parts[:n])) in ROOMS), "")


def top_of(path: Path) -> str:
    """The big room that a file is in: "nn" for "nn/parts"."""
    return room_of(path).split("/")[0]


def told(offences: list[Import]) -> str:
    return "\n".join(str(offence) for offence in offences)


def allowed(here: str, room: str) -> bool:
    """Whether a room may import another."""
    top = room.split("/")[0]
    from_outside = top in WHOLE and top in ROOMS[here] and here.split("/")[0] != top
    return room == here or room in ROOMS[here] or from_outside


def test_every_room_says_what_lives_there_and_what_it_may_import() -> None:
    for folder in FOLDERS:
        told = ast.get_docstring(TREES[folder / "__init__.py"]) or ""
        assert len(told.splitlines()) <= 6 or folder.parent == PACKAGE, f"{folder} says too much"
        assert said_of(folder), f"{folder} does not say what it may import"


def test_the_maintainers_map_has_every_room() -> None:
    tree = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    names, path = set[str](), list[str]()
    for indent, name in re.findall(r"^((?:  )+)([a-z_]+)/  ", tree, re.MULTILINE):
        path[len(indent) // 2 - 1 :] = [name]
        names.add("/".join(path))
    assert names == {folder.relative_to(PACKAGE).as_posix() for folder in FOLDERS}


def test_rooms_import_only_whom_they_say() -> None:
    offences = [
        found
        for found in IMPORTS
        if (room := room_named(found.name)) is not None and not allowed(room_of(found.path), room)
    ]
    assert not offences, told(offences)


def test_ops_and_nn_need_torch_alone() -> None:
    """The one exception: the file that owns an optional dependency may import it inside a function."""
    known = sys.stdlib_module_names | {"torch", "reminding"} | OPTIONAL
    offences = [found for found in IMPORTS if top_of(found.path) in TORCH_ONLY and found.library not in known]
    assert not offences, told(offences)


def test_every_dependency_is_a_declared_one() -> None:
    known = sys.stdlib_module_names | REQUIRED | OPTIONAL | {"reminding"}
    unknown = [found for found in IMPORTS if found.library not in known]
    by_name = {
        PACKAGE / "moved.py",
        PACKAGE / "lab" / "runs" / "own_code.py",
    }  # names from a table, and from the user
    offences = [found for found in unknown if found.path not in by_name]
    assert not offences, told(offences)


@pytest.mark.parametrize("library", sorted(OPTIONAL))
def test_an_optional_dependency_has_one_owner_and_waits_for_its_use(library: str) -> None:
    found = [each for each in IMPORTS if each.library == library]
    assert len({each.path for each in found} - OUTSIDE) <= 1, told(found)
    early = [each for each in found if not each.inside and each.path not in OUTSIDE]
    assert not early, f"outside a function:\n{told(early)}"


def test_what_is_launched_is_imported_by_a_function() -> None:
    names = tuple(".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in LAUNCHED)
    found = [each for each in IMPORTS if each.name.startswith(names) and each.path not in LAUNCHED]
    assert found
    assert all(each.inside for each in found), told(found)


def strings_of(tree: ast.Module) -> Iterator[ast.Constant]:
    """Every string in the code that is not a docstring."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node


def test_one_file_alone_knows_the_network_and_one_the_addresses() -> None:
    offences = [str(found) for found in IMPORTS if found.library in NETWORK and found.path != NETWORK_OWNER]
    offences += [str(found) for found in IMPORTS if found.name.startswith("torch.hub")]
    for path, tree in TREES.items():
        if path != ADDRESS_OWNER:
            texts = [(text.lineno, str(text.value)) for text in strings_of(tree)]
            # The name of an XML namespace looks like an address, but is not one.
            addresses = [(line, text) for line, text in texts if "http" in text.replace("http://www.w3.org/", "")]
            offences += [f"{path.relative_to(ROOT)}:{line}: {text}" for line, text in addresses if "://" in text]
    assert not offences, "\n".join(offences)


IMPORT_WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent} or name.startswith("torch.utils.tensorboard"):
            raise ModuleNotFoundError(f"blocked: {{name}}", name=name)

sys.meta_path.insert(0, Absent())
import importlib
for module in {modules}:
    importlib.import_module(module)
"""


def test_everything_can_be_imported_with_torch_and_numpy_alone() -> None:
    modules = [".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in FILES if path not in OUTSIDE]
    modules = [name.removesuffix(".__init__") for name in modules if not name.endswith("__main__")]
    # torch itself tries to import a few of these and works without them, so they must not be loaded already.
    script = IMPORT_WITHOUT.format(absent=OPTIONAL, modules=modules)
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=SOURCE, check=False)
    assert ran.returncode == 0, ran.stderr


def functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def is_kernel(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    marks = [ast.unparse(decorator) for decorator in node.decorator_list]
    return any("triton" in mark or "custom_op" in mark for mark in marks)


def length_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The number of lines from the first statement after the docstring to the last."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_functions_fit_on_a_page() -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {length_of(node)} lines"
        for path, tree in TREES.items()
        for node in functions_of(tree)
        if length_of(node) > (LONGEST_KERNEL if is_kernel(node) else LONGEST_FUNCTION)
    ]
    assert not offences, "\n".join(offences)


def test_files_are_short_and_named_for_what_they_hold() -> None:
    offences: list[str] = []
    for path in [*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > LONGEST_FILE:
            offences.append(f"{path.relative_to(ROOT)} has {lines} lines")
        if path.stem in NAMES_THAT_SAY_NOTHING:
            offences.append(f"{path.relative_to(ROOT)} has a name that says nothing")
    assert not offences, "\n".join(offences)


Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public_of(node: Documented, name: str) -> Iterator[tuple[str, Documented]]:
    """A module, its public classes and functions, and their public methods."""
    yield name, node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and child.name[0] != "_":
            overloaded = any("overload" in ast.unparse(each) for each in child.decorator_list)
            if not overloaded:
                yield from public_of(child, f"{name}.{child.name}")


def test_everything_public_says_what_it_is() -> None:
    silent = [
        name
        for path, tree in TREES.items()
        if tree.body
        for name, node in public_of(tree, str(path.relative_to(ROOT)))
        if not ast.get_docstring(node)
    ]
    assert not silent, "\n".join(silent)


def test_the_rules_find_what_they_forbid() -> None:
    """Every form of import is detected."""
    source = """
import tyro
from . import b
from .. import ops
def f():
    import torch.utils.tensorboard as tb
    importlib.import_module("plotly.express")
    __import__(f"rich.{part}")
    import_module(name)
"""
    found = {
        (each.library, each.name, each.inside) for each in imports_of(PACKAGE / "nn" / "a.py", ast.parse(source))
    }
    assert found == {
        ("tyro", "tyro", False),
        ("reminding", "reminding.nn.b", False),
        ("reminding", "reminding.ops", False),
        ("tensorboard", "torch.utils.tensorboard", True),
        ("plotly", "plotly.express", True),
        ("rich", "rich.", True),
        ("?", "?", True),
    }
    assert room_named("reminding.ops") == "ops"
    assert room_named("reminding.nn.parts.cells.CELLS") == "nn/parts"
    assert room_named("reminding.nn.tbptt.tbptt") == "nn"
    assert room_named("reminding.SAB") == "nn"
    assert room_named("reminding.__version__") is None
