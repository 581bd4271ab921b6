"""The size of the package (floors, arrows and files of each room, parameters), and the script that counts them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.structure import Function, Room, functions_of, report, rooms_of
from tests.places import ROOT

PACKAGE = ROOT / "src" / "reminding"
MOST_FLOORS_AND_ARROWS = {"reminding/nn": (8, 25), "reminding/lab": (6, 25)}
"""The limits count the parts of a room, not the files in its sub-rooms."""
MOST_FILES = 12
MOST_PARAMETERS = 12
WIDE = {"SAB.__init__"}
"""Exempt: the layer's options, named as in nn.LSTM's constructor and the paper."""

Write = Callable[[dict[str, str]], Path]


@pytest.fixture(scope="module")
def rooms() -> list[Room]:
    return rooms_of(PACKAGE)


@pytest.mark.parametrize("name", MOST_FLOORS_AND_ARROWS)
def test_a_room_has_few_floors_and_few_arrows_between_its_parts(rooms: list[Room], name: str) -> None:
    (room,) = (each for each in rooms if each.name == name)
    floors, arrows = MOST_FLOORS_AND_ARROWS[name]
    assert room.floors <= floors
    assert room.arrows <= arrows


def test_no_parts_import_each_other_in_a_circle(rooms: list[Room]) -> None:
    assert [(room.name, room.circles) for room in rooms if room.circles] == []


def test_a_room_has_few_files(rooms: list[Room]) -> None:
    assert [(room.name, room.files) for room in rooms if room.files > MOST_FILES] == []


def test_a_function_has_few_parameters() -> None:
    functions = [each for each in functions_of(PACKAGE) if not each.kernel and not each.operator]
    wide = [each for each in functions if each.parameters > MOST_PARAMETERS]
    assert [each.place for each in wide if each.place.split()[-1] not in WIDE] == []


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a package `p` with these files and an empty `__init__` in each of its folders."""

    def files(content: dict[str, str]) -> Path:
        package = tmp_path / "p"
        for name, text in content.items():
            path = package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        for folder in [package, *(path for path in package.rglob("*") if path.is_dir())]:
            if not (folder / "__init__.py").exists():
                (folder / "__init__.py").touch()
        return package

    return files


def room(package: Path, name: str = "p") -> Room:
    (found,) = (each for each in rooms_of(package) if each.name == name)
    return found


def test_a_chain_is_as_many_floors_as_it_has_parts(write: Write) -> None:
    chain = {f"{name}.py": f"from p import {below}\n" for name, below in ("ab", "bc", "cd")}
    found = room(write({**chain, "d.py": "import os\n"}))
    assert (found.floors, found.arrows, found.files, found.circles) == (4, 3, 5, ())


def test_parts_beside_each_other_share_a_floor(write: Write) -> None:
    found = room(write({"top.py": "from p import a, b, c\n", "a.py": "", "b.py": "", "c.py": ""}))
    assert (found.floors, found.arrows) == (2, 3)


def test_a_longer_way_down_counts_and_a_shortcut_is_an_arrow_too(write: Write) -> None:
    found = room(write({"a.py": "from p import b, c\n", "b.py": "from p import c\n", "c.py": ""}))
    assert (found.floors, found.arrows) == (3, 3)


def test_two_imports_of_one_part_are_one_arrow(write: Write) -> None:
    found = room(write({"a.py": "import p.b\nfrom p.b import x\nfrom p.b import y\n", "b.py": "x = y = 0\n"}))
    assert (found.floors, found.arrows) == (2, 1)


@pytest.mark.parametrize(
    "line", ["from .b import x", "from . import b", "from p import b", "import p.b", "import p.b as c"]
)
@pytest.mark.parametrize("indented", [False, True])
def test_an_import_is_seen_in_every_form_also_inside_a_function(write: Write, line: str, indented: bool) -> None:
    text = f"def f():\n    {line}\n" if indented else f"{line}\n"
    assert room(write({"a.py": text, "b.py": "x = 0\n"})).arrows == 1


def test_a_relative_import_is_read_from_its_own_folder(write: Write) -> None:
    """`..b` in p/q/a.py is p/b.py; `.b` in p/q/__init__.py is p/q/b.py, which adds no arrow to p."""
    package = write(
        {"q/a.py": "from ..b import x\n", "q/__init__.py": "from .b import x\n", "q/b.py": "", "b.py": ""}
    )
    assert (room(package).arrows, room(package).floors) == (1, 2)
    assert (room(package, "p/q").arrows, room(package, "p/q").files) == (1, 3)


def test_a_name_that_a_folder_exports_again_is_that_folders(write: Write) -> None:
    """q re-exports x from r; a module that imports x from q depends on q alone."""
    package = write({"a.py": "from p.q import x\n", "q/__init__.py": "from p.r.c import x\n", "r/c.py": "x = 0\n"})
    found = room(package)
    assert (found.floors, found.arrows) == (3, 2)


def test_arrows_within_a_folder_are_the_folders_own(write: Write) -> None:
    package = write({"q/a.py": "from p.q import b\nfrom p import r\n", "q/b.py": "", "r/c.py": ""})
    assert room(package).arrows == 1
    assert (room(package, "p/q").arrows, room(package, "p/q").floors) == (1, 2)
    assert room(package, "p/r").arrows == 0


def test_a_circle_is_named_and_is_one_floor(write: Write) -> None:
    circle = {"a.py": "from p import b\n", "b.py": "from p import c\n", "c.py": "def f():\n    from p import a\n"}
    found = room(write({**circle, "top.py": "from p import a\n", "c2.py": "from p import d\n", "d.py": ""}))
    assert found.circles == (("a", "b", "c"),)
    assert (found.floors, found.arrows) == (2, 5)


def test_a_floor_is_counted_from_below_a_circle_too(write: Write) -> None:
    found = room(write({"a.py": "from p import b\n", "b.py": "from p import a, c\n", "c.py": ""}))
    assert found.circles == (("a", "b"),)
    assert found.floors == 2


def test_two_circles_are_two(write: Write) -> None:
    pairs = {f"{one}.py": f"from p import {other}\n" for one, other in ("ab", "ba", "cd", "dc")}
    assert room(write(pairs)).circles == (("a", "b"), ("c", "d"))


def test_other_libraries_are_no_arrows_though_they_share_a_name(write: Write) -> None:
    assert room(write({"a.py": "import b\nfrom q import b\nfrom pp import b\n", "b.py": ""})).arrows == 0


def counted(write: Write, text: str) -> list[Function]:
    return list(functions_of(write({"a.py": text})))


def test_lines_are_those_below_the_docstring(write: Write) -> None:
    text = 'def f(a):\n    """Two\n    lines."""\n    x = a\n\n    return x\n\n\ndef g():\n    """None."""\n'
    assert [(each.place, each.lines) for each in counted(write, text)] == [("p/a.py:1 f", 3), ("p/a.py:9 g", 0)]


def test_parameters_are_the_named_ones_without_self(write: Write) -> None:
    text = (
        "class C:\n    def f(self, a, /, b, *rest, c=0, **more): ...\n    @classmethod\n    async def g(cls): ...\n"
    )
    found = counted(write, text + "def h(a, b):\n    def inner(self): ...\n")
    assert [(each.place.split()[-1], each.parameters) for each in found] == [
        ("C.f", 3),
        ("C.g", 0),
        ("h", 2),
        ("h.inner", 0),
    ]


@pytest.mark.parametrize(
    ("decorator", "kind"),
    [
        ("@triton.jit", (True, False)),
        ("@torch.library.custom_op('a::b', mutates_args=())", (False, True)),
        ("@forward.register_fake", (False, True)),
        ("@torch.no_grad()", (False, False)),
    ],
)
def test_kernels_and_operators_are_told_by_their_decorators(
    write: Write, decorator: str, kind: tuple[bool, bool]
) -> None:
    (found,) = counted(write, f"{decorator}\ndef f(a): ...\n")
    assert (found.kernel, found.operator) == kind


def test_the_report_names_the_longest_the_widest_and_every_circle(write: Write) -> None:
    text = (
        "class C:\n    def __init__(self, a, b, c, d): ...\n    def f(self, a, b):\n        x = a\n        return x\n"
    )
    package = write({"a.py": f"from p import b\n{text}", "b.py": "from p import a\ndef g(a, b, c): ...\n"})
    shown = report(package, markdown=False)
    assert "longest function: 2 lines, p/a.py:4 C.f" in shown
    assert "most parameters: 3, p/b.py:2 g" in shown
    assert "most parameters of a constructor: 4, p/a.py:3 C.__init__" in shown
    assert "circle in p: a, b" in shown
    assert "| p | 1 | 2 | 3 |" in report(package, markdown=True)


def test_a_package_without_functions_is_reported_too(write: Write) -> None:
    assert "function" not in report(write({"a.py": ""}), markdown=False)
