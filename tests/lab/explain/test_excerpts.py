"""Which sequences are explained, and where their steps are in their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from reminding.lab.explain.explanation import ExplainOptions, explain
from reminding.tasks import FileStream, Series
from tests.lab.explain.conftest import untrained
from tests.tasks.test_series import write_wav


def rows_of(path: Path, rows: int, seed: int, missing: int | None = None) -> np.ndarray[Any, Any]:
    """A table of two columns, which has no time, and its values."""
    values = np.random.default_rng(seed).normal(size=(rows, 2))
    if missing is not None:
        values[missing, 0] = np.nan
    pd.DataFrame(values, columns=["a", "b"]).to_csv(path, index=False)
    return values


def test_held_out_rows_are_numbered_as_in_their_file(tmp_path: Path) -> None:
    values = rows_of(tmp_path / "a.csv", 400, 0)
    run = untrained(tmp_path / "run", FileStream(tmp_path / "a.csv", held_out=100, eval_rows=2, chunk=20))
    for row, first in ((0, 301), (1, 351)):
        (found,) = explain(run, ExplainOptions(sequence=(row,), steps=40))
        assert (found.place(1), found.place(40), found.place(41)) == tuple(
            f"row {first + step}" for step in (0, 39, 40)
        )
        np.testing.assert_allclose(found.values, values[first - 1 :][:40], rtol=1e-5)
    (found,) = explain(run, ExplainOptions(split="valid", steps=40))
    assert (found.place(1), found.place(40)) == ("row 201", "row 240")


def test_of_several_files_the_numbers_are_those_within_each(tmp_path: Path) -> None:
    for name in "ab":
        rows_of(tmp_path / f"{name}.csv", 400, ord(name))
    run = untrained(tmp_path / "run", FileStream(tmp_path / "*.csv", held_out=100, eval_rows=2, chunk=20))
    for row in (0, 1):
        (found,) = explain(run, ExplainOptions(sequence=(row,), steps=40))
        assert (found.place(1), found.place(40)) == ("row 301", "row 340")


def test_rows_that_are_left_out_count(tmp_path: Path) -> None:
    values = rows_of(tmp_path / "a.csv", 401, 0, missing=305)
    task = FileStream(tmp_path / "a.csv", missing="drop", held_out=100, eval_rows=1, chunk=20)
    (found,) = explain(untrained(tmp_path / "run", task), ExplainOptions(steps=40))
    assert [found.place(step) for step in (1, 5, 6)] == ["row 301", "row 305", "row 307"]
    np.testing.assert_allclose(found.values[5], values[306], rtol=1e-5)


def test_held_out_sound_has_the_seconds_of_its_file(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-3000, 3000, 400).tolist()
    write_wav(tmp_path / "a.wav", samples)
    run = untrained(tmp_path / "run", FileStream(tmp_path / "a.wav", held_out=100, eval_rows=1, chunk=20))
    (found,) = explain(run, ExplainOptions(steps=40))
    assert found.times is not None
    assert found.times.texts[0] == f"{300 / 8000:.4f} s"


LABELLED = [("a", [1.0, 2.0, 4.0]), ("b", [3.0, 1.0, 0.0]), ("a", [0.0, 2.0, 5.0]), ("b", [3.0, 0.0, 1.0])] * 5
"""Labels and series."""


def of_labelled(folder: Path, suffix: str) -> tuple[Path, Path]:
    """A file of 20 labelled series, and a run on it."""
    path = folder / f"all.{suffix}"
    if suffix == "ts":
        lines = ["@classLabel true a b", "@data"]
        lines += [f"{','.join(map(str, values))}:{label}" for label, values in LABELLED]
    else:
        lines = ["\t".join([label, *map(str, values)]) for label, values in LABELLED]
    path.write_text("\n".join(lines) + "\n")
    return path, untrained(folder / "run", Series(path))


@pytest.mark.parametrize("suffix", ["ts", "tsv"])
def test_one_of_several_series_is_chosen_by_its_number(suffix: str, tmp_path: Path) -> None:
    path, run = of_labelled(tmp_path, suffix)
    found = explain(run, ExplainOptions(input=path, sequence=(2, 1)))
    assert [each.name for each in found] == [f"all.{suffix} series 2", f"all.{suffix} series 1"]
    for each, number in zip(found, (2, 1), strict=True):
        np.testing.assert_allclose(each.values[:, 0], LABELLED[number][1], rtol=1e-5, atol=1e-6)
        assert each.target is not None
        assert each.target[-1] == "ab".index(LABELLED[number][0])
    with pytest.raises(ValueError, match=rf"^input: .*all\.{suffix} holds 20 series; choose by --sequence, 0 to 19"):
        explain(run, ExplainOptions(input=path))
    with pytest.raises(ValueError, match=r"holds 20 series, so sequence must be below 20, got 20$"):
        explain(run, ExplainOptions(input=path, sequence=(20,)))


def test_a_number_of_a_sequence_that_is_not_there_is_refused(tmp_path: Path) -> None:
    _, run = of_labelled(tmp_path, "tsv")
    (tmp_path / "one.txt").write_text("1\n2\n3\n")
    (found,) = explain(run, ExplainOptions(input=tmp_path / "one.txt", sequence=(0,)))
    np.testing.assert_allclose(found.values[:, 0], [1, 2, 3], rtol=1e-5)
    with pytest.raises(ValueError, match=r"holds 1 series, so sequence must be below 1, got 1$"):
        explain(run, ExplainOptions(input=tmp_path / "one.txt", sequence=(1,)))
    rows_of(tmp_path / "a.csv", 400, 0)
    stream = untrained(tmp_path / "stream", FileStream(tmp_path / "a.csv", held_out=100, eval_rows=1))
    with pytest.raises(ValueError, match=r"^sequence must be 0 with input, which is one sequence of stream$"):
        explain(stream, ExplainOptions(input=tmp_path / "a.csv", sequence=(1,)))
