"""Hypothesis draws the same examples in every run, or new ones in `make test-all`; all tests share one browser."""

from __future__ import annotations

import os

from hypothesis import settings

from tests.lab.browser import browser as browser

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("anew", deadline=None, derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("REMINDING_EXAMPLES", "same"))
