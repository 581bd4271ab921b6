"""Interactive charts for a page. The one file that imports plotly.

A chart is a JSON text of data and layout, without background and text colours: the page sets these, light or dark,
and shows black lines in its text colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reminding.lab.show.escaping import for_chart
from reminding.lab.show.figures import COLOURS, label_lines
from reminding.lab.show.growth import Panel, growth_looks
from reminding.lab.show.plots import Curve, curve_look

DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}
MANY = 7
"""Above this number of lines a box with all their values would cover the chart."""


def _plotly() -> Any:
    try:
        import plotly.graph_objects
    except ImportError as error:
        raise ImportError('charts need plotly: pip install "reminding[experiments]"') from error
    return plotly.graph_objects


def library() -> str:
    """The source of plotly.js, for a page that works without a network."""
    _plotly()
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


def curves_chart(
    curves: Sequence[Curve],
    xlabel: str,
    ylabel: str,
    level: tuple[float, str] | None = None,
    *,
    logarithmic: bool = False,
) -> str:
    """A metric against updates or lengths, one line per method, with a band over its seeds.

    Args:
        level: a value to mark with a dotted line, such as chance, and its name.
        logarithmic: whether the horizontal axis is logarithmic.
    """
    go = _plotly()
    figure = go.Figure()
    for number, curve in enumerate(curves):
        colour, style = curve_look(curve, number)
        label = _label(curve.label)
        shared = {"x": list(curve.steps), "legendgroup": label, "name": label}
        low, high = zip(*curve.band, strict=True) if curve.band else ((), ())
        if curve.band:
            unseen = {"mode": "lines", "line_width": 0, "hoverinfo": "skip", "showlegend": False}
            figure.add_scatter(y=list(low), **shared, **unseen)
            figure.add_scatter(y=list(high), fill="tonexty", fillcolor=faint(colour), **shared, **unseen)
        figure.add_scatter(
            y=list(curve.values),
            mode="lines+markers" if logarithmic or len(curve.steps) == 1 else "lines",
            line={"color": colour, "dash": DASHES[style], "width": 2.2},
            customdata=[list(each) for each in curve.band] if curve.band else None,
            hovertemplate="%{y:.4f}" + (" (%{customdata[0]:.4f} to %{customdata[1]:.4f})" if curve.band else ""),
            **shared,
        )
    if level is not None:
        figure.add_hline(
            level[0], line={"dash": "dot", "width": 1.5, "color": "grey"}, annotation_text=for_chart(level[1])
        )
    figure.update_yaxes(
        title=for_chart(ylabel), rangemode="tozero", range=[0, 1.02] if ylabel.startswith("accuracy") else None
    )
    return _text(figure, xlabel, len(curves), logarithmic)


def dots_chart(rows: Sequence[tuple[str, Sequence[float]]], xlabel: str) -> str:
    """Every seed of some methods as a dot, one row per method, the first at the top; a bar marks the mean."""
    figure = _plotly().Figure()
    lines = max(1, *(len(label_lines(label)) for label, _ in rows)) if rows else 1
    rows = [(_label(label), values) for label, values in rows]
    dots = [(value, label) for label, values in rows for value in values]
    means = [(sum(values) / len(values), label) for label, values in rows]
    bar = {"symbol": "line-ns", "size": 15, "line": {"width": 2.5, "color": COLOURS[1]}}
    for name, points, marker in (
        ("a seed", dots, {"size": 9, "color": COLOURS[0], "opacity": 0.55}),
        ("mean", means, bar),
    ):
        x, y = zip(*points, strict=True)
        figure.add_scatter(x=x, y=y, name=name, mode="markers", marker=marker, hovertemplate="%{x:.4f}")
    order = [label for label, _ in reversed(rows)]
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=order, dtick=1)
    figure.update_layout(height=110 + (8 + 16 * lines) * len(rows))
    return _text(figure, xlabel, len(rows), logarithmic=False)


def growth_chart(panel: Panel, xlabel: str) -> str:
    """A cost against a size, one line per contestant, on logarithmic axes; members of a family share a colour."""
    go = _plotly()
    figure = go.Figure()
    families = list(dict.fromkeys(line.family for line in panel.lines))
    for line, (colour, style) in zip(panel.lines, growth_looks(panel, families), strict=True):
        figure.add_scatter(
            x=list(line.sizes),
            y=list(line.values),
            name=_label(line.label),
            mode="lines+markers",
            line={"color": colour, "dash": DASHES[style], "width": 2.2},
            hovertemplate="%{y:,.4~g}",
        )
    figure.update_yaxes(title=for_chart(panel.ylabel), type="log", dtick="D2", tickformat=",~g")
    return _text(figure, xlabel, len(panel.lines), logarithmic=True)


def _label(text: str) -> str:
    """A label on as many lines as it needs, as in static figures."""
    return "<br>".join(map(for_chart, label_lines(text)))


def _text(figure: Any, xlabel: str, lines: int, logarithmic: bool) -> str:
    figure.update_xaxes(title=for_chart(xlabel))
    if logarithmic:
        sizes = sorted({x for trace in figure.data for x in trace.x})
        figure.update_xaxes(type="log", tickvals=sizes, ticktext=[f"{size:,}" for size in sizes])
    figure.update_layout(
        template="none",
        hovermode="x unified" if lines <= MANY else "closest",
        margin={"l": 60, "r": 15, "t": 15, "b": 50},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        autosize=True,
        showlegend=True,
    )
    return figure.to_json()


def faint(colour: str) -> str:
    """A colour such as #0072B2 at 15% opacity, for a band."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.15)"
