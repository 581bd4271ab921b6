"""`reminding.load`: a trained run as an object that predicts, without its training data.

Shapes: T rows, N sequences, S steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from reminding import checks
from reminding.checks import at_least, at_least_zero
from reminding.lab.predict import hub
from reminding.lab.predict.forecast import Rows, rows_of
from reminding.lab.predict.frames import index_of, labels_frame, names_index
from reminding.lab.predict.given import names_of
from reminding.lab.predict.horizon import HorizonForecast, horizon_forecast
from reminding.lab.predict.labels import probabilities, sequences_of
from reminding.lab.predict.stepper import PredictionStepper
from reminding.lab.predict.text import is_text, sample_tokens, symbols_of, tokens_of
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.machine import choose_device
from reminding.lab.runs.model import SequenceModel
from reminding.tasks import FileStream
from reminding.tasks.files.labelled import LabelledTask
from reminding.tasks.kinds.classification import PixelClassification

MOST_ROWS = 10_000_000
"""The longest forecast or text: each row follows from the one before, and all are kept."""


@dataclass(frozen=True)
class Predictor:
    """A trained run.

    Attributes:
        config: task, model and training, as in config.json.
        model: encoder, layer and readout, in evaluation mode.
    """

    config: RunConfig
    model: SequenceModel

    @property
    def layer(self) -> nn.Module:
        """The recurrent layer."""
        return self.model.layer

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a table that are read, in the order in which an array must have them."""
        task = self.config.task
        return task.column_names if isinstance(task, FileStream) else ()

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns that are predicted."""
        task = self.config.task
        return task.targets if isinstance(task, FileStream) else ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The known inputs, which are columns that are read and not predicted."""
        return tuple(name for name in self.columns if name not in self.targets)

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels that are predicted."""
        task = self.config.task
        return task.classes if isinstance(task, LabelledTask | PixelClassification) else ()

    def predict(self, data: Any, steps: int = 1, *, future: Any = None, context: int | None = None) -> Any:
        """Predict the next rows of a table, or the labels of series or images.

        Args:
            data: of a table, the rows so far: a path, what `opened` gives, a pandas, polars or Arrow table, whose
                columns are found by name, or an array (T, columns). A missing value is NaN, or a number of --na, and
                is treated as in training. Of labelled series: a path as in training, where the label of a line may
                be ?, a folder of audio files, or arrays, one series a row; samples of sound are from -1 to 1, as in
                files. Of images: an array, values from 0 to 1.
            steps: S, rows to predict. Each is fed back as the input of the next.
            future: a table with the known inputs of the S - 1 rows that follow, if the run has `inputs`. If the run's
                time column is in it, its rows must follow the data, at distances that the data have.
            context: of a table, number of the last rows that are read; None: all, which takes minutes for millions.

        Returns:
            a pandas table. Of a table: the next S rows of the `targets` in their own units. Their index continues the
            run's time column, as `future` does, or the index of a pandas table if that is one of times, by its
            regular step; else it is the row number. Of series: a row for each, with the column
            `label` and one column per class with its probability, indexed by file name, by the index of a pandas
            table, or by number.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the data do not fit, or the run predicts neither columns nor labels; the message says why.
        """
        at_least("steps", steps, 1, MOST_ROWS)
        task = self.config.task
        if self.columns:
            return self.forecast(data, steps, future=future, context=context).predicted
        if not self.classes:
            kind = _kind_of(task) + ("; sample continues a text" if is_text(task) else "")
            raise ValueError(f"predict is for tables, labelled series and images, and this run was trained on {kind}")
        if steps != 1:
            raise ValueError(f"steps must be 1 for labels, got {steps}")
        if future is not None:
            raise ValueError("future must be None for labels, which need no known inputs")
        if context is not None:
            raise ValueError("context must be None for labels, whose sequences are read whole")
        sequences, names = sequences_of(task, data)
        found = probabilities(self.model, sequences)
        if names is not None:
            return labels_frame(self.classes, found, names_index(names, "file"))
        table = data if names_of(data) is not None else None
        return labels_frame(self.classes, found, index_of(table, len(found), "series"))

    def forecast(
        self,
        data: Any,
        steps: int | None = None,
        *,
        future: Any = None,
        held_out: int = 0,
        context: int | None = None,
    ) -> HorizonForecast:
        """Forecast the next rows of a table as `predict` does, with what is needed for a picture and for errors.

            model.forecast("sensors.csv", steps=24).figure("next.png")
            model.forecast("sensors.csv", held_out=24).errors()

        Args:
            data, future, context: as for `predict`.
            steps: rows to predict; None: those that are held out, at least 1.
            held_out: the last rows of the data, which are not read: the forecast begins before them, and is compared
                with them. They also have the known inputs of the forecast, if `steps` is at most held_out + 1.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the data do not fit, or the run was not trained on a table; the message says why.
        """
        at_least("held_out", held_out, 0)
        steps = max(held_out, 1) if steps is None else steps
        at_least("steps", steps, 1, MOST_ROWS)
        task = self.config.task
        if not isinstance(task, FileStream) or not self.columns:
            raise ValueError(f"forecast is for tables, and this run was trained on {_kind_of(task)}")
        rows = data if isinstance(data, Rows) else rows_of(task, data)
        return horizon_forecast(self.model, task, data, rows, steps, future, held_out, context)

    def opened(self, path: str | Path) -> Rows | Path:
        """A file that `predict` takes in the place of its path, so that a table is read once.

        Returns:
            a table's rows; their `reading` says what was read: form, columns, missing values, times. For a run that
            was not trained on a table: the path.

        Raises:
            FileNotFoundError, ValueError: it cannot be read.
        """
        task = self.config.task
        table = isinstance(task, FileStream) and task.vocabulary is None
        return rows_of(task, Path(path)) if table else Path(path)

    def sample(self, prompt: str, length: int = 200, *, temperature: float = 1.0, seed: int = 0) -> str:
        """Continue a text.

        Args:
            prompt: the text that is read first, at least one character.
            length: number of characters, or bytes, to draw.
            temperature: below 1 the probable ones become more probable; 0: always the most probable one.
            seed: of the random numbers.

        Returns:
            the continuation, without the prompt.

        Raises:
            ValueError: the run was not trained on text, or a character of the prompt does not occur in its text.
        """
        at_least("length", length, 1, MOST_ROWS)
        checks.seed("seed", seed)
        at_least_zero("temperature", temperature)
        task = self.config.task
        if not is_text(task):
            raise ValueError(f"sample is for text, and this run was trained on {_kind_of(task)}")
        if not prompt:
            raise ValueError("prompt must have at least one character, got ''")
        drawn = sample_tokens(self.model, tokens_of(task, prompt, "prompt"), length, temperature, seed)
        return np.frombuffer(symbols_of(task), np.uint8)[drawn].tobytes().decode(errors="replace")

    def stepper(self) -> PredictionStepper:
        """Begin a stream that is read one step at a time.

        Raises:
            ValueError: the run was trained neither on a table, nor on text, nor on labelled series.
        """
        task = self.config.task
        if not (self.columns or is_text(task) or isinstance(task, LabelledTask)):
            raise ValueError(f"stepper is for tables, text and labelled series, not for {task.name}")
        return PredictionStepper(self.model, task)

    def save_pretrained(self, folder: str | Path, **options: Any) -> str | None:
        """Save config.json, facts.json and model.safetensors, and a model card, by huggingface_hub's `ModelHubMixin`.

        `load` reads the folder, as it reads a run. Paths of the training data are saved as mere file names.

        Raises:
            ValueError: the folder is that of a run, which could then not be resumed.
        """
        hub.check_no_run(Path(folder))
        return hub.pretrained(self).save_pretrained(folder, **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload what `save_pretrained` saves to the Hugging Face Hub."""
        return hub.pretrained(self).push_to_hub(repo_id, **options)

    @staticmethod
    def from_pretrained(name: str | Path, **options: Any) -> Predictor:
        """Load a folder, or a model of the Hugging Face Hub by its name.

        Args:
            options: revision, cache_dir, force_download, local_files_only and token, as huggingface_hub has them.
        """
        return hub.from_pretrained(name, load, **options)


def _kind_of(task: Any) -> str:
    """What a run was trained on: a task by its name, or the kind of a stream of one's own files."""
    return {"table": "a table"}.get(task.known.kind, task.known.kind) if isinstance(task, FileStream) else task.name


def load(run: str | Path, *, device: str = "cpu") -> Predictor:
    """Load a trained run.

    Args:
        run: its folder; it needs config.json, facts.json and model.safetensors, and no training data.
        device: to compute on; "auto": a GPU if there is one.

    Raises:
        FileNotFoundError: the folder is not a run, or has no weights yet.
        ValueError: a file cannot be read; or the run has code of its own or data that are not here.
    """
    config, model = checkpoint.load_run(Path(run))
    return Predictor(config, model.to(choose_device(device)).eval())
