"""The lock of a folder: one living process at a time, and none after its death."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reminding.disk import lock
from reminding.disk.errors import FolderInUseError
from reminding.disk.lock import check_held, holder, locked

HOLD = """
import sys, time
from pathlib import Path
from reminding.disk.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_refused_by_name_until_the_first_has_ended(tmp_path: Path) -> None:
    with locked(tmp_path):
        name = f"process {os.getpid()} on {platform.node()}"
        with pytest.raises(FolderInUseError, match=f"is in use by {name}: wait until it ends"), locked(tmp_path):
            pass
        assert holder(tmp_path) == name
    assert holder(tmp_path) is None
    with locked(tmp_path):
        pass


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(FolderInUseError, match=f"process {process.pid} on"), locked(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
    with locked(tmp_path):
        assert holder(tmp_path) is not None


def test_where_there_are_no_locks_the_named_process_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object, **__: object) -> None:
        raise OSError(next(iter(lock._NO_LOCKS)), "not supported")  # pyright: ignore[reportPrivateUsage]

    monkeypatch.setattr(lock, "_lock", unsupported)
    path = tmp_path / lock.LOCK_NAME
    for text, free in (
        ("", True),
        (f"process {2**22 + 1} on {platform.node()}\n", True),
        (f"process 1 on {platform.node()}\n", False),
        ("process 1 on another_host\n", False),
    ):
        path.write_text(text)
        assert (holder(tmp_path) is None) == free, text


def test_a_folder_that_another_process_has_begun_in_the_place_of_ones_own_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder):
        check_held(folder)
        folder.rename(tmp_path / "moved")
        check_held(folder)  # nothing is there
        folder.mkdir()
        with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            with pytest.raises(FolderInUseError, match="is another process's folder by now"):
                check_held(folder)
            process.kill()
    check_held(folder)
