"""A trial or two of every way; `python -m tests.reliability.together` makes fifty."""

from __future__ import annotations

import pytest

from tests.reliability.together import WAYS, run


@pytest.mark.parametrize("way", WAYS)
def test_streams_give_what_they_give_alone(way: str) -> None:
    trials = 2 if "threads" in way else 1
    found, problems = run(way, trials)
    assert problems == []
    assert found["right"] == trials
