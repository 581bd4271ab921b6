"""A few trials of each campaign; `make test-reliability` makes all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.reliability import million, pages
from tests.reliability.campaigns import Campaigns
from tests.reliability.mutations import mutations
from tests.reliability.trials import Tally


@pytest.fixture(scope="module")
def campaigns(tmp_path_factory: pytest.TempPathFactory) -> Campaigns:
    return Campaigns(tmp_path_factory.mktemp("reliability"))


def assert_right(tally: Tally, least: int) -> None:
    assert tally.tried >= least
    assert tally.problems == []


def test_runs_killed_at_random_moments(campaigns: Campaigns) -> None:
    assert_right(campaigns.kills_at_random_moments(3), 3)


def test_runs_killed_at_file_operations(campaigns: Campaigns) -> None:
    assert_right(campaigns.kills_at_operations(37), 3)


def test_runs_that_get_signals(campaigns: Campaigns) -> None:
    assert_right(campaigns.signals(4), 4)


def test_runs_on_a_full_disk(campaigns: Campaigns) -> None:
    assert_right(campaigns.full_disk(67), 3)


def test_processes_on_one_run(campaigns: Campaigns) -> None:
    assert_right(campaigns.together(2), 2)


def test_damaged_files(campaigns: Campaigns) -> None:
    tally = mutations(campaigns.whole, 200)
    assert_right(tally, 200)
    assert tally.refused > 100


def test_hostile_names(browser: Any) -> None:
    assert_right(pages.opened(browser), 40)


def test_a_long_stream_that_is_killed(tmp_path: Path) -> None:
    tally = million.run(30_000, tmp_path, every=15_000)
    assert_right(tally, 1)
    assert tally.note.startswith("30,000 steps")
