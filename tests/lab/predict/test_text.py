"""Prompts: the bytes of a text that is to be continued."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import reminding
from reminding.tasks import PTB, FileStream
from tests.lab.predict.test_predictor import informed_run


def test_a_prompt_is_read_as_it_was_typed_or_refused(tmp_path: Path) -> None:
    predictor = reminding.load(informed_run(tmp_path / "book", PTB()))
    with pytest.raises(ValueError, match=r"b'\\xff' at character 0, expected one of the 50 symbols"):
        predictor.sample(os.fsdecode(b"\xff"))  # as a command line gives a byte that is no UTF-8
    with pytest.raises(ValueError, match="prompt must be text that UTF-8 can write"):
        predictor.sample("\ud800")
    with pytest.raises(ValueError, match="value must be text that UTF-8 can write"):
        predictor.stepper().step("\ud800")


def test_a_character_of_several_bytes_is_stepped_through_byte_by_byte(tmp_path: Path) -> None:
    """It was refused as no character."""
    (tmp_path / "book.txt").write_text("Grüße aus Köln. " * 200, encoding="utf-8")
    task = FileStream(tmp_path / "book.txt", chunk=20, held_out=40, eval_rows=2)
    stepper = reminding.load(informed_run(tmp_path / "run", task)).stepper()
    with pytest.raises(ValueError, match=r"one character, got 'ü' of 2 bytes, which are given one at a time$"):
        stepper.step("ü")
    shares = [stepper.step(bytes([byte])) for byte in "ü".encode()]
    assert stepper.steps == 2 and [len(each) for each in shares] == [256, 256]
