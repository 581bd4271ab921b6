"""Points in time as short texts.

Shapes: T time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def time_texts(values: NDArray[Any]) -> tuple[str, ...]:
    """Times as texts, (T,), of points in time, datetime64, or of numbers.

    Points in time have no more digits than they need: no seconds if all are 0, and no hours if all are at midnight.
    """
    if values.dtype.kind != "M":
        return tuple(str(value) if isinstance(value, int) else f"{value:.15g}" for value in values.tolist())
    fine = bool((values.astype("datetime64[us]") != values).any())
    texts = [text.replace("T", " ") for text in np.datetime_as_string(values, unit="ns" if fine else "us").tolist()]
    for ending in (".000000", ":00", " 00:00"):
        if not all(text.endswith(ending) for text in texts):
            break
        texts = [text.removesuffix(ending) for text in texts]
    return tuple(texts)
