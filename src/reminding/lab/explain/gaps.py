"""The missing values of a file that the network cannot tell from measured ones, since none was missing in training.

Shapes: T time, n frames of a step, D values of a frame.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reminding.tasks.files.labelled import LabelledTask
from reminding.tasks.filestream import FileStream
from reminding.tasks.own import read_own


class Gaps(NamedTuple):
    """What is missing in a file.

    Attributes:
        absent: whether each value is, (T, n, D).
        target: the target of each step, nan where it is missing; None: it is not known.
    """

    absent: NDArray[np.bool_]
    target: Tensor | None


def gaps_of(task: Any, path: Path, start: int, steps: int | None, number: int | None) -> Gaps | None:
    """The missing values of a file; None if each column in which the task fills them has a mask.

    Args:
        start, steps, number: as for `read_own`.
    """
    if isinstance(task, FileStream) and task.vocabulary is None:
        columns = task.column_names
        if task.missing in ("error", "drop") or len(task.masks) == len(columns):
            return None
        with_masks, count = task.with_facts({**task.facts(), "masks": list(columns)}), len(columns)
    elif isinstance(task, LabelledTask) and task.filling() != "error" and not task.form.cut.masked:
        with_masks, count = task.with_facts({**task.facts(), "masked": True}), task.form.dimensions
    else:
        return None
    own = read_own(with_masks, path, start, steps, number)
    input = own.input[:, 0].numpy()
    masks: NDArray[Any] = input.reshape(len(input), -1, 2 * count)[..., count:]
    return Gaps(masks > 0, own.target)
