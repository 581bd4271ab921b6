"""Explanations as one self-contained HTML page, with figures beside it.

Shapes: T time, I input features, C outputs, K recalled memories, N entries of credit.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reminding.disk.writing import make_folder, write_text
from reminding.lab.explain.decimals import decimals_by_channel
from reminding.lab.explain.explanation import Explanation, Reminders, reminders_of
from reminding.lab.explain.forecast import Forecast
from reminding.lab.explain.legend import Legend
from reminding.lab.explain.occlusion import Occlusion, write_occlusion
from reminding.lab.explain.summary import summary, verdict
from reminding.lab.show.assets import asset, data, whole_page
from reminding.lab.show.escaping import for_file_name, for_html
from reminding.lab.show.forecasts import Lines, forecast_figure
from reminding.lab.show.plots import credit_map, recall_map
from reminding.lab.show.tables import table

SCRIPTS = ("theme.js", "data.js", "painters.js", "scene.js", "arcs.js", "strip.js", "details.js", "explain.js")
BLUR = 1e-4
"""Of a column's range: float32 may be off by this."""


def page(
    explanations: Sequence[Explanation], title: str, layer: int | None = None, occlusion: Occlusion | None = None
) -> str:
    """The page as self-contained HTML.

    Args:
        explanations: of one run, at least one.
        title: of the run.
        layer: the layer to show first, from 1; None: the last.
        occlusion: a test of the credit, shown below the arcs.

    Raises:
        ValueError: there is no explanation.
    """
    if not explanations:
        raise ValueError("explanations must be at least one, got none")
    content = {
        "title": title,
        "file": for_file_name(title),
        "layer": (layer or len(explanations[0].layers)) - 1,
        "legend": _legend(explanations[0].legend),
        "sequences": [_sequence(each) for each in explanations],
    }
    parts = {
        "%SCRIPT%": '"use strict";\n' + "\n".join(asset(name) for name in SCRIPTS),
        "%CHECK%": _check(occlusion) if occlusion else "",
        "%CONTENT%": data(content),
    }
    return whole_page(f"reminding: {title}", ["tables.css", "explain.css"], "explain.html", parts)


def _check(occlusion: Occlusion) -> str:
    content = occlusion.table()
    return f'<section id="check"><h2>{for_html(content.title)}</h2>{table(content)}</section>'


def packed(values: NDArray[Any]) -> str:
    """Numbers as text for the page, (T,) or (T, J): the kind, then base64 of the little-endian bytes.

    The kind is "i" (int32), "f" (float32), or "d" (float64) where float32 would blur how a column differs.
    """
    kind = "i" if np.issubdtype(values.dtype, np.integer) else "d" if _blurred(values) else "f"
    raw = np.ascontiguousarray(values, dtype={"i": "<i4", "f": "<f4", "d": "<f8"}[kind]).tobytes()
    return kind + base64.b64encode(raw).decode()


def _blurred(values: NDArray[Any]) -> bool:
    """Whether float32 is too coarse for the differences within a column, as of 1e9 and 1e9 + 1."""
    if not values.size:
        return False
    columns = values.reshape(len(values), -1).astype(np.float64)
    finite = np.isfinite(columns)
    low, high = np.where(finite, columns, np.inf).min(0), np.where(finite, columns, -np.inf).max(0)
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.where(finite, np.abs(columns - columns.astype(np.float32)), 0).max(0)
    return bool(((high > low) & (off > BLUR * (high - low))).any())


def _legend(legend: Legend) -> dict[str, Any]:
    return {
        "kind": legend.kind,
        "unit": legend.unit,
        "names": legend.names,
        "quiet": legend.quiet,
        "classes": legend.classes,
        "channels": legend.channels,
        "side": legend.side,
        "units": legend.units,
        "order": None if legend.order is None else packed(legend.order),
    }


def _sequence(explanation: Explanation) -> dict[str, Any]:
    """A sequence in the form that data.js reads."""
    content: dict[str, Any] = {
        "name": explanation.name,
        "credit_of": explanation.credit_of,
        "summary": [summary(explanation, layer) for layer in range(1, len(explanation.layers) + 1)],
        "verdict": vars(verdict(explanation)),
        "times": None if explanation.times is None else explanation.times.texts,
        "clock": "time" if explanation.times is None else explanation.times.name or "time",
        "steps": len(explanation.input),
        "padding": explanation.padding,
        "interval": explanation.interval,
        "layers": [_layer(layer) for layer in explanation.layers],
    }
    legend, prediction = explanation.legend, explanation.prediction
    if legend.kind == "tokens":
        content["tokens"] = packed(explanation.input)
    else:
        content["values"] = packed(explanation.values)  # (T, J)
        content["decimals"] = decimals_by_channel(explanation.values, len(legend.channels))
    if legend.classes:
        surplus = np.exp(prediction - prediction.max(1, keepdims=True))
        content["answers"] = packed(prediction.argmax(1))  # (T,)
        content["sure"] = packed(1 / surplus.sum(1))
    else:
        content["predicted"] = packed(prediction)  # (T, C)
    if (forecast := explanation.forecast) is not None:
        told = {"names": forecast.names, "units": forecast.units, "places": forecast.places}
        content["forecast"] = {**told, "decimals": forecast.decimals()}
        content["predicted"], content["wanted"] = packed(forecast.predicted), packed(forecast.truth)
    elif explanation.target is not None:
        content["wanted"] = packed(explanation.target)
    if explanation.reached is not None:
        content["reached"] = packed(explanation.reached)  # (T,)
    return content


def _layer(layer: Reminders) -> dict[str, str]:
    arrays = {"step": layer.step, "weight": layer.weight, "reader": layer.reader, "memory": layer.memory}
    return {name: packed(values) for name, values in {**arrays, "amount": layer.amount}.items()}


def write_explanations(
    explanations: Sequence[Explanation],
    out: Path,
    title: str,
    layer: int | None = None,
    occlusion: Occlusion | None = None,
) -> list[Path]:
    """Write index.html and figures of each sequence: recalls, credit of the memories, forecasts of a table.

    An occlusion adds occlusion.png with its curves and occlusion.json with its numbers.

    Args:
        out: folder, created if it does not exist.
        title, layer, occlusion: as for `page`.

    Returns:
        the files.
    """
    make_folder(out)
    index = out / "index.html"
    write_text(index, page(explanations, title, layer, occlusion))
    files = [index, *(path for each in explanations for path in _figures(each, out, title, layer))]
    return files if occlusion is None else [*files, *write_occlusion(occlusion, out, title)]


def _figures(explanation: Explanation, out: Path, title: str, layer: int | None) -> list[Path]:
    """The static figures of a sequence: recalls, credit and, of a table, the forecasts. Finite numbers are drawn."""
    reminders = reminders_of(explanation, layer)
    stem = for_file_name(explanation.name)
    recalls, credit = out / f"recall-{stem}.png", out / f"credit-{stem}.png"
    times = () if explanation.times is None else explanation.times.labels(explanation.legend.unit)
    strip: dict[str, Any] = {
        "input": explanation.legend.shades(explanation.input, explanation.padding, explanation.absent),
        "marks": explanation.legend.marks(explanation.input),
        "times": times,
    }
    name = f"Recalls of {title}: {explanation.name}"
    weight, amount = (np.nan_to_num(each, posinf=0, neginf=0) for each in (reminders.weight, reminders.amount))
    recall_map(reminders.step, weight, title=name, path=recalls, **strip)
    name = f"Credit of {explanation.credit_of}: {explanation.name}"
    credit_map(reminders.reader, reminders.memory, amount, title=name, path=credit, **strip)
    if explanation.forecast is None:
        return [recalls, credit]
    forecasts = out / f"forecast-{stem}.png"
    forecast_figure(lines_of(explanation.forecast), times, f"Forecasts of {title}: {explanation.name}", forecasts)
    return [forecasts, recalls, credit]


def lines_of(forecast: Forecast) -> list[Lines]:
    """The columns of a forecast, (T,) each, where each prediction stands at the step that it is of."""
    before = np.full((1, len(forecast.names)), np.nan)
    shifted = np.concatenate([before, forecast.predicted[:-1]])
    names = [f"{name}, {unit}" if unit else name for name, unit in zip(forecast.names, forecast.units, strict=True)]
    return [Lines(name, forecast.measured[:, i], shifted[:, i]) for i, name in enumerate(names)]
