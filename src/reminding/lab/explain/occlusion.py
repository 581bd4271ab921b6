"""A test of the credit: how far a metric falls when the most credited parts of each sequence are blanked.

Shapes: T time, R sequences, N entries of credit, P pieces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from reminding.checks import at_least
from reminding.disk.records import write_json
from reminding.lab.explain.explanation import explainable, input_times_gradient
from reminding.lab.explain.legend import legend_of
from reminding.lab.runs.facts import check_own_data
from reminding.lab.runs.model import SequenceModel
from reminding.lab.show.plots import Curve, occlusion_curves
from reminding.lab.show.tables import Table
from reminding.nn import SAB
from reminding.tasks import Batch, EvalSplit, FileStream, MetricSums, mean_metrics

MOST_SEQUENCES = 10_000_000
"""The most that are blanked: a made-up task has no last sequence."""
SHARES = (0.05, 0.1, 0.2, 0.4)
"""Shares of a sequence's pieces that are blanked."""
DRAWS = 3
"""Random orders of the pieces, whose results are averaged."""
ROWS = 50
"""Sequences per batch."""
UNTOUCHED = ("", 0.0)
"""Key of the results without blanking."""
ORDERS: Mapping[str, str] = {
    "credit": "the most credit first",
    "recall": "the most recalled first",
    "gradient": "the largest input times its gradient first",
    "loudest": "the largest values first",
    "earliest": "the first piece first",
    "latest": "the last piece first",
    "random": "at random",
}
"""Order of blanking -> its name in a table."""


@dataclass(frozen=True)
class Occlusion:
    """A metric before and after pieces of the sequences are blanked, in several orders.

    Attributes:
        metric: the task's main metric.
        sequences: number of sequences; split: the split that they are from.
        interval: steps of a piece, which are the steps from one memory to the next.
        untouched: the metric without blanking.
        blanked: order -> the metric with each of `SHARES` blanked.
        on_blank: the share of the credit that pieces received which were blank already, between 0 and 1.
    """

    metric: str
    sequences: int
    split: str
    interval: int
    untouched: float
    blanked: Mapping[str, tuple[float, ...]]
    on_blank: float

    def table(self) -> Table:
        """The table, an order a row."""
        columns = ["what is blanked", "0%", *(f"{share:.0%}" for share in SHARES)]
        rows = [
            [ORDERS[order], f"{self.untouched:.3f}", *(f"{value:.3f}" for value in values)]
            for order, values in self.blanked.items()
        ]
        notes = [
            f"{self.metric} of {self.sequences} {self.split} sequences, after a share of the pieces of each was "
            f"blanked; a piece has {self.interval} steps. Pieces that are blank already are not counted; they "
            f"received {self.on_blank:.0%} of the credit.",
            "The faster the metric falls, the better an order finds the pieces that the predictions need. Credit "
            "that does no better than a fixed or a random order finds nothing in particular.",
        ]
        return Table("Does the credit find what matters?", columns, rows, notes)


def occlude(folder: Path, sequences: int = 100, split: EvalSplit = "test") -> Occlusion:
    """Evaluate a run on sequences whose pieces are blanked in several orders.   [Samek et al. 2017]

    Among values the blank is 0, which is the mean of a labelled series; among tokens it is the task's blank.

    Args:
        folder: of a run of SAB.
        sequences: number of sequences, spread over the split; all of them if it has fewer.

    Raises:
        FileNotFoundError: the folder is not a run or has no weights yet, or a file of its data is missing.
        ValueError: the run has nothing to explain, or reads streams, or tokens without a blank; a file of its data
            was changed; or sequences is below 1.
    """
    at_least("occlude", sequences, 1, MOST_SEQUENCES)
    config, model, layer = explainable(folder)
    task = config.task
    trial = _Trial(model, layer, task, _blank(task))
    check_own_data(task, folder, "occlude", "bring the file back as it was")
    count = 0
    for batch in task.eval_batches(split, ROWS, sequences):
        trial.evaluate(batch)
        count += batch.input.shape[1]
    means = {key: mean_metrics(parts)[task.metric] for key, parts in trial.sums.items()}
    return Occlusion(
        task.metric,
        count,
        split,
        layer.k_att,
        means[UNTOUCHED],
        {order: tuple(means[order, share] for share in SHARES) for order in ORDERS if (order, SHARES[0]) in means},
        trial.on_blank / trial.credit if trial.credit else 0.0,
    )


def write_occlusion(occlusion: Occlusion, out: Path, title: str) -> list[Path]:
    """Write occlusion.png, with a curve for each order, and occlusion.json, the numbers. Returns the files."""
    figure, numbers = out / "occlusion.png", out / "occlusion.json"
    blanked = [0, *(round(100 * share) for share in SHARES)]
    curves = [
        Curve(ORDERS[order], blanked, [occlusion.untouched, *values]) for order, values in occlusion.blanked.items()
    ]
    occlusion_curves(curves, occlusion.metric, f"{title}: does the credit find what matters?", figure)
    write_json(numbers, {**asdict(occlusion), "shares": SHARES})
    return [figure, numbers]


def _blank(task: Any) -> int:
    """The blank of a task: a token, or the value 0."""
    if task.streamed:
        stream = f"a file of {task.known.kind}" if isinstance(task, FileStream) else task.name
        raise ValueError(f"occlude is for whole sequences, and {stream} is a stream")
    if task.vocabulary is None:
        return 0
    quiet = legend_of(task).quiet
    if not quiet:
        raise ValueError(f"occlude needs a blank token, and {task.name} has none")
    return quiet[0]


class _Trial:
    """The evaluation, batch by batch.

    Attributes:
        sums: (order, share) -> the sums of the metrics, one entry per batch.
        credit: all credit so far; on_blank: the part that pieces received which were blank already.
    """

    def __init__(self, model: SequenceModel, layer: SAB, task: Any, blank: int) -> None:
        self.model, self.task, self.blank = model, task, blank
        self.layer, self.size = layer, layer.k_att
        self.sums: dict[tuple[str, float], list[MetricSums]] = {}
        self.credit = self.on_blank = 0.0
        self.generator = torch.Generator().manual_seed(0)

    def evaluate(self, batch: Batch) -> None:
        """Evaluate a batch as it is, and blanked in every order."""
        filled = self._by_piece(self._loudness(batch.input)) > 0  # (P, R)
        scores, prediction = self._scores(batch)
        self._note(UNTOUCHED, prediction, batch)
        self.credit += float(scores["credit"].sum())
        self.on_blank += float(scores["credit"][~filled].sum())
        draws = [("random", torch.rand(filled.shape, generator=self.generator)) for _ in range(DRAWS)]
        for order, score in [*scores.items(), *draws]:
            for share in SHARES:
                steps = self._first(score, filled, share).repeat_interleave(self.size, 0)  # (P * size, R)
                input = batch.input.clone()
                input[steps[: len(input)]] = self.blank
                with torch.no_grad():
                    self._note((order, share), self.model(input)[0], batch)

    def _note(self, key: tuple[str, float], prediction: Tensor, batch: Batch) -> None:
        self.sums.setdefault(key, []).append(self.task.metrics(prediction, batch))

    def _scores(self, batch: Batch) -> tuple[dict[str, Tensor], Tensor]:
        """The scores by which each order ranks the pieces, (P, R) each; and the prediction."""
        real = batch.input.is_floating_point()
        input = batch.input.detach().clone().requires_grad_(real)
        with torch.enable_grad(), self.layer.credit() as credit:
            prediction, _, recall = self.model(input)
            self.task.loss(prediction, batch).backward()
        self.model.zero_grad()
        step, weight = recall.step, recall.weight.detach()
        if step.dim() == 3:  # one layer
            step, weight = step.unsqueeze(0), weight.unsqueeze(0)
        rows = torch.arange(batch.input.shape[1]).view(-1, 1).expand_as(step)
        pieces = -(-len(input) // self.size)
        place = torch.arange(float(pieces)).unsqueeze(1).expand(pieces, input.shape[1])
        scores = {
            "credit": self._by_memory(batch, credit.memory_step, credit.row, credit.amount),
            "recall": self._by_memory(batch, step.flatten(), rows.flatten(), weight.flatten()),
            "earliest": -place,
            "latest": place,
        }
        if real and input.grad is not None:
            scores["gradient"] = self._by_piece(input_times_gradient(input, input.grad))
            scores["loudest"] = self._by_piece(self._loudness(batch.input))
        return scores, prediction.detach()

    def _loudness(self, input: Tensor) -> Tensor:
        """The squared distance of each step from a blank, (T, R)."""
        distance = (input - self.blank).double().square()
        return distance if input.dim() == 2 else distance.sum(2)

    def _by_piece(self, values: Tensor) -> Tensor:
        """Sums of (T, R) over pieces, (P, R)."""
        pieces = cast("tuple[Tensor, ...]", values.double().split(self.size))
        return torch.stack([piece.sum(0) for piece in pieces])

    def _by_memory(self, batch: Batch, step: Tensor, row: Tensor, amount: Tensor) -> Tensor:
        """Sums of amounts (N,) over the pieces, (P, R); `step` is where a memory was stored, and 0 is no memory."""
        steps, rows = batch.input.shape[:2]
        sums = torch.zeros(steps + 1, rows, dtype=torch.float64)
        sums.index_put_((step, row), amount.double(), accumulate=True)
        return self._by_piece(sums[1:])

    def _first(self, score: Tensor, filled: Tensor, share: float) -> Tensor:
        """The share of the filled pieces with the largest scores, (P, R) bool. Ties are broken at random."""
        shuffled = torch.rand(score.shape, generator=self.generator).argsort(dim=0)
        candidates = score.masked_fill(~filled, -torch.inf).gather(0, shuffled)
        order = shuffled.gather(0, candidates.argsort(dim=0, descending=True, stable=True))
        rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)).unsqueeze(1).expand_as(order))
        return rank < (filled.sum(0) * share).ceil()
