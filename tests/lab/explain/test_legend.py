"""The legend for the values of a sequence."""

from __future__ import annotations

import numpy as np

from reminding.lab.explain.legend import from_mu_law
from reminding.tasks.data.sources import mu_law


def test_mu_law_is_undone() -> None:
    levels = np.arange(256)
    assert (mu_law(from_mu_law(levels)) == levels).all()
