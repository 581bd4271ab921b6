"""Tables of results/ and of README.md have the figures of the JSON files, as far as they have one of a few forms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from tests.docs.results.figures import (
    LABELS,
    METHODS,
    Figures,
    Values,
    course,
    deviation,
    errors,
    mean_or_spread,
    scores,
    spread,
)
from tests.docs.results.rows import PAGES, has, numbers, read, rows, same
from tests.places import RESULTS, ROOT

PERMUTED = {
    "sab": "| SAB, seed",
    "lstm": "| LSTM, seed",
    "sab-cut28": "| seed",
    "lstm-chrono392": "| chrono:392, 0.01, seed",
    "lstm-chrono392-lr0.006": "| chrono:392, 0.006, seed",
}
"""Method on permuted MNIST -> the beginning of the rows of its seeds."""
README = [
    ("| [copying](results/copying-tuned/README.md) T=100 beside", "copying-tuned/T100", "transformer-none"),
    ("| [copying](results/copying-tuned/README.md) T=300", "copying-tuned/T300", "sab lstm tbptt-50"),
    ("| [a cue 5,000", "cue/lag5000-tuned", "sab sab-credit-10"),
    ("| [Penn", "ptb/equal-time", "sab-cut100 lstm"),
    ("| [ten million", "text8/tuned", "sab-cut100 sab-horizon-0 lstm tbptt-50 tbptt-10"),
    ("| that text, 12 minutes", "text8/equal-time", "sab-cut100 lstm"),
    ("| [an outcome", "kiln/tuned", "sab lstm"),
    ("| [a real", "etth1/tuned", "sab sab-horizon-0 lstm tbptt"),
    ("| [which digit", "nback/rows-back1", "sab-cut28 sab lstm rtu"),
    ("| [is this the speaker", "match/back1", "sab sab-horizon-0 lstm rtu"),
    ("| [permuted", "pmnist/ten-epochs", "sab-cut28 sab lstm"),
]


def cases() -> Iterator[tuple[Path, tuple[str, ...], str, Figures]]:
    for folder, figures, methods in METHODS:
        for each in methods.split():
            yield RESULTS / folder.split("/")[0] / "README.md", LABELS[each], f"{folder}/{each}-seed?", figures
    for run in sorted(path.parent for path in RESULTS.glob("pmnist/ten-epochs/*-seed?/summary.json")):
        method, seed = run.name.split("-seed")
        label = f"{PERMUTED[method]} {seed} |"
        yield RESULTS / "pmnist" / "README.md", (label,), f"pmnist/ten-epochs/{run.name}", course
    for run in sorted(RESULTS.glob("ablation/recipe*/*-seed0")):
        yield RESULTS / "ablation" / "README.md", ("|",), f"ablation/{run.parent.name}/{run.name[:-1]}?", deviation
    for run in sorted(RESULTS.glob("recipe/*/*-seed0")):
        name, runs = run.name.removesuffix("-seed0"), f"recipe/{run.parent.name}/{run.name[:-1]}?"
        yield RESULTS / "recipe" / "README.md", (f"| {name} ", f"| {name.upper()},"), runs, mean_or_spread
    for run in sorted(RESULTS.glob("etth1/tuned*/*-seed1")):
        page, runs = RESULTS / "etth1" / "README.md", f"etth1/{run.parent.name}/{run.name[:-1]}?"
        yield page, ("| mse |",), runs, spread
        for column in read(run / "summary.json")["errors"]["columns"]:
            yield page, (f"| {column} |",), runs, errors(column)
    for label, folder, methods in README:
        for each in methods.split():
            yield ROOT / "README.md", (label,), f"{folder}/{each}-seed?", spread


@pytest.mark.parametrize(("page", "labels", "runs", "figures"), list(cases()))
def test_a_row_has_the_figures_of_its_runs(page: Path, labels: tuple[str, ...], runs: str, figures: Figures) -> None:
    found = [(row, figures(runs, head)) for row, head in rows(page) if row.startswith(labels)]
    assert any(values and has(row, values) for row, values in found), found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_a_row_that_names_a_run_has_its_score(page: Path) -> None:
    named = [(row, re.findall(r"`([^`]+)`", row.split("|")[1])) for row, _ in rows(page)]
    found = [(row, name) for row, names in named for name in names if (page.parent / name / "summary.json").is_file()]
    assert [row for row, name in found if not has(row, scores(f"{page.parent.name}/{name}"))] == []


def grid(path: Path) -> Values:
    """The scores of a tuning.json, in its present form or in the former, but for those of runs in full length."""
    points = read(path).get("grid", [])
    names: Any = points if hasattr(points, "items") else range(len(points))
    return [points[name]["valid"] for name in names if not str(name).endswith("-whole")]


@pytest.mark.parametrize("page", ["adding", "copying-tuned", "cue", "kiln", "match", "nback", "noisy-cifar10", "ptb"])
def test_a_tuning_grid_has_the_recorded_figures(page: str) -> None:
    tables = [(row, head) for row, head in rows(RESULTS / page / "README.md") if head.startswith("| | 0.001 |")]
    cells = [row for row, head in tables if row != head and not row.startswith("|---")]
    texts = sorted((text for row in cells for text in numbers(row)), key=float)
    paths = [path for path in (RESULTS / page).rglob("*.json") if "tuning" in path.parts[-2] or "tuning" in path.name]
    values = sorted(score * (100 if "%" in cells[0] else 1) for path in paths for score in grid(path))
    assert len(texts) == len(values)
    assert [pair for pair in zip(texts, values, strict=True) if not same(*pair)] == []


def test_the_grid_of_the_kiln_with_one_segment_a_chunk_has_the_recorded_range() -> None:
    found = [read(path)["valid_mse"] for path in (RESULTS / "kiln" / "segments").glob("*/summary.json")]
    said = f"all nine points, {min(found):.3f} to {max(found):.3f} on validation"
    assert len(found) == 9
    assert said in " ".join((RESULTS / "kiln" / "README.md").read_text().split())


def in_a_row(page: Path, label: str, wanted: Values) -> bool:
    return any(has(row, wanted) for row, _ in rows(page) if row.startswith(label))


@pytest.mark.parametrize("folder", ["tuned", "tuned-residual"])
def test_the_grids_of_etth1_have_the_recorded_figures(folder: str) -> None:
    runs, methods = (
        read(RESULTS / "etth1" / folder / "tuning.json")["runs"],
        "sab sab-horizon-0 lstm lstm-chrono100 tbptt",
    )
    for rate in ("0.003", "0.01", "0.03"):
        wanted = [runs[f"{method}-lr{rate}"]["valid_mse"] for method in methods.split()]
        assert in_a_row(RESULTS / "etth1" / "README.md", f"| {rate} |", wanted), rate


def test_the_forecasts_of_etth1_have_the_recorded_errors() -> None:
    errors = read(RESULTS / "etth1" / "tuned" / "measured.json")["mae"]
    for column, unchanged in errors["sab-seed1"]["unchanged"].items():
        wanted: Values = []
        for method in ("sab", "sab-horizon-0", "lstm", "tbptt"):
            found = [errors[f"{method}-seed{seed}"]["model"][column] for seed in (1, 2, 3)]
            wanted += [mean(found), min(found), max(found)]
        wanted += [unchanged, errors["sab-seed1"]["seasonal"][column]]
        assert in_a_row(RESULTS / "etth1" / "README.md", f"| {column} |", wanted), column
