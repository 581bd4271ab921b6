"""Predictions one step at a time, for serving: the state is carried from call to call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.lab.predict.forecast import Scaling
from reminding.lab.predict.given import numbers_of, row_of, table_values, without_sentinels
from reminding.lab.predict.text import is_text, symbols_of, tokens_of
from reminding.lab.runs.model import SequenceModel
from reminding.tasks import FileStream
from reminding.tasks.data.tables.store import carried
from reminding.tasks.files.labelled import LabelledTask


class PredictionStepper:
    """One stream, read a step at a time.

    Attributes:
        steps: number of steps read.
        state: of the layer, after them; None before the first.

    Raises:
        ValueError: the run reads spectra, which are known at the end of a series only.
    """

    def __init__(self, model: SequenceModel, task: Any) -> None:
        _refuse_spectra(task)
        self._model, self._task = model, task
        self._device = next(model.parameters()).device
        self._scaling = Scaling(task) if isinstance(task, FileStream) and task.vocabulary is None else None
        self.steps = 0
        self.state: Any = None
        self._before: NDArray[np.float64] | None = None

    def step(self, value: Any) -> dict[str, float]:
        """Read one step.

        Args:
            value: of a table, a row: a mapping of column names, or values in the order of the columns, NaN (or a
                number of --na) where one is missing and the run was trained with --missing carry or zero; with
                --missing drop, such a row is not to be given. Of text, one character; where it was read by bytes, one
                byte of it, as bytes. Of labelled series, the values of one frame.

        Returns:
            of a table the prediction of the next row, column -> value in its own unit; of text the probability of
            each next character; of labelled series the probability of each class so far.

        Raises:
            ValueError: the value does not fit; the message says how.
        """
        with torch.no_grad():
            prediction, self.state, _ = self._model(self._input(value).to(self._device), self.state)
        self.steps += 1
        if self._scaling is not None:
            own = self._scaling.own(prediction[0, 0])
            return dict(zip(self._task.targets, own.tolist(), strict=True))
        shares = prediction[0, 0].double().softmax(-1).tolist()
        if is_text(self._task):
            names = [bytes([byte]).decode("latin1") for byte in symbols_of(self._task)]
            return dict(zip(names, shares, strict=True))
        return dict(zip(self._task.classes, shares, strict=True))

    def reset(self) -> None:
        """Begin a new stream."""
        self.state, self.steps, self._before = None, 0, None

    def _input(self, value: Any) -> Tensor:
        """One step in the form that the model reads, (1, 1) tokens or (1, 1, I)."""
        task = self._task
        if self._scaling is not None:
            return self._row(self._scaling, value)
        if is_text(task):
            tokens = tokens_of(task, value, "value")
            if len(tokens) != 1:
                bytewise = f" of {len(tokens)} bytes, which are given one at a time" if len(value) == 1 else ""
                raise ValueError(f"value must be one character, got {value!r}{bytewise}")
            return torch.as_tensor(tokens).unsqueeze(1)
        assert isinstance(task, LabelledTask)
        values = numbers_of(value, "value").reshape(-1)
        dimensions = task.form.dimensions
        if len(values) != task.frame * dimensions:
            raise ValueError(f"value must have {task.frame * dimensions} values, those of a frame, got {len(values)}")
        task.form.check_samples(values, "value")
        values = values.reshape(-1, dimensions)  # (n, D)
        frame = replace(task.form.cut, steps=1).prepared(values, "value", self._before)
        self._before = carried(values, self._before)[-1]
        return torch.as_tensor(frame).unsqueeze(1)

    def _row(self, scaling: Scaling, value: Any) -> Tensor:
        """A row of a table as the model reads it, (1, 1, I). A missing value may be carried from the last row."""
        task = self._task
        given = without_sentinels(row_of(value, task.column_names, "value"), task.na)
        if task.missing == "drop" and np.isnan(given).any():
            names = ", ".join(np.array(task.column_names)[np.isnan(given[0])])
            raise ValueError(
                f"value: {names} is missing; the run was trained with --missing drop: leave out this row"
            )
        found = table_values(given, task.column_names, "value", missing=task.missing in ("carry", "zero"))
        row = task.filled(found)[0]
        row = row if self._before is None else scaling.carried(row, self._before)
        self._before = row
        return scaling.scaled(row[None])


def _refuse_spectra(task: Any) -> None:
    if isinstance(task, LabelledTask) and task.spectrum:
        raise ValueError(
            "stepper is not for runs with spectrum, which is relative to the mean power of a whole series"
        )
