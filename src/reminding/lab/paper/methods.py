"""What an experiment is made of: settings, methods matched in parameters, and the grid that all are tuned over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reminding.lab.paper.tuning import Grid
from reminding.lab.runs.config import ModelOptions, RunConfig, TrainOptions
from reminding.lab.runs.evaluation import EvalOptions
from reminding.lab.runs.parity import matched, parameters

TUNED = (
    "Every method was tuned over the same learning rates and initial biases of the forget gate, on validation data, "
    "with a seed that no run below has; the runs below have the choice. chrono:T are biases with which an LSTM "
    "remembers over T steps (Tallec and Ollivier 2018)."
)
FINALS = (
    "Tuning runs are short; of each method the best points of two rates were then trained in full length, and the "
    "better one was taken."
)
FORGET_SCALE = 0.95
"""Of an LSTM that must forget: half in 14 steps, a little more than a segment."""
MINGRU_LAYERS = 3
"""Of a minGRU. Its gates read a layer's input alone, so that only a second layer can act on what the first holds."""


@dataclass(frozen=True)
class Setting:
    """A task and the runs that are compared on it.

    Args:
        name: for `reminding reproduce --settings`.
        runs: method -> its run, for seed 0.
        grid: what every method is tuned over before its runs; None: the runs are as they stand.
    """

    name: str
    runs: Mapping[str, RunConfig]
    grid: Grid | None = None


@dataclass(frozen=True)
class FurtherTest:
    """A test of trained models on sequences of another length.

    Args:
        T: the length.
        methods: the methods that can read sequences of this length.
        options: of the evaluation. Its capacity and evict bound SAB's memory where a whole sequence is too much to
            remember; models that are not SAB leave them out.
    """

    T: int
    methods: Sequence[str]
    options: EvalOptions


@dataclass(frozen=True)
class Experiment:
    """A table of the paper.

    Args:
        name: for `reminding reproduce`.
        title: one line.
        settings: rows of the table, or blocks of rows.
        remarks: differences from the paper, and hints for the reader of the table.
        folder: of the runs: the experiment's name, or that of another experiment whose runs it uses.
        tests: further tests of the trained models.
    """

    name: str
    title: str
    settings: Sequence[Setting]
    remarks: Sequence[str]
    folder: str
    tests: Sequence[FurtherTest] = ()


def grid(reach: int, share: float, finalists: int = 0) -> Grid:
    """Rates and starts for all methods of a setting whose longest dependence is `reach` steps; see `Grid`.

    A method that can be begun with a memory as long as the dependence is tried that way, too.
    """
    return Grid((1e-3, 3e-3, 1e-2), (None, 1.0, f"chrono:{reach}"), share, finalists, (0.0, 0.9, 1 - 1 / reach))


def methods(
    task: Any,
    sab: ModelOptions,
    train: TrainOptions,
    truncations: Sequence[int],
    *,
    published: bool = False,
    streamed: bool = False,
) -> dict[str, RunConfig]:
    """SAB and the methods that it is compared with.

    Args:
        truncations: lengths of truncated BPTT.
        published: whether the paper's own setting is run too.
        streamed: whether to leave out the methods that keep everything they have read, and to run SAB with its credit
            kept within a chunk.
    """
    wanted = parameters(task, sab)
    runs = {"sab": RunConfig(task, sab, train)}
    if published:
        paper = replace(sab, normalizer="threshold", k_top=10, k_att=2)
        runs["sab-paper"] = RunConfig(task, paper, replace(train, clip_kind="fixed"))
    runs["sab-no-credit"] = RunConfig(task, replace(sab, backtrack=False), train)
    if streamed:
        runs["sab-horizon-0"] = RunConfig(task, replace(sab, horizon=0), train)
    tbptt = matched(task, replace(_bare(sab), model="tbptt"), wanted)
    for length in truncations:
        runs[f"tbptt-{length}"] = RunConfig(task, replace(tbptt, k_trunc=length), train)
    runs["lstm"] = RunConfig(task, replace(tbptt, model="lstm"), train)
    layers = replace(_bare(sab), model="mingru", num_layers=MINGRU_LAYERS)
    runs["mingru"] = RunConfig(task, matched(task, layers, wanted), train)
    if not streamed:
        runs["attention"] = RunConfig(task, matched(task, replace(_bare(sab), model="attention"), wanted), train)
        two = replace(_bare(sab), model="transformer", num_layers=2)
        runs["transformer"] = RunConfig(task, matched(task, two, wanted), train)
    return runs


def _bare(sab: ModelOptions) -> ModelOptions:
    """A model of the same size, with the default options of SAB's memory."""
    fresh = ModelOptions()
    return replace(sab, capacity=fresh.capacity, horizon=fresh.horizon, recall_scale=fresh.recall_scale)
