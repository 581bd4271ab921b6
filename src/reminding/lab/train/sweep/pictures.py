"""What a sweep found, in Optuna's own figures and measures."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reminding.lab.show.figures import finish, style
from reminding.lab.train.sweep.attempts import Attempt
from reminding.lab.train.sweep.record import SweepRecord
from reminding.lab.train.sweep.space import Space
from reminding.lab.train.sweep.storage import distribution, optuna

LEAST_RESULTS = 5
"""Complete trials from which importances are computed."""


@dataclass(frozen=True)
class Drawing:
    """A figure, as a PNG picture and as an interactive chart, the JSON text of plotly."""

    title: str
    figure: Path
    chart: str


def draw(record: SweepRecord, out: Path) -> list[Drawing]:
    """The figures of a sweep with results: results in order, options against results, importances, learning curves.

    Args:
        out: folder for the pictures.
    """
    study = rebuilt(record.attempts, record.space, maximize=record.maximize)
    metric = f"valid {record.metric}"
    wanted: list[tuple[str, str, dict[str, Any]]] = []
    if record.ranked():
        named = {"target_name": metric}
        wanted.append(("Results of the trials, in the order of their numbers", "optimization_history", named))
        if len(record.space.dimensions) > 1:
            wanted.append(("Options and results", "parallel_coordinate", named))
        wanted.append(("Results by option", "slice", named))
    if importance(study) is not None:
        wanted.append(("Importance of the options for the result", "param_importances", {}))
    if any(each.intermediate for each in record.attempts):
        wanted.append(("Learning curves of the trials", "intermediate_values", {}))
    return [_drawn(study, *each, out) for each in wanted]


def _drawn(study: Any, title: str, name: str, options: dict[str, Any], out: Path) -> Drawing:
    plots = optuna().visualization
    path = out / f"sweep-{name.replace('_', '-')}.png"
    places_itself = name == "parallel_coordinate"
    with _quiet(), style(constrained=not places_itself):
        axes = getattr(plots.matplotlib, f"plot_{name}")(study, **options)
        figure = axes.figure if hasattr(axes, "figure") else axes.flat[0].figure  # slices have one for each option
        figure.set_size_inches(10, 5.5)
        if places_itself:
            figure.subplots_adjust(bottom=0.2)  # for slanted labels
        finish(figure, path)
        chart = getattr(plots, f"plot_{name}")(study, **options)
    chart.update_layout(template="none", title=None, autosize=True, margin={"t": 30})
    return Drawing(title, path, chart.to_json())


@contextmanager
def _quiet() -> Generator[None]:
    """Optuna's matplotlib figures are marked as experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def rebuilt(attempts: Sequence[Attempt], space: Space, *, maximize: bool) -> Any:
    """An Optuna study of the attempts that came to a result, for its plots and measures."""
    library = optuna()
    study = library.create_study(direction="maximize" if maximize else "minimize")
    states = {"complete": library.trial.TrialState.COMPLETE, "pruned": library.trial.TrialState.PRUNED}
    kinds = {each.name: distribution(each) for each in space.dimensions}
    for each in attempts:
        if each.state in states and each.value is not None and set(each.params) == set(kinds):
            trial = library.trial.create_trial(
                state=states[each.state],
                value=each.value,
                params=dict(each.params),
                distributions=kinds,
                intermediate_values=dict(each.intermediate),
            )
            study.add_trial(trial)
    return study


def importance(study: Any) -> dict[str, float] | None:
    """The share of each option in the differences between results; None if too few differ to tell."""
    values = [each.value for each in study.get_trials(states=(optuna().trial.TrialState.COMPLETE,))]
    if len(values) < LEAST_RESULTS or len(set(values)) < 2:
        return None
    with _quiet():
        try:
            return dict(optuna().importance.get_param_importances(study))
        except (RuntimeError, ValueError):
            return None
