"""How good are forecasts of several rows? Trained runs on a table, from many origins in its last rows.

    python benchmarks/forecast_horizon.py results/etth1/sab-seed1 --data ETTh1.csv --steps 24 --last 1742 --every 48

From each origin a run forecasts the next rows, each fed back as the input of the next, after it has read the
`--before` rows before the origin. The mean absolute error of each column, in its own unit, is averaged over all rows
and origins, beside those of no change (the last row again) and of the season before. Writes measured.json.

Shapes: K columns.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd

import reminding
from reminding.disk.records import write_json
from reminding.lab.runs.machine import environment


def measured(run: Path, table: Any, steps: int, origins: range, before: int) -> dict[str, dict[str, float]]:
    """The mean absolute error of each method in each column: method -> column -> error.

    Args:
        table: a pandas table.
        origins: numbers of the first rows of the forecasts.
        before: rows that are read before an origin.
    """
    model = reminding.load(run)
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for origin in origins:
        rows = table.iloc[max(0, origin - before) : origin + steps]
        errors = model.forecast(rows, steps, held_out=steps).errors()
        assert errors is not None
        for column, methods in errors["columns"].items():
            for method, error in methods.items():
                found[method][column] += error["mae"] / len(origins)
    return {method: dict(errors) for method, errors in found.items()}


def main() -> None:
    """Measure every run and write what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="a CSV file without missing values")
    parser.add_argument("--steps", type=int, default=24, help="rows of a forecast")
    parser.add_argument("--last", type=int, required=True, help="the last rows of the table, which are forecast")
    parser.add_argument("--every", type=int, default=48, help="rows between two origins")
    parser.add_argument("--before", type=int, default=500, help="rows that are read before an origin")
    parser.add_argument("--out", type=Path, default=Path("measured.json"))
    options = parser.parse_args()
    table: Any = pd.read_csv(options.data)
    origins = range(len(table) - options.last, len(table) - options.steps + 1, options.every)
    results: dict[str, Any] = {}
    for run in options.runs:
        results[run.name] = measured(run, table, options.steps, origins, options.before)
        means = {method: round(sum(each.values()) / len(each), 4) for method, each in results[run.name].items()}
        print(run.name, means, flush=True)
    command = " ".join(["python benchmarks/forecast_horizon.py", *sys.argv[1:]])
    about = {"command": command, "origins": len(origins), **environment("cpu")}
    write_json(options.out, {**about, "mae": results})


if __name__ == "__main__":
    main()
