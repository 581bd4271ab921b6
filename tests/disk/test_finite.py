"""Numbers that are not finite: files stay JSON that any program reads, and give them back as they were."""

from __future__ import annotations

import ast
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reminding.disk.errors import DamagedFileError
from reminding.disk.finite import finite, restored
from reminding.disk.records import add_line, packed_json, packed_line, read_json, read_lines, seal_lines, write_json
from tests.places import ROOT

NAN, INF = math.nan, math.inf
RECORD: dict[str, Any] = {"kind": "train", "step": 3, "loss": NAN, "norm": INF, "text": "NaN", "none": None}
NAMES = st.text(alphabet="ab/~01", max_size=3)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["NaN", "Infinity", "null"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)

HASHED = {"_checksum", "_key", "_seal"}
"""Functions whose JSON text is hashed and never read."""


def strict(text: str | bytes) -> Any:
    """Read JSON as other programs do, without Python's additions to it."""

    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


@given(content=st.dictionaries(NAMES, VALUES, max_size=4))
def test_any_object_comes_back_from_json_that_any_program_reads(content: dict[str, Any]) -> None:
    """`repr` tells NaN from null, and -0.0 from 0.0."""
    text = json.dumps(finite(content), allow_nan=False)
    assert repr(restored(strict(text))) == repr(content)


def test_null_stands_in_their_place_and_one_entry_says_which_they_are() -> None:
    told = {"/loss": "NaN", "/norm": "Infinity"}
    assert finite(RECORD) == {**RECORD, "loss": None, "norm": None, "not_finite": told}
    assert finite({"a/b~c": [1.5, (-INF,)]}) == {"a/b~c": [1.5, [None]], "not_finite": {"/a~1b~0c/1/0": "-Infinity"}}
    assert finite({"a": 1.5}) == {"a": 1.5}, "an object without them has no such entry"


def test_files_and_lines_are_written_in_this_way_and_give_the_numbers_back(tmp_path: Path) -> None:
    assert strict(packed_json(RECORD))["loss"] is None
    write_json(tmp_path / "file", RECORD)
    assert repr(read_json(tmp_path / "file")) == repr(RECORD)
    assert strict(packed_line(RECORD))["loss"] is None
    add_line(tmp_path / "lines", RECORD)
    assert repr(read_lines(tmp_path / "lines").records) == repr([RECORD])


def test_pandas_reads_a_log_as_numbers(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    lines = "\n".join([packed_line({"step": 1, "loss": 0.5}), packed_line({"step": 2, "loss": NAN})])
    table = pandas.read_json(io.StringIO(lines), lines=True)
    assert table["loss"].dtype == float
    assert table["loss"].isna().tolist() == [False, True]


def test_files_of_version_0_1_with_bare_numbers_are_read(tmp_path: Path) -> None:
    bare = json.dumps(RECORD)
    (tmp_path / "file").write_text(bare)
    assert repr(read_json(tmp_path / "file")) == repr(RECORD)
    (tmp_path / "lines").write_text(bare + "\n")
    assert repr(read_lines(tmp_path / "lines").records) == repr([RECORD])
    seal_lines(tmp_path / "lines")
    assert strict((tmp_path / "lines").read_text())["loss"] is None
    assert repr(read_lines(tmp_path / "lines").records) == repr([RECORD])


MISFITS: list[Any] = [
    *(5, [], {"/a": "NaN"}, {"/none": "nan"}, {"/none": 5}, {"/none": ["NaN"]}, {"none": "NaN"}, {"": "NaN"}),
    *({"/list/7": "NaN"}, {"/list/x": "NaN"}, {"/a/b": "NaN"}, {"/none/b": "NaN"}, {"/other": "NaN"}),
]


@pytest.mark.parametrize("told", MISFITS)
def test_an_entry_that_does_not_fit_is_damage(tmp_path: Path, told: Any) -> None:
    """It must name a null, and a number that is not finite."""
    text = json.dumps({"a": 1, "none": None, "list": [None], "not_finite": told})
    (tmp_path / "file").write_text(text)
    with pytest.raises(DamagedFileError, match="file is damaged: not_finite"):
        read_json(tmp_path / "file")
    (tmp_path / "lines").write_text(text + "\n")
    assert read_lines(tmp_path / "lines").damaged == [1]


def test_the_name_of_the_entry_is_taken() -> None:
    with pytest.raises(ValueError, match="content must have no entry 'not_finite'"):
        finite({"not_finite": 1})


def test_nothing_writes_json_past_this() -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{call.lineno} writes JSON without allow_nan=False"
        for folder in ("src", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef) and function.name not in HASHED
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("json.dumps", "json.dump")
        if not any(each.arg == "allow_nan" and ast.unparse(each.value) == "False" for each in call.keywords)
    ]
    assert not offences, "\n".join(offences)
