"""The runs that the command line is tried on."""

from __future__ import annotations

from tests.lab.conftest import finished as finished
