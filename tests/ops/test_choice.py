"""Which backend runs, and the message when a backend cannot."""

from __future__ import annotations

import re

import pytest

from reminding.ops.backends import choose_backend, names

ABLE: dict[str, str | None] = {"cuda": None, "cpu": None}
UNABLE: dict[str, str | None] = {"cuda": "there is no GPU", "cpu": "there is no compiler"}


@pytest.mark.parametrize("obstacles", [ABLE, UNABLE])
def test_the_reference_runs_everywhere(obstacles: dict[str, str | None]) -> None:
    assert choose_backend("reference", obstacles) == "reference"


def test_auto_takes_the_first_that_can() -> None:
    assert choose_backend("auto", ABLE) == "cuda"
    assert choose_backend("auto", {**ABLE, "cuda": "there is no GPU"}) == "cpu"
    assert choose_backend("auto", UNABLE) == "reference"
    assert names()[-1] == "reference", "the slowest is asked last"


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_an_explicit_choice_never_falls_back(name: str) -> None:
    with pytest.raises(ValueError, match=f"backend='{name}' cannot run: {UNABLE[name]}; backend='auto'"):
        choose_backend(name, UNABLE)


def test_an_unknown_backend_is_named() -> None:
    known = ["auto", *names()]
    with pytest.raises(ValueError, match=re.escape(f"backend must be one of {known}, got 'tpu'")):
        choose_backend("tpu", ABLE)
