"""The verbs `predict` and `sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reminding.cli.parsing import parse, run_folder


def predict(arguments: list[str]) -> None:
    """Forecast a table's next rows, or label series: reminding predict RUN --input FILE [--steps 24] [--out FILE]."""
    folder, options = run_folder(arguments, "predict")
    from reminding.lab.verbs import predicting

    def run(*, predict: Any, out: Path | None = None, figure: Path | None = None) -> None:
        """Predict the rows that follow a table, in the columns' own units; or label series, with probabilities.

        Args:
            predict: what is predicted, and from which file.
            out: a .csv or .parquet file to write; None: the terminal.
            figure: a .png, .svg or .pdf file with a picture of the forecast of a table; None: no picture.
        """
        predicting.predict(folder, predict, out, figure)

    parse(run, options, "predict RUN", predict=predicting.PredictOptions)


def sample(arguments: list[str]) -> None:
    """Continue a text: reminding sample RUN --prompt TEXT [--length 200] [--temperature 0.8]."""
    folder, options = run_folder(arguments, "sample")
    from reminding.lab.verbs import predicting

    def run(*, prompt: str, length: int = 200, temperature: float = 1.0, seed: int = 0) -> None:
        """Draw characters one by one from a model of text, each after all before it.

        Args:
            prompt: the text that is read first.
            length: number of characters, or bytes, to draw.
            temperature: below 1 probable characters become more probable; 0: always the most probable one.
            seed: of the random numbers.
        """
        predicting.sample(folder, prompt, length, temperature, seed)

    parse(run, options, "sample RUN")
