"""Training on streams works with Lightning as documented."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore")
def test_a_stream_trains_and_credit_crosses_its_chunks(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lightning")
    runpy.run_path(str(ROOT / "docs" / "howto" / "lightning_stream.py"), run_name="__main__")
    printed = capsys.readouterr().out.splitlines()[-1]
    assert float(printed.split("%")[0]) > 80, printed
