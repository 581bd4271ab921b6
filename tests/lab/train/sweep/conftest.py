"""Storages of every kind, and the options of a small sweep."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from reminding.lab.runs.config import ModelOptions
from reminding.lab.train.sweep.space import Space
from reminding.lab.train.sweep.storage import Study
from reminding.tasks import Copying

SPACE = """
[lr]
low = 1e-3
high = 1e-1
log = true

[hidden-size]
low = 4
high = 16
step = 4

[normalizer]
choice = ["None", "softmax1"]
"""
FIXED = [
    *("--T", "4", "--symbols", "2", "--steps", "6", "--eval-every", "2", "--k-trunc", "3", "--batch-size", "4"),
    *("--eval-sequences", "8", "--test-sequences", "8", "--device", "cpu"),
]
"""The options of a run of a few milliseconds."""
NUMBERS = count()


@pytest.fixture
def space_file(tmp_path: Path) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(SPACE)
    return path


@pytest.fixture
def space(space_file: Path) -> Space:
    return Space.read(space_file, Copying, ModelOptions)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a PostgreSQL server of the tests' own, which listens on a socket alone."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    found = shutil.which("pg_ctl") or (str(programs[-1]) if programs else None)
    if found is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg")
    control = str(Path(found).resolve())
    owner = "postgres" if os.geteuid() == 0 else getpass.getuser()  # PostgreSQL refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    shutil.chown(folder, owner)
    data, log = folder / "data", folder / "log"
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "cwd": folder, "check": True}
    if os.geteuid() == 0:
        quiet["user"] = pwd.getpwnam(owner).pw_uid
    initialize = [control, "-D", data, "-o", f"--auth=trust --username={owner} --no-sync", "initdb"]
    subprocess.run(initialize, **quiet)
    settings = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    subprocess.run([control, "-w", "-D", data, "-l", log, "-o", settings, "start"], **quiet)
    yield f"postgresql://{owner}@/postgres?host={quote(str(folder), safe='')}"
    subprocess.run([control, "-w", "-D", data, "-m", "immediate", "stop"], **quiet)
    shutil.rmtree(folder)


@pytest.fixture(params=["journal", "sqlite", "postgres"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty storage of each kind; that of PostgreSQL holds the studies of other tests."""
    if request.param == "postgres":
        return request.getfixturevalue("postgres")
    return f"sqlite:///{tmp_path}/studies.db" if request.param == "sqlite" else str(tmp_path / "journal.log")


@pytest.fixture
def study_of() -> Iterator[Callable[[str], Study]]:
    """Makes new studies in a storage, and closes them in the end."""
    made: list[Study] = []

    def make(storage: str) -> Study:
        made.append(Study(storage, f"study-{os.getpid()}-{next(NUMBERS)}", maximize=True))
        return made[-1]

    yield make
    for each in made:
        each.close()
