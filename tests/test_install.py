"""The installed package can be imported from anywhere, even from the folder that contains a clone of it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from reminding.moved import MOVED

ROOT = Path(__file__).parent.parent


def test_it_is_imported_in_the_folder_beside_a_clone(tmp_path: Path) -> None:
    """Python searches the current folder first, and the folder of the clone is also called `reminding`."""
    (tmp_path / "reminding").symlink_to(ROOT, target_is_directory=True)
    script = tmp_path / "script.py"
    script.write_text("from reminding import SAB\nprint(SAB(2, 3).hidden_size)\n")
    for words in ([str(script)], ["-c", script.read_text()]):
        ran = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout == "3\n"


@pytest.mark.parametrize("old", MOVED)
def test_a_module_that_has_moved_is_still_imported_by_its_old_name(old: str) -> None:
    new = importlib.import_module(MOVED[old])
    before = new.__spec__
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {MOVED[old]}"):
        assert importlib.import_module(old) is new
    assert new.__spec__ is before, "the module still knows itself by its present name"
