"""Modules that have moved: their old names lead to where they are now, with a DeprecationWarning.

An old name is kept for two minor versions after the one that moved it (CONTRIBUTING.md, "Deprecation").
"""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {
    "reminding.nn.cells": "reminding.nn.parts.cells",
    "reminding.nn.memory": "reminding.nn.parts.memory",
    "reminding.nn.runner": "reminding.nn.layer.choice",
    "reminding.nn.sab": "reminding.nn.layer.sab",
    "reminding.lab.config": "reminding.lab.runs.config",
    "reminding.lab.trainer": "reminding.lab.train.trainer",
    "reminding.lab.checkpoint": "reminding.lab.runs.checkpoint",
    "reminding.lab.model": "reminding.lab.runs.model",
    "reminding.lab.evaluate": "reminding.lab.train.evaluate",
    "reminding.lab.effort": "reminding.lab.train.effort",
    "reminding.lab.tables": "reminding.lab.show.tables",
    "reminding.lab.legend": "reminding.lab.explain.legend",
    "reminding.lab.explain_page": "reminding.lab.explain.page",
    "reminding.lab.occlusion": "reminding.lab.explain.occlusion",
    "reminding.lab.plots": "reminding.lab.show.plots",
}
"""Old module names that documentation has named, since version 0.1, and the present ones."""


class _Finder(MetaPathFinder, Loader):
    """Finds the old names of `MOVED`."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        new = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} is now {new}", DeprecationWarning, stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(new)


def install() -> None:
    """Make the old names importable."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
