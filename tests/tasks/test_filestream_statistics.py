"""What a table's columns are known by: their usual change, and the places of their masks.

Shapes: n rows, C columns.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reminding.lab.predict.forecast import Scaling
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
