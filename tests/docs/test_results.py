"""Tables of results/ and of README.md have the figures of the JSON files, as far as they have one of a few forms.

A row is found by its beginning, without emphasis. The expected figures stand in it side by side, rounded as shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from tests.places import RESULTS, ROOT

PAGES = sorted(RESULTS.glob("*/README.md"))
Values = list[float]
Figures = Callable[[str, str], Values | None]
"""The figures of runs (a pattern of folders) in a table with a heading row; None if the table is of another kind."""


@cache
def rows(page: Path) -> list[tuple[str, str]]:
    """The rows of the tables of a page, each with the heading row of its table."""
    found: list[tuple[str, str]] = []
    head = ""
    for line in page.read_text(encoding="utf-8").replace("**", "").splitlines():
        head = (head or line) if line.startswith("|") else ""
        found += [(line, head)] if head else []
    return found


@cache
def read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)


def files(runs: str, name: str) -> list[Any]:
    found = [read(path) for path in sorted(RESULTS.glob(f"{runs}/{name}"))]
    assert found, runs
    return found


def numbers(row: str) -> list[str]:
    """The numbers in a row as they are shown, but for those of its first cell."""
    return re.findall(r"(?<![\w.-])-?\d+(?:,\d{3})*(?:\.\d+)?", row.split("|", 2)[2])


def same(text: str, value: float) -> bool:
    return abs(float(text.replace(",", "")) - value) <= 0.5 * 10 ** -len(text.partition(".")[2]) + 1e-9


def has(row: str, values: Sequence[float]) -> bool:
    """Whether the figures stand in the row side by side, each rounded to as many places as are shown."""
    texts = numbers(row)
    return any(all(map(same, texts[at:], values)) for at in range(len(texts) - len(values) + 1))


def scores(runs: str, _: str = "") -> Values:
    """Test scores by seed: accuracy in percent, errors of the kiln in its column's unit."""
    found = files(runs, "summary.json")
    if runs.startswith("kiln"):
        return [each["errors"]["columns"]["strength"]["model"]["rmse"] for each in found]
    return [each[each["metric"]] * (100 if each["metric"] == "accuracy" else 1) for each in found]


def each_and_average(runs: str, _: str) -> Values:
    return [*scores(runs), mean(scores(runs))]


def spread(runs: str, _: str) -> Values:
    return [mean(scores(runs)), min(scores(runs)), max(scores(runs))]


def mean_or_spread(runs: str, head: str) -> Values:
    found = spread(runs, head)
    if found[2] - found[1] < 0.05:
        return found[:1]
    return found if found[0] <= 100 else found[1:]  # of runs that failed, more than 100 bits, their range alone


def deviation(runs: str, _: str) -> Values:
    """Mean and standard deviation, worst, best, the norm of h at the end, the steps that the last gradient visits."""
    found = scores(runs)
    norms = [[each["state_norm"] for each in log if each["kind"] == "valid"][-1] for log in files(runs, "log.jsonl")]
    steps = [each["backward_steps_last"] for each in files(runs, "summary.json")]
    return [mean(found), stdev(found), min(found), max(found), mean(norms), mean(steps)]


def course(runs: str, head: str) -> Values | None:
    """Means over the seeds on validation, after the updates that the heading row names."""
    if not head.startswith("| after so many updates"):
        return None
    metric = files(runs, "summary.json")[0]["metric"]
    logs = [{each["step"]: each for each in log if each["kind"] == "valid"} for log in files(runs, "log.jsonl")]
    steps = [int(text.replace(",", "")) for text in numbers(head)]
    return [mean(log[step][metric] for log in logs) * (100 if metric == "accuracy" else 1) for step in steps]


def errors(column: str) -> Figures:
    """The mean absolute error of a column, in its unit: mean, least and largest."""

    def figures(runs: str, _: str) -> Values:
        found = [each["errors"]["columns"][column]["model"]["mae"] for each in files(runs, "summary.json")]
        return [mean(found), min(found), max(found)]

    return figures


def lengths(runs: str, head: str) -> Values | None:
    """Means over the seeds at the lengths that the heading row names; of two tests at a length the larger counts."""
    if not head.startswith("| T |"):
        return None
    tests = [sorted(file, key=lambda each: each["sequences"]) for file in files(runs, "eval.jsonl")]
    by_length = [{each["task"]["T"]: each["accuracy"] for each in test} for test in tests]
    wanted = [int(text.replace(",", "")) for text in numbers(head)]
    return [100 * mean(test[T] for test in by_length) for T in wanted if T in by_length[0]]


LABELS = {
    "sab": ("| SAB |", "| SAB, cut", "| SAB, H=32", "| SAB, mean", "| SAB, spectra of"),
    "sab-credit-10": ("| SAB, credit into",),
    "sab-cut28": ("| SAB, one segment a chunk",),
    "sab-cut100": ("| SAB, one segment a chunk",),
    "sab-decay": ("| SAB with",),
    "lstm-decay": ("| LSTM with `--weight-decay",),
    "sab-forgets": ("| SAB that forgets, mean",),
    "sab-horizon-0": ("| SAB, credit kept", "| SAB |"),
    "sab-no-credit": ("| SAB whose", "| SAB without"),
    "lstm": ("| LSTM |", "| LSTM, full", "| LSTM, chrono:120, mean", "| LSTM, chrono:320, mean", "| LSTM where"),
    "tbptt": ("| truncated BPTT over 10",),
    "tbptt-10": ("| truncated BPTT over 10",),
    "tbptt-50": ("| truncated BPTT over 50", "| truncated BPTT, 50"),
    "transformer": ("| Transformer |", "| Transformer, absolute"),
    "transformer-t5": ("| Transformer, relative",),
    "transformer-alibi": ("| Transformer, ALiBi",),
    "transformer-none": ("| Transformer, no",),
    "rtu": ("| RTU",),
    "chrono": ("| LSTM with",),
    "chunk400": ("| the same in chunks",),
}
"""Method, as its runs are named -> the beginnings of its rows."""
TRANSFORMERS = "transformer transformer-t5 transformer-alibi transformer-none"
METHODS: list[tuple[str, Figures, str]] = [
    ("adding/T200-tuned", each_and_average, "sab lstm tbptt-50 tbptt-10"),
    ("adding/T400-tuned", each_and_average, "sab lstm tbptt-50 tbptt-10"),
    ("adding/T1000-tuned", each_and_average, "sab lstm tbptt-50 tbptt-10"),
    ("copying/T100", lengths, "sab sab-forgets lstm transformer"),
    ("copying-tuned/T100", spread, f"sab lstm tbptt-50 tbptt-10 sab-no-credit {TRANSFORMERS}"),
    ("copying-tuned/T100", lengths, f"sab lstm {TRANSFORMERS}"),
    ("copying-tuned/T300", spread, "sab lstm tbptt-50 tbptt-10"),
    ("copying-tuned/T300", lengths, "sab lstm tbptt-50 tbptt-10"),
    ("cue/lag500", spread, "sab sab-cut100 sab-credit-10 sab-horizon-0 sab-no-credit lstm tbptt-10 rtu"),
    ("cue/lag5000-tuned", each_and_average, "sab sab-credit-10 sab-horizon-0 sab-no-credit lstm tbptt-10 rtu"),
    ("cue/lag5000-tuned", each_and_average, "sab-cut100"),
    ("cue/lag5000", each_and_average, "sab sab-credit-10 sab-horizon-0 sab-no-credit lstm tbptt-10 rtu"),
    ("digits", scores, "sab lstm"),
    ("kiln/tuned", each_and_average, "sab sab-cut100 sab-horizon-0 sab-no-credit lstm tbptt-10 rtu"),
    ("kiln", scores, "sab lstm tbptt chrono chunk400"),
    ("nback/rows-back1", each_and_average, "sab sab-cut28 sab-horizon-0 sab-no-credit lstm rtu"),
    ("nback/rows-back1-fits", each_and_average, "lstm"),
    ("nback/rows-back3", each_and_average, "sab lstm rtu"),
    ("nback/rows-back1", course, "sab sab-cut28 lstm rtu"),
    ("nback/rows-back3", course, "sab lstm rtu"),
    ("match/back1", each_and_average, "sab sab-horizon-0 lstm rtu"),
    ("match/back1-fits", each_and_average, "lstm"),
    ("match/back1", course, "sab sab-horizon-0 lstm rtu"),
    ("noisy-cifar10", mean_or_spread, "sab lstm sab-decay lstm-decay"),
    ("ptb/chunk100", each_and_average, "sab-horizon-0 lstm tbptt-50"),
    ("ptb/equal-time", each_and_average, "sab-cut100 lstm"),
    ("ptb/chunk100", course, "sab-horizon-0 sab-cut100 lstm tbptt-50"),
    ("text8/tuned", each_and_average, "sab-horizon-0 lstm tbptt-50"),
    ("text8/tuned", course, "sab-horizon-0 lstm tbptt-50"),
]
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
    ("| [ten million", "text8/tuned", "sab-horizon-0 lstm tbptt-50"),
    ("| [an outcome", "kiln/tuned", "sab lstm"),
    ("| [a real", "etth1/tuned", "sab sab-horizon-0 lstm tbptt"),
    ("| [which digit", "nback/rows-back1", "sab-cut28 sab lstm rtu"),
    ("| [is this the speaker", "match/back1", "sab sab-horizon-0 lstm rtu"),
    ("| [permuted", "pmnist/ten-epochs", "sab-cut28 sab lstm"),
]


TIMES: dict[str, tuple[str, float]] = {
    "minutes": ("seconds", 1 / 60),
    "seconds": ("seconds", 1),
    "time": ("seconds", 1),
    "ms an update": ("ms_per_update", 1),
}
"""Heading of a column of times -> the entry of a summary, and its factor."""
OTHER_TIMES = [
    ("| SAB |", "cifar10/rows/sab"),
    ("| truncated BPTT, 16 steps |", "cifar10/rows/tbptt-16"),
    ("| LSTM, full BPTT |", "cifar10/rows/lstm"),
    ("| SAB |", "pmnist/permuted/sab"),
    ("| truncated BPTT, 14 steps |", "pmnist/permuted/tbptt-14"),
    ("| LSTM, full BPTT |", "pmnist/permuted/lstm"),
    ("| SAB |", "text8/first10M/sab"),
    ("| truncated BPTT, 50 steps |", "text8/first10M/tbptt-50"),
    ("| LSTM, full BPTT in the chunk |", "text8/first10M/lstm"),
    ("| LSTM where the lag fits", "nback/rows-back1-fits/lstm"),
    ("| LSTM where the lag fits", "match/back1-fits/lstm"),
    ("| the same with", "noisy-cifar10/sab-decay0.3"),
]
"""Rows of tables with times that METHODS does not have, and their runs."""
NOT_OF_RUNS = {"processes", "reliability"}
"""Pages whose times are not of runs of `reminding train`."""
TIMES_IN_TEXT = [
    ("copying", "processes on two cores: {} to {} ms an update", [("copying/T100-mean-loss/*", "ends")]),
    ("copying-t30", "It took {} s to reach its target", [("copying-t30/sab-k5", "seconds")]),
    ("copying-t30", "validation split, {} ms an update", [("copying-t30/sab-k5", "mean")]),
    ("copying-t30", "seeds 1 and 2 took {} to {} s,", [(f"copying-t30/sab-k5-seed{i}", "seconds") for i in (1, 2)]),
    ("copying-t30", "s, {} to {} ms an update", [("copying-t30/sab-k5-seed?", "ends")]),
    (
        "cue",
        "an update of RTU took {} to {} ms, SAB's {} to {}; in the later run of 4,000 updates, {}.",
        [("cue/lag500/rtu-*", "ends"), ("cue/lag500/sab-seed?", "ends"), ("cue/rtu-longer/rtu-seed4", "mean")],
    ),
    (
        "cue",
        "An update of SAB took {} ms, {} with sweeps every ten chunks, RTU's {} and truncated BPTT's {}:",
        [(f"cue/lag5000/{method}-seed[0-2]", "mean") for method in ("sab", "sab-credit-10", "rtu", "tbptt-10")],
    ),
    ("cue", "kept within the chunk an update took {} ms", [("cue/lag5000/sab-horizon-0-seed0", "mean")]),
    (
        "kiln",
        "An update of the LSTM takes less time: {} to {} ms beside other work, SAB's {} to {}.",
        [("kiln/tuned/lstm-*", "ends"), ("kiln/tuned/sab-seed?", "ends")],
    ),
    (
        "pmnist",
        "An update of SAB took {} to {} ms cut every 14 steps, {} to {} cut every 28, and the LSTM's {} to {},",
        [(f"pmnist/ten-epochs/{method}-seed?", "ends") for method in ("sab", "sab-cut28", "lstm")],
    ),
]
"""Page, sentence, and the runs and kind of its figures: milliseconds an update (mean, or lowest and highest), or
seconds."""


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


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip().strip("|").split("|")]


def runs_of(page: Path, row: str, head: str) -> list[str]:
    """The runs that a row of a table may be of: those that it names, or those whose label and scores it has."""
    named = [
        name for name in re.findall(r"`([^`]+)`", row.split("|")[1]) if (page.parent / name / "config.json").is_file()
    ]
    if named:
        return [f"{page.parent.name}/{name}" for name in named]
    methods = [
        (label, f"{folder}/{each}", figures)
        for folder, figures, names in METHODS
        for each in names.split()
        for label in LABELS[each]
    ]
    candidates = [(label, f"{runs}-seed?", figures) for label, runs, figures in methods]
    candidates += [(label, f"{runs}-seed?", scores) for label, runs in OTHER_TIMES]
    mine = [each for each in candidates if each[1].startswith(f"{page.parent.name}/") and row.startswith(each[0])]
    return [runs for _, runs, figures in mine if (values := figures(runs, head)) and has(row, values)]


def is_time(text: str, runs: str, column: str) -> bool:
    """Whether a cell has the mean over the runs or, as "a to b", the lowest and the highest."""
    name, factor = TIMES[column]
    values = [each[name] * factor for each in files(runs, "summary.json")]
    shown = text.replace(" s", "").split(" to ")
    wanted = [min(values), max(values)] if len(shown) == 2 else [mean(values)]
    return all(map(same, shown, wanted))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_a_column_of_times_has_those_of_the_runs(page: Path) -> None:
    if page.parent.name in NOT_OF_RUNS:
        return
    for row, head in rows(page):
        columns = [(place, name) for place, name in enumerate(cells(head)) if name in TIMES]
        if row == head or row.startswith("|---"):
            continue
        for place, name in columns:
            text = cells(row)[place]
            assert any(is_time(text, runs, name) for runs in runs_of(page, row, head)), (row, name)


@pytest.mark.parametrize(("page", "sentence", "figures"), TIMES_IN_TEXT)
def test_times_in_a_sentence_are_those_of_the_runs(page: str, sentence: str, figures: list[tuple[str, str]]) -> None:
    text = " ".join((RESULTS / page / "README.md").read_text(encoding="utf-8").split())
    found = re.search(re.escape(sentence).replace(r"\{\}", r"([\d,.]+)"), text)
    assert found, "the sentence has changed: change it here, too"
    wanted: Values = []
    for runs, kind in figures:
        values = [each["seconds" if kind == "seconds" else "ms_per_update"] for each in files(runs, "summary.json")]
        wanted += [min(values), max(values)] if kind == "ends" else [mean(values)]
    assert len(wanted) == len(found.groups())
    assert all(map(same, found.groups(), wanted)), (found.groups(), wanted)
