"""Hypothesis draws the same examples in every run, or new ones in `make test-all`; all tests share one browser.

Tests press Ctrl-C and close terminals in processes of their own, also where pytest runs in the background of a
script, or under nohup, and ignores that.
"""

from __future__ import annotations

import os
import signal

from hypothesis import settings

from tests.drawn import WHOLE
from tests.lab.browser import browser as browser

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if os.name == "posix":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("anew", deadline=None, derandomize=False, print_blob=True)
settings.load_profile("anew" if WHOLE else "same")
