"""How many examples hypothesis draws."""

from __future__ import annotations

import os

from hypothesis import settings

WHOLE = os.environ.get("REMINDING_EXAMPLES", "same") == "anew"
"""Whether all tests run, with examples drawn anew (`make test-all`)."""
SHARE = 3


def drawn(most: int) -> settings:
    """Settings of a test that draws up to so many examples in `make test-all`, and a third of them in `make test`."""
    return settings(max_examples=most if WHOLE else most // SHARE)
