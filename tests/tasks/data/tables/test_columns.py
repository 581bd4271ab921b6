"""Columns that cannot be used are refused with what can be done."""

from __future__ import annotations

from pathlib import Path

import pytest

from reminding.tasks.data.tables import TableSource, Wanted

REFUSED = {
    "1,2\n3,4\n": ("P", "columns: .* has no 'P'; it has 0, 1; its header line.* may be missing"),
    '"a, b",b\n1,2\n': ("c", "columns: .* has no 'c'; it has 'a, b', b$"),
    "a,b\n1,on\n2,off\n": ("b", "'on' is not a number, .*; the column holds text alone; write numbers in its place"),
}


@pytest.mark.parametrize(("text", "refused"), REFUSED.items(), ids=REFUSED)
def test_what_can_be_done_is_said(tmp_path: Path, text: str, refused: tuple[str, str]) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=refused[1]):
        TableSource(tmp_path / "a.csv", Wanted(columns=(refused[0],)))
