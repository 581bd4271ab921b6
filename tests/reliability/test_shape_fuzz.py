"""Some drawn calls; `python -m tests.reliability.shape_fuzz` makes thousands."""

from __future__ import annotations

import pytest

from tests.reliability.shape_fuzz import WAYS, run

DRAWS = 30


def test_drawn_calls_are_the_references_on_every_backend(capsys: pytest.CaptureFixture[str]) -> None:
    found = run(seed=1, first=0, draws=DRAWS, longest=12)
    assert found["wrong"] == 0, capsys.readouterr().out
    assert found["tried"] == DRAWS * len(WAYS)
    assert found["right"] > found["tried"] / 2
