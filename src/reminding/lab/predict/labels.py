"""Labels with their probabilities, of series and images.

Shapes: N sequences, n values of a series, T steps, I values per step, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reminding.lab.predict.given import series_of
from reminding.lab.runs.model import SequenceModel
from reminding.tasks.data.audio import SUFFIXES, audio_files
from reminding.tasks.data.labelled.files import read_series
from reminding.tasks.files.labelled import Form, LabelledTask
from reminding.tasks.kinds.classification import PixelClassification
from reminding.tasks.own import array_of_file, read_own

BATCH = 100
"""Sequences per batch."""


def sequences_of(task: Any, data: Any) -> tuple[list[NDArray[np.float32]], list[str] | None]:
    """The sequences that a user gives, each (T, I) as the model reads it, and the names of their files.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: the data cannot be read as the task's; the message says why.
    """
    if isinstance(data, str | Path):
        return _of_path(task, Path(data))
    return _of_arrays(task.form, data) if isinstance(task, LabelledTask) else _images(task, data), None


def _of_path(task: Any, path: Path) -> tuple[list[NDArray[np.float32]], list[str] | None]:
    if not path.exists():
        raise FileNotFoundError(f"data: there is no file or folder {path}")
    if not isinstance(task, LabelledTask):
        return [read_own(task, path).input[:, 0].numpy()], [path.name]
    form = task.form
    if path.is_dir():
        files = audio_files(path)
        if not files:
            raise FileNotFoundError(f"data: there is no audio file in {path}, such as {', '.join(SUFFIXES[:2])}")
        return [_of_audio(form, file) for file in files], [file.relative_to(path).as_posix() for file in files]
    if path.suffix.lower() in SUFFIXES:
        return [_of_audio(form, path)], [path.name]
    if path.suffix.lower() == ".npy":
        return _of_arrays(form, array_of_file(path)), None
    found = read_series(path, unlabelled=True)
    for one in found:
        form.class_of(one)
    return [form.prepared(one.values, one.where) for one in found], None


def _of_arrays(form: Form, data: Any) -> list[NDArray[np.float32]]:
    series = series_of(data, form.dimensions, missing=form.cut.missing != "error")
    return [form.prepared(each) for each in series]


def _of_audio(form: Form, path: Path) -> NDArray[np.float32]:
    return form.prepared(form.recording(path), str(path))


def _images(task: PixelClassification, data: Any) -> list[NDArray[np.float32]]:
    values = np.asarray(data, np.float32)
    steps, features = task.shape
    if not values.size or values.size % (steps * features):
        raise ValueError(f"data must be images of {steps} steps of {features} values, got shape {np.shape(data)}")
    values = values.reshape(-1, steps, features)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
        raise ValueError(f"data must be from 0 to 1, got {values.min():g} to {values.max():g}")
    return list(values)


def probabilities(model: SequenceModel, sequences: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """The probability of each class at the end of each sequence, (N, C)."""
    device = next(model.parameters()).device
    found: list[NDArray[np.float64]] = []
    with torch.no_grad():
        for _, same in groupby(sequences, key=len):  # neighbours of one length, so that none is padded further
            members = list(same)
            for first in range(0, len(members), BATCH):
                batch = np.stack(members[first : first + BATCH], axis=1)  # (T, N, I)
                logits = model(torch.as_tensor(batch, device=device))[0][-1]
                found.append(logits.double().softmax(-1).cpu().numpy())
    return np.concatenate(found)
