"""Prompts: the bytes of a text that is to be continued."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import reminding
from reminding.tasks import PTB
from tests.lab.predict.test_predictor import informed_run


def test_a_prompt_is_read_as_it_was_typed_or_refused(tmp_path: Path) -> None:
    predictor = reminding.load(informed_run(tmp_path / "book", PTB()))
    with pytest.raises(ValueError, match=r"b'\\xff' at character 0, expected one of the 50 symbols"):
        predictor.sample(os.fsdecode(b"\xff"))  # as a command line gives a byte that is no UTF-8
    with pytest.raises(ValueError, match="prompt must be text that UTF-8 can write"):
        predictor.sample("\ud800")
    with pytest.raises(ValueError, match="value must be text that UTF-8 can write"):
        predictor.stepper().step("\ud800")
