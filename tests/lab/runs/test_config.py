"""The options of a run."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.conftest import small


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("steps", 0),
        ("batch_size", 0),
        ("eval_every", 0),
        ("patience", 0),
        ("lr", 0.0),
        ("clip", -1.0),
        ("seed", -1),
        ("max_seconds", 0.0),
        ("anneal", 1.5),
    ],
)
def test_options_out_of_range_are_named(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{option} must be"):
        small(**{option: value})
