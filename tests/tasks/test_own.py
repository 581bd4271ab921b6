"""Users' sequences, read in the way in which a task reads its data."""

from __future__ import annotations

from pathlib import Path

import torch

from reminding.tasks import Series
from reminding.tasks.own import read_own


def test_own_series_is_standardised_as_in_training(tmp_path: Path) -> None:
    rows = ["\t".join([label, *(str(i * scale) for i in range(5))]) for label in "ab" for scale in (1, 2, 3, 4, 5)]
    (tmp_path / "all.txt").write_text("\n".join(rows))
    task = Series(tmp_path / "all.txt", frame=2)
    (tmp_path / "mine.txt").write_text("0 2 4 6 8")  # like the second of each class, which is in the training split
    own = read_own(task, tmp_path / "mine.txt")
    assert own.target is None
    torch.testing.assert_close(own.input, task.examples("train").batch(torch.tensor([1])).input)
