"""What a table's columns are known by: their usual change, and the places of their masks.

Shapes: n rows, C columns.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reminding.lab.predict.forecast import Scaling, rows_of
from reminding.tasks import FileStream
from tests.tasks.test_filestream_tables import table, write


def test_the_usual_change_of_what_is_predicted_is_that_of_the_training_rows(tmp_path: Path) -> None:
    values = table(500, 3).cumsum(0) * [1.0, 0.0, 50.0]
    values[[40, 41, 90], 2] = np.nan
    task = FileStream(write(tmp_path / "a.csv", values), target=("c", "b", "a"), missing="zero", held_out=0.1)
    differences = np.diff(values[:400], axis=0)
    want = np.sqrt(np.nanmean(differences**2, axis=0)) / task.scale.deviation[:3]
    assert task.continued is not None
    places, change = task.continued
    assert places == [0, 1, 2] and want[1] == 0
    np.testing.assert_allclose(change, want, rtol=1e-9)
    facts = json.loads(json.dumps(task.facts()))
    restored = task.with_facts(facts).continued
    assert restored is not None
    np.testing.assert_array_equal(restored[1], change)
    del facts["change"]  # as a run of an earlier version has them
    assert task.with_facts(facts).continued is None
    np.testing.assert_array_equal(task.with_facts(facts).scale.mean, task.scale.mean)


@pytest.mark.parametrize("size", [1e-200, 1e140])
def test_the_size_of_a_column_changes_nothing_of_what_is_read(tmp_path: Path, size: float) -> None:
    values = np.random.default_rng(0).normal(size=(500, 2)).cumsum(0)
    plain, sized = (FileStream(write(tmp_path / f"{by}.csv", values * [1, by])) for by in (1.0, size))
    assert not any("constant" in note for note in sized.reading().notes)
    batches = [next(each.train_batches(2, 0)).input for each in (plain, sized)]
    torch.testing.assert_close(batches[0], batches[1])
    assert plain.continued is not None and sized.continued is not None
    np.testing.assert_allclose(sized.continued[1], plain.continued[1], rtol=1e-9)


@pytest.mark.parametrize("missing", ["carry", "zero"])
def test_a_column_may_be_called_as_the_mask_of_another(tmp_path: Path, missing: Any) -> None:
    values = table(500, 3)
    values[::5, 0] = np.nan
    task = FileStream(write(tmp_path / "a.csv", values, "a,a missing,c"), missing=missing, chunk=100)
    batch = next(task.train_batches(1, 0))
    assert batch.input.shape == (100, 1, 4)
    absent = np.isnan(values[1:101, 0])
    np.testing.assert_array_equal(torch.isnan(batch.target[:, 0, 0]).numpy(), absent)
    np.testing.assert_array_equal(batch.input[:, 0, 3].numpy(), np.isnan(values[:100, 0]))
    assert not torch.isnan(batch.target[..., 1:]).any()
    known = FileStream(tmp_path / "a.csv", missing=missing, target=("c",))
    assert Scaling(known).known == [0, 1, 3]


@pytest.mark.parametrize("missing", ["carry", "zero"])
def test_a_season_before_is_no_change_where_the_value_is_missing_also_if_it_was_carried(
    tmp_path: Path, missing: Any
) -> None:
    rng = np.random.default_rng(0)
    values = 10 * np.sin(np.arange(400) * 2 * np.pi / 8)[:, None] + rng.normal(size=(400, 1))
    values[rng.random(400) < 0.2] = np.nan
    values[[300, 350]] = 1.0  # the test part begins with a known value
    task = FileStream(write(tmp_path / "a.csv", values), missing=missing, held_out=50, eval_rows=1, chunk=7)
    tally, season = task.tally(), task.facts()["season"]
    assert tally is not None and season == 8
    for batch in task.eval_batches("test", 1):
        tally.add(torch.zeros_like(batch.target), batch)
    part, last, errors = values[350:, 0], 0.0, list[float]()
    for t in range(49):
        last = last if np.isnan(part[t]) else part[t]
        before = part[t + 1 - season] if t + 1 >= season else np.nan
        errors.append((last if np.isnan(before) else before) - part[t + 1])
    told = tally.record()["columns"]["a"]["seasonal"]["rmse"]
    assert told == pytest.approx(np.sqrt(np.nanmean(np.square(errors))), rel=1e-5)


def test_a_drift_in_the_held_out_rows_is_said(tmp_path: Path) -> None:
    values = table(1000, 2)
    values[900:, 1] += 1000
    notes = FileStream(write(tmp_path / "a.csv", values), held_out=0.1).reading().notes
    (note,) = (note for note in notes if note.startswith("b drifts: its mean in the test rows is "))
    assert note.endswith("all others unless its change is predicted (--residual); or leave it out")
    values[900:, 1] = 1e30
    notes = FileStream(write(tmp_path / "a.csv", values), held_out=0.1).reading().notes
    assert any(re.match(r"b drifts: .* test rows is [\d.]{,10}e\+\d\d deviations", note) for note in notes)


def test_a_column_without_a_value_in_the_held_out_rows_is_not_said_to_drift(tmp_path: Path) -> None:
    values = 1013 + 0.1 * table(1000, 2)
    values[:5, 1] = values[800:, 1] = np.nan
    task = FileStream(write(tmp_path / "a.csv", values), missing="zero", held_out=0.1)
    assert not any("drifts" in note for note in task.reading().notes)


def test_other_rows_in_another_unit_are_named(tmp_path: Path) -> None:
    """Of a run that is trained, no part of a file is held out, and no option of training helps."""
    values = 1013 + 0.1 * table(1005, 2)
    trained = FileStream(write(tmp_path / "a.csv", values), held_out=0.1)
    trained = trained.with_facts(trained.facts())
    path = write(tmp_path / "b.csv", values * [1, 100])
    note = "b: its mean is 1,0"
    for notes in (
        trained.changed(data=path).for_new_data().reading().notes,
        rows_of(trained, path).reading.notes,  # pyright: ignore[reportOptionalMemberAccess]
    ):
        assert len(notes) == 1 and notes[0].startswith(note) and notes[0].endswith("has it the same unit?")
    same = rows_of(trained, tmp_path / "a.csv").reading
    assert same is not None and not same.notes


def test_the_season_is_that_of_the_longest_file(tmp_path: Path) -> None:
    """A first file that is too short to show one hid it, and with it the baseline."""
    for name, rows in (("a", 30), ("b", 1000)):
        write(tmp_path / f"{name}.csv", np.sin(2 * np.pi * np.arange(rows) / 24)[:, None])
    assert FileStream(tmp_path / "*.csv", held_out=0.1).facts()["season"] == 24


@pytest.mark.parametrize("missing", ["carry", "zero"])
def test_no_change_is_not_judged_before_a_columns_first_value(missing: Any, tmp_path: Path) -> None:
    """Before it nothing can stay as it is; the mean of training would be a bad guess, far from a drifting column."""
    values = table(60, 2).cumsum(0) + 1000
    task = FileStream(write(tmp_path / "a.csv", values), missing=missing, held_out=9, chunk=7, eval_rows=1)
    holed = values.copy()
    holed[:4, 0], holed[30:33, 0] = np.nan, np.nan
    new = replace(task.for_new_data(), test=write(tmp_path / "b.csv", holed))
    new = new.with_facts({**task.for_new_data().facts(), "masks": ["a"]})
    tally = new.tally()
    assert tally is not None
    for batch in new.eval_batches("test", 1):
        tally.add(0 * batch.target, batch)
    last, errors = np.nan, list[float]()
    for now, following in pairwise(holed[:, 0]):
        last = last if np.isnan(now) else now
        errors.append(last - following)
    told = tally.record()["columns"]["a"]["unchanged"]
    assert told["rmse"] == pytest.approx(np.sqrt(np.nanmean(np.square(errors))), rel=1e-4)


@pytest.mark.parametrize("missing", ["carry", "zero"])
def test_a_column_without_a_value_in_training_is_said_to_have_none(missing: Any, tmp_path: Path) -> None:
    values = table(60, 3)
    values[:50, 0], values[:50, 1] = np.nan, 0.0
    task = FileStream(write(tmp_path / "a.csv", values), missing=missing, held_out=5, chunk=7, eval_rows=1)
    assert [note for note in task.reading().notes if "training rows" in note and "drifts" not in note] == [
        "a has no value in the training rows, so that nothing is learned of it; leave it out of --columns",
        "b is constant in the training rows; a change of it counts in its own units",
    ]
