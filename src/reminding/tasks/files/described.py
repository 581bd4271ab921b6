"""Streams of files without the files: the names, scale and targets of their steps.

Shapes: n steps, T steps of a chunk, B batch, I values of a step, C columns or classes that are predicted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.tasks.data.reading import Reading, together
from reminding.tasks.data.scale import Scale
from reminding.tasks.data.sources import Source
from reminding.tasks.data.tables.store import Missing, filled
from reminding.tasks.files.known import Known
from reminding.tasks.files.measured import Measured, far_away
from reminding.tasks.kinds.facts import DATA
from reminding.tasks.kinds.nextstep import NextStep
from reminding.tasks.kinds.tallies import Columns, ColumnTally, last_known

PIECE = 10_000
"""Rows that are looked at together."""


class DescribedStream(NextStep, ABC):
    """Next-step prediction of steps that `known` and `scale` describe."""

    missing: Missing

    @cached_property
    @abstractmethod
    def known(self) -> Known:
        """The kind of the files, and the columns: of a run those that it was begun with."""

    @cached_property
    @abstractmethod
    def measured(self) -> Measured:
        """The statistics of the columns of a table over the training rows."""

    @cached_property
    def scale(self) -> Scale:
        """Mean and deviation of each input of a table, (I,), over the training rows; masks stay as they are."""
        return self.measured.with_masks(len(self.masks))

    @property
    def vocabulary(self) -> int | None:
        """256 for bytes and audio, None for tables."""
        return self.known.vocabulary

    @property
    def input_size(self) -> int:
        """256 tokens, or I: the columns and the masks."""
        return self.vocabulary or len(self.input_names)

    @property
    def output_size(self) -> int:
        """256 tokens, or C: the columns that are predicted."""
        return self.vocabulary or len(self.targets)

    @property
    def unit(self) -> str:
        """The name of a step: "byte", "sample" or "row"."""
        return self.known.unit

    @property
    def column_names(self) -> tuple[str, ...]:
        """The columns that are read, in the order of the inputs; () for tokens."""
        return self.known.columns

    @property
    def masks(self) -> tuple[str, ...]:
        """The columns that have a mask as a further input; () for tokens."""
        return self.known.masks

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the I values of a step of a table: columns, then masks; () for tokens."""
        return self.known.input_names

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the C columns that are predicted, in the order of the predictions; () for tokens."""
        return self.known.targets

    @property
    def target_scale(self) -> Scale:
        """The scale of what is predicted, (C,)."""
        return self.scale.of(self.known.target_places)

    @property
    def continued(self) -> tuple[list[int], NDArray[np.float64]] | None:
        """Where the values of what is predicted stand in the input, and how far, on its scale, they usually change.

        Returns:
            C places, and (C,); None for tokens, and for a run that did not keep the latter.
        """
        places, change = self.known.target_places, None if self.vocabulary else self.measured.change
        return None if change is None else (places, change[places] / self.target_scale.deviation)

    def unit_of(self, column: str) -> str:
        """The unit of a column, if its file named it; else ""."""
        columns = self.facts().get(DATA, {}).get("reading", {}).get("columns", ())
        return next((str(each["unit"]) for each in columns if each["name"] == column), "")

    def reading_of(self, source: Source) -> Reading:
        """What was read of another file, and which columns of a table are far from those of training."""
        if self.vocabulary is not None:
            return source.reading()
        pieces = (source.read(start, start + PIECE) for start in range(0, source.steps(), PIECE))
        return together([source.reading()], self.unlike(pieces))

    def unlike(self, pieces: Iterable[NDArray[np.float64]]) -> list[str]:
        """Which columns of other rows, (n, I) in pieces, are far from those of training, a sentence each."""
        return [
            f"{self.input_names[i]}: its mean is {far} from that of the training data; has it the same unit?"
            for i, far in far_away(self.scale, pieces).items()
        ]

    def prepared(self, values: NDArray[Any]) -> NDArray[Any]:
        """Steps as the model reads them: tokens as they are, values (n, I) on the scale, 0 where one is missing."""
        if self.vocabulary is not None:
            return values
        return np.nan_to_num(self.scale.apply(values), nan=0.0)

    def filled(self, values: NDArray[np.float64], names: Sequence[str] | None = None) -> NDArray[np.float64]:
        """Rows (n, C) with NaN where a value is missing, as a file with these rows is read: (n, I).

        Args:
            names: of the columns; None: those of the data.
        """
        names = self.column_names if names is None else names
        return filled(values, self.missing, [names.index(name) for name in self.masks if name in names])

    def target_of(self, values: NDArray[Any]) -> NDArray[Any]:
        """What is predicted of steps, (..., C), from what is read of them, (..., I): NaN where it is missing."""
        if self.vocabulary is not None:
            return values
        found = np.array(values[..., self.known.target_places])
        masks = self.known.mask_places
        for i, name in enumerate(self.targets):
            if name in masks:
                found[..., i] = np.where(values[..., masks[name]] > 0, np.nan, found[..., i])
        return found

    def unchanged(self, input: Tensor) -> Tensor:
        """See `NextStep.unchanged`. Where a value is missing, the last known one of the chunk, if there is any."""
        present = self._present(input)
        return last_known(present, present.new_full(present.shape[1:], torch.nan))

    def _present(self, input: Tensor) -> Tensor:
        """The present values (T, B, C) of what is predicted, from the input (T, B, I).

        A missing value that was not carried is NaN; so is one before any that could be, which the input has as the
        mean, 0.
        """
        recorded, given = self._recorded(input), input[..., self.known.target_places]
        return recorded if self.missing == "zero" else torch.where(recorded.isnan() & (given == 0), torch.nan, given)

    def _recorded(self, input: Tensor) -> Tensor:
        """As `_present`, but NaN wherever a value is missing."""
        return torch.as_tensor(self.target_of(input.detach().cpu().numpy()), device=input.device)

    def tally(self) -> ColumnTally | None:
        """Errors by column, in its own unit; None for bytes and audio."""
        if self.vocabulary is not None:
            return None
        scale, season = self.target_scale, self.facts()["season"]
        return ColumnTally(Columns(self.targets, self._present, scale.mean, scale.deviation, season, self._recorded))
