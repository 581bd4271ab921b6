"""The errors of forecasts from many origins are those of forecasts made one by one."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import reminding
from reminding.tasks import FileStream
from tests.lab.predict.test_horizon import SEASON, facts_of
from tests.lab.predict.test_predictor import informed_run
from tests.places import BENCHMARKS


def test_each_error_is_the_mean_over_the_origins(tmp_path: Path) -> None:
    path = BENCHMARKS / "forecast_horizon.py"
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    run = informed_run(tmp_path / "run", FileStream(tmp_path / "gone.csv").with_facts(facts_of(["x"], ["x"])))
    values = np.random.default_rng(0).normal(size=60)
    found = script.measured(run, pd.DataFrame({"x": values}), 3, range(40, 58, 8), 20)
    model = reminding.load(run)
    off: dict[str, list[float]] = {"model": [], "unchanged": [], "seasonal": []}
    for origin in (40, 48, 56):
        truth = values[origin : origin + 3]
        off["model"].append(np.abs(model.predict(values[origin - 20 : origin], 3)["x"].to_numpy() - truth).mean())
        off["unchanged"].append(np.abs(values[origin - 1] - truth).mean())
        off["seasonal"].append(np.abs(values[origin - SEASON : origin - SEASON + 3] - truth).mean())
    assert {name: errors["x"] for name, errors in found.items()} == pytest.approx(
        {name: float(np.mean(each)) for name, each in off.items()}, rel=1e-5
    )
