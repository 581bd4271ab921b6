"""Campaigns in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.places import RESULTS
from tests.reliability.at_once import longest_first, run_at_once
from tests.reliability.table import page, record, recorded

SMALL = ["--draws", "2", "--data", "3"]


def test_the_record_has_every_campaign_in_the_order_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not run_at_once(["shapes", "data"], 2, tmp_path, SMALL)
    found = recorded(tmp_path)
    assert list(found) == ["shapes", "data"]
    assert found["data"]["tried"] == 3
    assert found["shapes"]["tried"] > 0
    assert all(each["wrong"] == 0 and each["command_minutes"] > 0 for each in found.values())
    said = capsys.readouterr().out
    assert "2 campaigns in" in said
    assert said.count("| 3 |") == 1


def test_a_campaign_that_ends_without_a_result_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_at_once(["data"], 2, tmp_path / "out", ["--data", "many"])
    assert "data ended with status 2 before its result" in capsys.readouterr().out
    assert recorded(tmp_path / "out") == {}


def test_the_longest_come_first(tmp_path: Path) -> None:
    whole = {"campaign": "", "tried": 1, "right": 1, "refused": 0, "wrong": 0, "crashed": 0, "hung": 0, "note": ""}
    whole |= {"date": "2026-01-01", "command": "", "machine": ""}
    record(tmp_path, {name: {**whole, "minutes": minutes} for name, minutes in (("short", 0.5), ("long", 12.0))})
    assert longest_first(["short", "new", "long"], tmp_path) == ["new", "long", "short"]
    assert longest_first(["short", "long"], None) == ["short", "long"]


def test_the_page_of_results_is_made_of_its_record() -> None:
    folder = RESULTS / "reliability"
    assert (folder / "README.md").read_text(encoding="utf-8") == page(recorded(folder))
