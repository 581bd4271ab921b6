"""Facts: what a task has learned from its training data, so that a model can be used where those data are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Self, cast

from reminding.tasks.kinds.base import Batch
from reminding.tasks.kinds.tallies import Tally

DATA = "data"
"""The entry of the facts that holds of the training files alone, such as their number of steps."""


class Informed:
    """A task that can be restored from its options and its facts, without its files.

    A task that learns nothing from its files has no facts. Any other overrides `learn` and `files`, and reads its own
    `_facts` first.
    """

    _facts: Mapping[str, Any] | None = None  # no field: this class is no dataclass

    def facts(self) -> dict[str, Any]:
        """Return everything learned from the training data that a model or a metric needs, as JSON values.

        Raises:
            FileNotFoundError, ValueError: the data have not been read yet, and are missing or cannot be read.
        """
        known: Mapping[str, Any] | None = self._facts
        return self.learn() if known is None else dict(known)

    def learn(self) -> dict[str, Any]:
        """Read the facts from the training data; {} if there are none."""
        return {}

    def with_facts(self, facts: Mapping[str, Any]) -> Self:
        """Return the same task with these facts. It needs its files for batches alone."""
        informed = object.__new__(type(self))
        for field in fields(self):  # pyright: ignore[reportArgumentType]
            object.__setattr__(informed, field.name, getattr(self, field.name))
        object.__setattr__(informed, "_facts", dict(facts))
        return informed

    def for_new_data(self) -> Self:
        """Return the same task for other files, whose whole content is evaluated as the training data were read."""
        return self.with_facts({name: value for name, value in self.facts().items() if name != DATA})

    def changed(self, **options: Any) -> Self:
        """Return the task with other options and the same facts."""
        other = cast("Self", replace(cast("Any", self), **options))
        return other if self._facts is None else other.with_facts(self._facts)

    def files(self) -> dict[str, Path]:
        """Return the files of the training data by name, whose content a resumed run checks.

        A task of published data has none: their checksums are known.
        """
        return {}

    def unread(self) -> dict[str, str]:
        """Return the options that mean nothing beside the others; see `Task.unread`."""
        return {}

    def count_targets(self, batch: Batch) -> int:
        """Return the number of sequences, each of which has as many targets; see `Task.count_targets`."""
        return batch.input.shape[1]

    def tally(self) -> Tally | None:
        """Return a tally of errors that says more than the metrics; None if there is none."""
        return None

    @property
    def new_data(self) -> bool:
        """Whether the files are not those that the facts are of."""
        return self._facts is not None and DATA not in self._facts
