"""Runs for the tests of the command line."""

from __future__ import annotations

from tests.lab.conftest import finished as finished
