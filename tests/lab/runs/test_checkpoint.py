"""Checkpoints of a run are written and read back."""

from __future__ import annotations

import json
from pathlib import Path

from reminding.lab.runs import checkpoint


def test_evaluations_are_json_lines(tmp_path: Path) -> None:
    checkpoint.add_evaluation(tmp_path, {"accuracy": 1.0})
    checkpoint.add_evaluation(tmp_path, {"accuracy": 0.5})
    lines = [json.loads(line) for line in (tmp_path / "eval.jsonl").read_text().splitlines()]
    assert [line["accuracy"] for line in lines] == [1.0, 0.5]
    assert checkpoint.read_evaluations(tmp_path) == [{"accuracy": 1.0}, {"accuracy": 0.5}]
    assert checkpoint.read_evaluations(tmp_path / "nowhere") == []
