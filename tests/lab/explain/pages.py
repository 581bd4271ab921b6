"""Pages of explanations made by hand, open in a browser.

Shapes: T time.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reminding.lab.explain.explanation import Explanation, Reminders
from reminding.lab.explain.forecast import Forecast
from reminding.lab.explain.legend import Legend
from reminding.lab.explain.page import page
from reminding.lab.explain.times import recorded
from tests.lab.browser import Tab


class Shown(Tab):
    """An open explanation, operated by its keys."""

    def __init__(self, browser: Any, file: Path, **look: Any) -> None:
        super().__init__(browser, file, "window.explain?.readyMs", **look)

    def press(self, *keys: str) -> None:
        self.tab.focus("#figure")
        for key in keys:
            self.tab.keyboard.press(key)
        self.ask("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def made_up(steps: int, hubs: int = 3, layers: int = 1, legend: Legend | None = None) -> Explanation:
    """An explanation of `steps` tokens with five recalls each; some memories are recalled more often."""
    rng = np.random.default_rng(0)
    step = (np.arange(steps)[:, None] * rng.random((steps, 5))).astype(int) // 10 * 10
    step[:, 0] = np.minimum(rng.integers(1, hubs + 1, steps) * 10, np.arange(steps) // 10 * 10)
    weight = -np.sort(-rng.dirichlet(np.ones(5), steps), 1) * (step > 0)
    later, slot = np.nonzero(step > 0)
    amount = -np.sort(-rng.gamma(0.3, size=len(later)))
    found = Reminders(step, weight, later + 1, step[later, slot], amount)
    names = ("·", *"abcdefgh?")
    legend = legend or Legend("tokens", names=names, quiet=(0,), classes=names)
    given = rng.random((steps, 2)) if legend.kind != "tokens" else rng.integers(0, 10, steps)
    prediction = rng.normal(size=(steps, 10))
    target = rng.integers(0, 10, steps)
    return Explanation("</script> & co", "a loss", legend, given, prediction, target, (found,) * layers, 10)


def written(tmp_path: Path, *explanations: Explanation) -> Path:
    path = tmp_path / "page.html"
    path.write_text(page(explanations, "a run"), encoding="utf-8")
    return path


def of_a_table(columns: int, steps: int = 200, **changes: Any) -> Explanation:
    """An explanation of a table with dates, whose first column is forecast 1 too high."""
    names = tuple(f"column {i}" for i in range(columns))
    legend = Legend("lines", "row", channels=names, units=("degC", *("",) * (columns - 1)))
    values = np.random.default_rng(0).normal(10, 3, (steps, columns))
    truth = np.roll(values[:, :1], -1, axis=0)
    forecast = Forecast(names[:1], ("degC",), (0,), truth + 1, truth, values[:, :1], values[:, :1])
    dates = np.datetime64("2024-03-01") + np.arange(steps) * np.timedelta64(6, "h")
    found = replace(made_up(steps), legend=legend, input=values, prediction=forecast.predicted, target=forecast.truth)
    return replace(
        found, **{"forecast": forecast, "times": recorded("when", dates.astype("datetime64[us]")), **changes}
    )
