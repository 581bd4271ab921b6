"""Checkpoints of a run are written and read back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from reminding.disk.errors import CannotWriteError
from reminding.lab.runs import checkpoint
from tests.lab.conftest import small


def test_evaluations_are_json_lines(tmp_path: Path) -> None:
    checkpoint.add_evaluation(tmp_path, {"accuracy": 1.0})
    checkpoint.add_evaluation(tmp_path, {"accuracy": 0.5})
    lines = [json.loads(line) for line in (tmp_path / "eval.jsonl").read_text().splitlines()]
    assert [line["accuracy"] for line in lines] == [1.0, 0.5]
    assert checkpoint.read_evaluations(tmp_path) == [{"accuracy": 1.0}, {"accuracy": 0.5}]
    assert checkpoint.read_evaluations(tmp_path / "nowhere") == []


@pytest.mark.parametrize("below", ["", "run", "runs/run"])
def test_a_run_is_not_begun_where_a_file_is(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("kept")
    with (
        pytest.raises(CannotWriteError, match=r"file is a file, and a folder is needed|it is a file, and"),
        checkpoint.opened(tmp_path / "file" / below, small(model="lstm"), resume=False, overwrite=False),
    ):
        pass
    assert (tmp_path / "file").read_text() == "kept"


def test_options_that_the_model_does_not_read_may_differ(tmp_path: Path) -> None:
    """So that a new default of the memory's lets old runs of the LSTM go on."""
    begun, lstm = small(model="lstm"), small(model="lstm")
    wanted = replace(lstm, model=replace(lstm.model, score_size=5, normalizer="softmax1", capacity=3))
    checkpoint.check_same(begun, wanted, tmp_path)
    with pytest.raises(ValueError, match=r"other options \(model\.cell: lstm there, gru here\)"):
        checkpoint.check_same(begun, replace(lstm, model=replace(lstm.model, cell="gru")), tmp_path)
