"""The installed package can be imported from anywhere, even from the folder that contains a clone of it."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

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


def test_the_pinned_packages_install_on_the_oldest_python_of_every_minor_version() -> None:
    """A package may ask for 3.11.5, and Debian 12 has 3.11.2."""
    declared = SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    pythons = [f"3.{minor}.0" for minor in range(11, 14)]
    assert all(map(declared.contains, pythons))
    pins = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert len(pins) > 50
    installed = {name: metadata.distribution(name) for name in pins if _is_installed(name)}
    assert len(installed) > 50
    for name, package in installed.items():
        asked = SpecifierSet(package.metadata["Requires-Python"] or "")
        refused = [python for python in pythons if not asked.contains(python)]
        assert not refused, f"{name} {package.version} asks for Python {asked}: it does not install on {refused}"


def test_the_oldest_scikit_learn_that_is_asked_for_has_what_the_estimators_import() -> None:
    """Before 1.6 it has no validate_data, and they said that scikit-learn was missing."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (asked,) = (each for each in map(Requirement, extras["estimators"]) if each.name == "scikit-learn")
    assert list(asked.specifier.filter(["1.4.0", "1.5.2", "1.6.0", "1.9.1"])) == ["1.6.0", "1.9.1"]


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True
