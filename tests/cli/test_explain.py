"""The command `reminding explain`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reminding.cli import main
from reminding.lab.explain.occlusion import ORDERS
from reminding.tasks import Digits
from tests.lab.explain.conftest import copying as copying
from tests.lab.explain.conftest import untrained


def test_the_command_writes_a_page_and_says_what_it_shows(
    copying: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["explain", str(copying), "--sequence", "0", "4", "--at", "12", "--out", str(tmp_path / "page")])
    said = capsys.readouterr().out
    assert "test sequence 4: shares of the credit of the loss at step 12: the memory of step" in said
    assert (tmp_path / "page" / "index.html").is_file()
    assert (tmp_path / "page" / "credit-test-sequence-4.png").is_file()
    main(["explain", str(copying), "--sequence", "1"])
    assert (copying / "explain" / "index.html").is_file()


def test_what_blanking_does_is_shown_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits = untrained(tmp_path / "digits", Digits(), k_trunc=4, k_top=3)
    out = tmp_path / "explained"
    main(["explain", str(digits), "--sequence", "0", "--occlude", "12", "--out", str(out)])
    printed = " ".join(capsys.readouterr().out.split())
    page = (out / "index.html").read_text(encoding="utf-8")
    record = json.loads((out / "occlusion.json").read_text(encoding="utf-8"))
    for name in ORDERS.values():
        assert name in printed
        assert name in page
    assert "12 test sequences" in printed
    assert record["sequences"] == 12
    assert set(record["blanked"]) == set(ORDERS)
    assert (out / "occlusion.png").stat().st_size > 10_000
