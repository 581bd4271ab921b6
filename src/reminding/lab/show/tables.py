"""A table of texts, for the terminal, Markdown and HTML; and the tables of the errors that a tally recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reminding.lab.show.escaping import for_html, for_markdown

LONG = 40
"""A cell with more characters is broken into lines."""
MOST_CLASSES = 20
"""A confusion of more classes is not shown; summary.json has it."""
NAMED = 12
"""Above this number of columns the others are counted."""
SMALL = 0.01
"""Below this a value is told with three digits."""
METHODS = {"model": "model", "unchanged": "no change", "seasonal": "a season before"}


def metric_text(value: float) -> str:
    """A value of a metric: four decimals or, of a small one that they would hide, three digits."""
    return f"{value:.3g}" if 0 < abs(value) < SMALL else f"{value:.4f}"


@dataclass(frozen=True)
class Table:
    """A table with notes for its reader."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """The table in Markdown, with its notes below."""
        head, *lines = [f"| {' | '.join(map(for_markdown, row))} |" for row in (self.columns, *self.rows)]
        lines = [head, "|" + "---|" * len(self.columns), *lines]
        return "\n".join(
            [*lines, *(["", *(f"- {for_markdown(note)}" for note in self.notes)] if self.notes else []), ""]
        )


def table(content: Table) -> str:
    """A table with its notes below, without its title. It scrolls by itself if it is wider than the page."""
    first = content.rows[0] if content.rows else [""] * len(content.columns)
    head = "".join(map(_heading, content.columns, first))
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in content.rows)
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f"{notes(content.notes)}"
    )


def notes(lines: Sequence[str]) -> str:
    """Remarks as a list; "" if there are none."""
    return f'<ul class="notes">{"".join(f"<li>{for_html(line)}</li>" for line in lines)}</ul>' if lines else ""


def _cell(text: str) -> str:
    return f"<td{_kind(text)}>{for_html(text)}</td>"


def _heading(column: str, first: str) -> str:
    return f'<th scope="col"{_kind(first)}>{for_html(column)}</th>'


def _kind(text: str) -> str:
    """The style of a cell: numbers are aligned right, words left, and long texts are broken into lines."""
    if re.match(r"[-\d]", text):
        return ""
    return ' class="words long"' if len(text) > LONG else ' class="words"'


def error_tables(record: Mapping[str, Any]) -> list[Table]:
    """The tables of a record of errors: by column in its own unit, or by class.

    Raises:
        ValueError: the record is not one that a tally wrote.
    """
    try:
        return [_of_columns(record)] if record["kind"] == "columns" else _of_classes(record)
    except (ArithmeticError, AttributeError, LookupError, StopIteration, TypeError, ValueError) as error:
        raise ValueError(f"errors: the record cannot be read: {type(error).__name__} {error}") from error


def _of_columns(record: Mapping[str, Any]) -> Table:
    columns: Mapping[str, Mapping[str, Mapping[str, float | None]]] = record["columns"]
    methods = list(next(iter(columns.values()), ()))
    heads = [f"{measure}, {METHODS[method]}" for measure in ("RMSE", "MAE") for method in methods]
    rows = [
        [name, *(_number(errors[method][measure]) for measure in ("rmse", "mae") for method in methods)]
        for name, errors in columns.items()
    ]
    notes = _of_next_row(record, columns) if record.get("horizon") is None else _of_next_rows(record)
    return Table("Errors by column", ["column", *heads], rows, notes)


def _of_next_row(record: Mapping[str, Any], columns: Mapping[str, Any]) -> list[str]:
    """What the errors of predictions of the next row are."""
    notes = [
        f"Errors of the next row over {record['predictions']:,} predictions, in each column's own unit: root mean "
        "squared (RMSE) and mean absolute (MAE). No change predicts the last known value."
    ]
    if season := record["season"]:
        notes.append(
            f"A season before predicts the value {season:,} rows before the next one. In the first {season:,} rows "
            "of each evaluation row, and where that value is missing, it is no change."
        )
    if worse := [name for name, errors in columns.items() if _is_worse(errors)]:
        more = f" and {len(worse) - NAMED} more columns" if len(worse) > NAMED else ""
        notes.append(
            f"The model is worse than no change in {', '.join(worse[:NAMED])}{more}; train longer, or with other "
            "options. --residual, if the run lacks it, is for columns that drift, or change little from row to row."
        )
    return notes


def _of_next_rows(record: Mapping[str, Any]) -> list[str]:
    """What the errors of one forecast of several rows are."""
    known = f"{record['predictions']:,} that {'is' if record['predictions'] == 1 else 'are'}"
    notes = [
        f"Errors of one forecast of {record['horizon']:,} row{'s' * (record['horizon'] != 1)} over the {known} "
        "known, in each column's own unit: root mean squared (RMSE) and mean absolute (MAE). No change repeats the "
        "last known value before the forecast."
    ]
    if season := record["season"]:
        notes.append(f"A season before repeats the last {season:,} rows before the forecast.")
    return notes


def _is_worse(errors: Mapping[str, Mapping[str, float | None]]) -> bool:
    """Whether the squared error of the model is above that of no change, as far as the digits tell that are shown."""
    model, unchanged = errors["model"]["rmse"], errors["unchanged"]["rmse"]
    return model is not None and unchanged is not None and float(_number(model)) > float(_number(unchanged))


def _of_classes(record: Mapping[str, Any]) -> list[Table]:
    classes, confusion = record["classes"], record["confusion"]
    majority = record["majority"]
    notes = ["Recall is the share of the sequences of a class that were predicted to be of it."]
    if majority is not None and "share" in majority:
        notes.append(
            f"Always predicting {majority['class']!r}, the most frequent class in training, is right for "
            f"{majority['share']:.1%} of these sequences."
        )
    recall = [_share(record["recall"][name]) for name in classes]
    counts = [str(sum(row)) for row in confusion]
    if len(classes) > MOST_CLASSES:
        rows = [list(row) for row in zip(classes, counts, recall, strict=True)]
        return [Table("Recall by class", ["class", "sequences", "recall"], rows, notes)]
    rows = [
        [name, *map(str, row), count, share]
        for name, row, count, share in zip(classes, confusion, counts, recall, strict=True)
    ]
    heads = ["true class", *(f"predicted {name}" for name in classes), "sequences", "recall"]
    return [Table("Confusion of the classes", heads, rows, notes)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
