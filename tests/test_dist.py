"""The contents of the source archive and the wheel; the installed wheel can be imported from anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from reminding.ops import cpu_op
from tests.places import ROOT

pytestmark = pytest.mark.slow  # for the C++ op

PACKAGE = ROOT / "src" / "reminding"
FILES = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
MADE = shutil.ignore_patterns("*.so", "*.egg-info", "__pycache__")
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_{}(sys.argv[1]))"


def built(kind: str, project: Path, out: Path) -> Path:
    """Build an "sdist" or a "wheel" of the project in a folder, without build isolation."""
    words = [sys.executable, "-W", "ignore", "-c", BUILD.format(kind), str(out)]
    ran = subprocess.run(words, cwd=project, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return out / ran.stdout.splitlines()[-1]


def below(folder: Path, *patterns: str) -> set[str]:
    """The files that match some patterns, by their path below src."""
    return {path.relative_to(ROOT / "src").as_posix() for pattern in patterns for path in folder.rglob(pattern)}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, built from a copy of the files under version control."""
    folder = tmp_path_factory.mktemp("archive")
    project = folder / "project"
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, project / name, ignore=MADE)
    for name in FILES:
        shutil.copy(ROOT / name, project)
    return built("sdist", project, folder)


@pytest.fixture(scope="module")
def wheel(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source archive alone."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    (project,) = folder.iterdir()
    return built("wheel", project, folder)


def test_the_source_archive_has_all_that_builds_the_package_and_no_test(archive: Path) -> None:
    with tarfile.open(archive) as packed:
        names = {PurePosixPath(*PurePosixPath(name).parts[1:]).as_posix() for name in packed.getnames()}
    sources = {f"src/{name}" for name in below(PACKAGE, "*.py", "*.h", "*.cpp", "py.typed", "pages/*")}
    assert len([name for name in sources if name.endswith((".h", ".cpp"))]) > 5
    assert sources | set(FILES) <= names
    assert [name for name in names if name.startswith("tests")] == []


def test_the_wheel_has_the_package_its_pages_and_its_op_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
    ops = {name for name in names if name.endswith(".so")}
    assert names - ops == below(PACKAGE, "*.py", "py.typed", "pages/*")
    assert "reminding/lab/show/pages/report.html" in names
    assert len(ops) == (cpu_op.missing() is None)


IMPORT = """
import importlib.metadata
from pathlib import Path
import reminding
from reminding.lab.show.assets import asset
from reminding.ops import cpu_op
print(Path(reminding.__file__).parent)
print(importlib.metadata.version("reminding"))
print(reminding.SAB(2, 3).hidden_size)
assert asset("report.html")
print(cpu_op.missing())
"""


def test_the_installed_wheel_is_imported_beside_a_folder_of_its_name(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    words = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run([sys.executable, *words], check=True)
    (tmp_path / "reminding" / "src").mkdir(parents=True)
    environment = {**os.environ, "PYTHONPATH": str(target)}
    words = [sys.executable, "-c", IMPORT]
    ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert ran.stdout.splitlines() == [str(target / "reminding"), version, "3", str(cpu_op.missing())]
