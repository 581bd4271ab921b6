"""Numbers that are not finite end a run, with the place where they were found."""

from __future__ import annotations

from reminding.tasks import Batch


class NotFiniteError(ValueError):
    """A batch, a loss or a gradient was NaN or infinite."""


def check_input(batch: Batch, number: int) -> None:
    """Refuse a batch whose input is not finite.

    Raises:
        NotFiniteError: names the update, and the first bad step (counted from 1) and row.
    """
    if not batch.input.is_floating_point() or bool(batch.input.isfinite().all()):
        return
    bad = (~batch.input.isfinite()).flatten(2).any(2).nonzero()  # (n, 2), by time first
    step, row = (int(index) for index in bad[0])
    value = batch.input[step, row][~batch.input[step, row].isfinite()][0]
    raise NotFiniteError(
        f"update {number}: input holds {float(value)} at step {step + 1} of sequence {row} of the batch"
    )
