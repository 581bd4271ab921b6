"""Times in the tables and sentences of results/ are those of the runs."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import mean

import pytest

from tests.docs.results.figures import LABELS, METHODS, Values, scores
from tests.docs.results.rows import PAGES, cells, files, has, rows, same
from tests.places import RESULTS

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
    ("| the same, but 45,000", "noisy-cifar10/sab-decay0.3-longer"),
    ("| SAB that stores", "noisy-cifar10/sab-decay-proposal"),
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
