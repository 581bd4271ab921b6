"""Years that are written with the next one, such as 2000-01 or 2024/2025: seasons, financial years, school years.

They are not read: 2000-01 is a month, and so are all of a column, at 13 months from one to the next.

Shapes: n times.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

ADVICE = "; if it stands for two years, write the first one alone, such as 2024"
_TWO = re.compile(r"'?([0-9]{4}) ?[-/\u2013] ?((?:[0-9]{2})?[0-9]{2})'?")


def is_season(text: str) -> bool:
    """Whether a text, perhaps in quotation marks, holds a year and the next one."""
    found = _TWO.fullmatch(text)
    return found is not None and str(int(found[1]) + 1).endswith(found[2])


def are_seasons(times: NDArray[Any]) -> bool:
    """Whether months (n,), at least two, may all be years with the next one; no calendar goes on by 13 months."""
    if len(times) < 2 or times.dtype.kind != "M":
        return False
    months = times.astype("datetime64[M]").astype(np.int64)
    return bool(((months // 12 + 1971) % 100 == months % 12 + 1).all())
