"""The verbs `predict` and `sample`."""

from __future__ import annotations

from pathlib import Path

from reminding.cli.parsing import parse, run_folder


def predict(arguments: list[str]) -> None:
    """Forecast a table's next rows, or label series: reminding predict RUN --input FILE [--steps 24] [--out FILE]."""
    folder, options = run_folder(arguments, "predict")
    from reminding.lab.verbs import commands

    def run(
        *,
        input: Path,
        steps: int | None = None,
        future: Path | None = None,
        out: Path | None = None,
        held_out: int = 0,
        context: int | None = None,
        figure: Path | None = None,
    ) -> None:
        """Predict the rows that follow a table, in the columns' own units; or label series, with probabilities.

        Args:
            input: the rows so far, with the columns of the training data; or series to label: a file as in training,
                where a label may be ?, an audio file, or a folder of audio files.
            steps: rows to predict; each is fed back as the input of the next. None: those held out, at least 1.
            future: a table with the known inputs of the next rows, if the run reads columns that it does not predict.
            out: a .csv or .parquet file to write; None: the terminal.
            held_out: rows at the end of a table that are not read, but forecast and compared.
            context: number of the last rows of a table that are read before the forecast; None: all, which takes
                minutes for millions of rows.
            figure: a .png, .svg or .pdf file with a picture of the forecast of a table; None: no picture.
        """
        commands.predict(folder, input, steps, future, out, held_out, context, figure)

    parse(run, options, "predict RUN")


def sample(arguments: list[str]) -> None:
    """Continue a text: reminding sample RUN --prompt TEXT [--length 200] [--temperature 0.8]."""
    folder, options = run_folder(arguments, "sample")
    from reminding.lab.verbs import commands

    def run(*, prompt: str, length: int = 200, temperature: float = 1.0, seed: int = 0) -> None:
        """Draw characters one by one from a model of text, each after all before it.

        Args:
            prompt: the text that is read first.
            length: number of characters, or bytes, to draw.
            temperature: below 1 probable characters become more probable; 0: always the most probable one.
            seed: of the random numbers.
        """
        commands.sample(folder, prompt, length, temperature, seed)

    parse(run, options, "sample RUN")
