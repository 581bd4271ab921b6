"""A few trials of each campaign; `make test-reliability` makes all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.reliability import kinds, million, pages
from tests.reliability.campaigns import Campaigns
from tests.reliability.kinds import Kind
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


def test_damaged_files(campaigns: Campaigns, tmp_path: Path) -> None:
    tally = mutations(kinds.of_run(campaigns.whole), tmp_path, 200)
    assert_right(tally, 200)
    assert tally.refused > 100


def test_damaged_files_of_data(tmp_path: Path) -> None:
    tally = mutations(kinds.of_data(tmp_path / "data"), tmp_path, 80)
    assert_right(tally, 80)
    assert tally.refused > 20


ALLOCATE: dict[str, Callable[[int], object]] = {
    "Python": bytearray,
    "NumPy": lambda size: np.ones(size, np.uint8),
    "PyTorch": lambda size: torch.ones(size, dtype=torch.uint8),
    "PyTorch, unused": lambda size: torch.empty(size, dtype=torch.uint8),
}
MOST = {**dict.fromkeys(ALLOCATE, 64 << 20), "PyTorch, unused": 1 << 30}


@pytest.mark.parametrize("library", ALLOCATE)
def test_a_reader_that_believes_a_length_is_found(library: str, tmp_path: Path) -> None:
    """The first eight bytes say how many there are; in a damaged file that is any number."""

    def read() -> None:
        raw = path.read_bytes()
        ALLOCATE[library](min(int.from_bytes(raw[:8], "little"), MOST[library]))
        if len(raw) != 1000 or any(raw[8:]):
            raise ValueError(f"{path} is damaged")

    path = tmp_path / "file"
    path.write_bytes((1000).to_bytes(8, "little") + bytes(992))
    tally = mutations([Kind("file", path, read, lambda _, __: True)], tmp_path, 60)
    assert tally.wrong
    assert all("are allowed" in problem for problem in tally.wrong)


def test_memory_that_is_taken_once_is_an_allocators(tmp_path: Path) -> None:
    """A file that took too much is read again; here that happens for the first damaged file alone."""

    def read() -> None:
        if any(raw := path.read_bytes()) or len(raw) != 1000:
            if not (tmp_path / "taken").exists():
                (tmp_path / "taken").touch()
                np.ones(64 << 20, np.uint8)
            raise ValueError(f"{path} is damaged")

    path = tmp_path / "file"
    path.write_bytes(bytes(1000))
    tally = mutations([Kind("file", path, read, lambda _, __: True)], tmp_path, 20)
    assert (tmp_path / "taken").exists()
    assert_right(tally, 20)


def test_hostile_names(browser: Any) -> None:
    assert_right(pages.opened(browser, every=3), 14)


def test_a_long_stream_that_is_killed(tmp_path: Path) -> None:
    tally = million.run(10_000, tmp_path, every=5_000)
    assert_right(tally, 1)
    assert tally.note.startswith("10,000 steps")
