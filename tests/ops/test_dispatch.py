"""Which backend runs, and what is told when one cannot."""

from __future__ import annotations

import re

import pytest
import torch

from reminding.ops import BACKENDS, choose_backend

CPU = torch.device("cpu")


def test_the_reference_runs_everywhere() -> None:
    assert choose_backend("reference", CPU) == "reference"
    assert choose_backend("reference", torch.device("meta")) == "reference"


def test_auto_takes_the_first_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    def can(device: torch.device) -> str | None:
        return None if device.type == "cpu" else f"not on {device.type}"

    monkeypatch.setitem(BACKENDS, "cpu", can)
    assert choose_backend("auto", CPU) == "cpu"
    assert choose_backend("auto", torch.device("meta")) == "reference"
    assert list(BACKENDS)[-1] == "reference", "the slowest is asked last"


@pytest.mark.parametrize("name", ["cpu", "cuda"])
def test_an_explicit_choice_never_falls_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(device: torch.device) -> str:
        return f"there is no {device.type} compiler"

    monkeypatch.setitem(BACKENDS, name, cannot)
    with pytest.raises(ValueError, match=f"backend='{name}' cannot run: there is no cpu compiler; backend='auto'"):
        choose_backend(name, CPU)


def test_an_unknown_backend_is_named() -> None:
    known = ["auto", *BACKENDS]
    with pytest.raises(ValueError, match=re.escape(f"backend must be one of {known}, got 'tpu'")):
        choose_backend("tpu", CPU)
