"""The figures of runs as tables show them, and the tables that are known.

A row is found by its beginning, without emphasis. The expected figures stand in it side by side, rounded as shown.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean, stdev

from tests.docs.results.rows import files, numbers

Values = list[float]
Figures = Callable[[str, str], Values | None]
"""The figures of runs (a pattern of folders) in a table with a heading row; None if the table is of another kind."""


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
    """Means over the seeds on validation, after the updates that the heading row names; None if a run has fewer."""
    if not head.startswith("| after so many updates"):
        return None
    metric = files(runs, "summary.json")[0]["metric"]
    logs = [{each["step"]: each for each in log if each["kind"] == "valid"} for log in files(runs, "log.jsonl")]
    steps = [int(text.replace(",", "")) for text in numbers(head)]
    if any(max(steps) > max(log) for log in logs):
        return None
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
    "sab": ("| SAB |", "| SAB, cut", "| SAB, H=32", "| SAB, mean", "| SAB, spectra of", "| SAB, 32 memories"),
    "sab-8": ("| SAB, 8 memories",),
    "sab-16": ("| SAB, 16 memories",),
    "sab-credit-10": ("| SAB, credit into",),
    "sab-cut28": ("| SAB, one segment a chunk",),
    "sab-cut100": ("| SAB, one segment a chunk",),
    "cut100": ("| SAB without credit, one segment",),
    "cut10": ("| SAB without credit, cut",),
    "sab-decay": ("| SAB with",),
    "sab-decay-dropout": ("| Both",),
    "lstm-decay": ("| LSTM with `--weight-decay",),
    "sab-forgets": ("| SAB that forgets, mean",),
    "sab-horizon-0": ("| SAB, credit kept", "| SAB |"),
    "sab-no-credit": ("| SAB whose", "| SAB without"),
    "lstm": ("| LSTM |", "| LSTM, full", "| LSTM, chrono:120, mean", "| LSTM, chrono:320, mean", "| LSTM where"),
    "tbptt": ("| truncated BPTT over 10",),
    "tbptt-10": ("| truncated BPTT over 10", "| truncated BPTT, 10"),
    "tbptt-50": ("| truncated BPTT over 50", "| truncated BPTT, 50"),
    "mingru": ("| minGRU",),
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
    ("copying-tuned/T100", spread, f"sab lstm mingru tbptt-50 tbptt-10 sab-no-credit {TRANSFORMERS}"),
    ("copying-tuned/T100", lengths, f"sab lstm mingru {TRANSFORMERS}"),
    ("copying-tuned/T100-again", lengths, "tbptt-50 tbptt-10"),
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
    ("nback/rows-back3", each_and_average, "sab sab-8 sab-16 lstm rtu"),
    ("nback/rows-back1", course, "sab sab-cut28 lstm rtu"),
    ("nback/rows-back3", course, "sab sab-8 sab-16 lstm rtu"),
    ("match/back1", each_and_average, "sab sab-horizon-0 lstm rtu"),
    ("match/back1-fits", each_and_average, "lstm"),
    ("match/back1", course, "sab sab-horizon-0 lstm rtu"),
    ("noisy-cifar10", mean_or_spread, "sab lstm sab-decay sab-decay-dropout lstm-decay"),
    ("ptb/chunk100", each_and_average, "sab-horizon-0 lstm tbptt-50"),
    ("ptb/no-credit", course, "cut100 cut10"),
    ("ptb/equal-time", each_and_average, "sab-cut100 lstm"),
    ("ptb/chunk100", course, "sab-horizon-0 sab-cut100 lstm tbptt-50 tbptt-10"),
    ("text8/equal-time", each_and_average, "sab-cut100 lstm"),
    ("text8/equal-time", course, "sab-cut100 lstm"),
    ("text8/tuned", each_and_average, "sab-cut100 sab-horizon-0 lstm tbptt-50 tbptt-10"),
    ("text8/tuned", course, "sab-cut100 sab-horizon-0 lstm tbptt-50 tbptt-10"),
]
