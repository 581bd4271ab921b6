"""A disk that is too full for the temporary copy of a table."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from reminding.disk.errors import CannotWriteError
from reminding.tasks.data.tables.database import connect
from reminding.tasks.data.tables.store import write
from reminding.tasks.data.text import LeftOut, copy_plain

resource = pytest.importorskip("resource", reason="there are no limits of file sizes")
LIMITED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
from reminding.cli import main
main(["train", "stream", "--data", {data!r}, "--out", {out!r}])
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_named_with_the_variable_that_chooses_another(tmp_path: Path) -> None:
    message = rf"^could not write {tempfile.gettempdir()}: No space left on device; .* TMPDIR to a folder"
    with pytest.raises(CannotWriteError, match=message):
        write([np.zeros((9, 1))], Path("/dev/full"), [0])
    (tmp_path / "a.txt").write_text("1 2\n")
    with pytest.raises(CannotWriteError, match=message):
        copy_plain(tmp_path / "a.txt", "utf-8", 0, LeftOut("", " "), Path("/dev/full"))


@pytest.mark.parametrize("separator", [",", " "])
def test_the_command_line_says_so_and_leaves_nothing(separator: str, tmp_path: Path) -> None:
    """A limit of a file's size stands for a disk that is full; white space asks for a copy of the text, too."""
    data, place = tmp_path / "a.csv", tmp_path / "small"
    data.write_text(f"a{separator}b\n" + "".join(f"{i}{separator}{i + 1}\n" for i in range(3000)))
    place.mkdir()
    script = LIMITED.format(data=str(data), out=str(tmp_path / "run"))
    surroundings = {**os.environ, "TMPDIR": str(place)}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=surroundings, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"reminding: could not write {place}: File too large; ")
    assert ran.stderr.count("\n") == 1
    assert list(place.iterdir()) == []
    assert not (tmp_path / "run").exists()


def test_what_leaves_memory_goes_to_the_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, here = tmp_path / "it's temporary", tmp_path / "here"
    place.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with connect() as connection:
        connection.execute("SET memory_limit = '20MB'")
        sorting = "SELECT i, row_number() OVER (ORDER BY hash(i)) AS r FROM range(3000000) t(i)"
        assert connection.execute(f"SELECT max(r) FROM ({sorting})").fetchone() == (3_000_000,)
        assert [path for path in place.rglob("*") if path.is_file()]
        assert list(here.iterdir()) == []
    assert list(place.iterdir()) == []


def test_another_error_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write([np.zeros((9, 1))], tmp_path / "none" / "a", [0])
