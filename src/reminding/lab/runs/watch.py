"""Signs of trouble in training, found in the numbers that are logged anyway: the records of log.jsonl."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

from reminding.lab.runs.config import ModelOptions, TrainOptions
from reminding.lab.runs.saved.training import MeanLoss

NORM_LIMIT = 2.7
"""Times the square root of hidden_size. A cell's own state lies between -1 and 1 in every unit, so its norm is at
most that root. Recalls add a mean of stored states, which contain earlier recalls, so the norm can grow. Runs that
store every step reach 2.6 and learn; no run in results/ablation that went higher had learned."""
UNJUDGED = ("transformer", "mingru", "rtu")
"""Models whose output is no state of a cell between -1 and 1."""
GIVEN_BACK = 0.5
"""Share of the loss's decrease since the first evaluation that is lost again. Runs that learned lost 0.08, or 0.41
where the loss falls in jumps; a model that is thrown off its solution loses most of it or all."""
LEAST_GAIN = 0.05
"""Share of the first loss. With a smaller decrease there is no solution to lose: the loss only fluctuates."""
RISEN = 2.0
"""Times the first loss: training diverges, whether or not there was a solution."""
ENOUGH = 50
"""Updates with a target, over which the loss of a stream is averaged before it is judged. A stream that asks seldom
has fewer between two evaluations."""
SURE = 4.0
"""Standard errors of a difference between two such means. Of 100 means of one noisy loss, the highest and the lowest
are usually 3.5 apart."""
SPIKE = 30.0
"""Times the usual gradient norm, after clipping. Adam divides by the root of a mean over 1,000 updates. At ten times
the usual gradient its step still has the usual length; from thirty times on, ten updates are three times as long."""
DEAD_SHARE = 0.97
"""Share of a sequence's recall weight on a single memory. Alone it proves little: a model that has learned copying
reads one memory, the right one, 93% of the time."""
DEAD_EVALUATIONS = 3
"""Evaluations in a row, at least, during which the loss does not fall."""
STILL_LEARNING = 0.98
"""Times the loss before: a loss below it has fallen."""
LEARNED = 0.1
"""Share of the first loss: below it the model reads the right memory."""


@dataclass(frozen=True)
class Trouble:
    """A sign of trouble in a run.

    Args:
        name: "exploding_norm", "dead_attention", "lost_solution", "gradient_spike" or "gradient_not_finite".
        what: the observation, with its numbers.
        advice: the options to try.
    """

    name: str
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}"


class Watch:
    """Looks at each record of a run's log as it is written, and reports each kind of trouble once.

    The records determine everything: after the records of an interrupted run, a watch continues as if the run had not
    been interrupted.

    Args:
        model: of the run; it gives the width of the state, and the options that the advice may name.
        train: of the run; it says how gradients are clipped.
    """

    def __init__(self, model: ModelOptions, train: TrainOptions) -> None:
        self._model, self._train = model, train
        self._reported: set[str] = set()
        self._latest: MeanLoss | None = None
        self._means: list[MeanLoss] = []
        self._waiting: MeanLoss | None = None
        self._norms: list[float] = []
        self._dead: list[MeanLoss] = []

    def see(self, record: Mapping[str, Any]) -> list[Trouble]:
        """Look at a record of the log.

        Args:
            record: its "kind" is "train" (with loss, loss_error, loss_count, loss_targets, gradient_norm,
                gradient_norm_max and gradients_not_finite), "valid" (with state_norm and recall_share) or "warning";
                missing numbers are not judged. A loss without an error, as in older logs, is taken for exact.

        Returns:
            the kinds of trouble that have not been reported before.
        """
        if record["kind"] == "warning":
            self._reported.add(record["name"])
            return []
        troubles = self._updates(record) if record["kind"] == "train" else self._evaluation(record)
        new = [trouble for trouble in troubles if trouble.name not in self._reported]
        self._reported.update(trouble.name for trouble in new)
        return new

    def _updates(self, record: Mapping[str, Any]) -> list[Trouble]:
        troubles: list[Trouble] = []
        norm, highest = record.get("gradient_norm", math.nan), record.get("gradient_norm_max", math.nan)
        loss = record.get("loss", math.nan)
        if (bad := int(record.get("gradients_not_finite", 0))) and self._train.check_finite:
            what = f"{bad} {'gradient was' if bad == 1 else 'gradients were'} not finite, and skipped"
            troubles.append(Trouble("gradient_not_finite", what, calmer(self._model, self._train)))
        if (spike := self._spike(highest)) is not None:
            troubles.append(spike)
        if norm > 0:
            self._norms.append(norm)
        if math.isfinite(loss):
            count = int(record.get("loss_count", ENOUGH))
            self._latest = MeanLoss(loss, record.get("loss_error", 0.0), count, record.get("loss_targets", count))
            if (lost := self._lost(self._latest)) is not None:
                troubles.append(lost)
        return troubles

    def _spike(self, highest: float) -> Trouble | None:
        """A gradient far above the usual ones; adaptive clipping lets none pass."""
        clip = self._train.clip
        skipped = self._train.check_finite and not math.isfinite(highest)
        if skipped or len(self._norms) < 3 or (clip and self._train.clip_kind == "adaptive"):
            return None
        usual, passed = statistics.median(self._norms), min(highest, clip or math.inf)
        if not passed > SPIKE * usual:
            return None
        what = f"a gradient had norm {highest:.3g}, where {usual:.2g} is usual"
        if clip:
            what += f", and was only clipped to {passed:g}"
        return Trouble("gradient_spike", what, "try --clip 1 --clip-kind adaptive, which follows the usual norm")

    def _lost(self, latest: MeanLoss) -> Trouble | None:
        """A loss that rises back to its first value, or far above it, by more than its noise.

        Losses are put together until they are enough to judge.
        """
        mean = latest if self._waiting is None else self._waiting + latest
        self._waiting = mean if mean.count < ENOUGH else None
        if self._waiting is not None:
            return None
        self._means.append(mean)
        first, lowest = self._means[0], min(self._means, key=lambda each: each.value)
        loss, best, gain = mean.value, lowest.value, first.value - lowest.value
        back = gain >= LEAST_GAIN * first.value and loss - best >= GIVEN_BACK * gain and _surely_above(mean, lowest)
        if not back and not (loss > RISEN * first.value and _surely_above(mean, first)):
            return None
        adaptive = self._train.clip and self._train.clip_kind == "adaptive"
        clipping = "" if adaptive else "--clip 1 --clip-kind adaptive and "
        what = f"the loss rose from {best:.4f} to {loss:.4f}: the model lost what it had learned"
        if not back:
            what = f"the loss rose from {first.value:.4f} at the beginning to {loss:.4f}"
        return Trouble("lost_solution", what, f"try {clipping}an --lr below {self._train.lr:g}")

    def _evaluation(self, record: Mapping[str, Any]) -> list[Trouble]:
        troubles: list[Trouble] = []
        norm, share = record.get("state_norm"), record.get("recall_share")
        if norm is not None and self._model.model not in UNJUDGED:
            limit = NORM_LIMIT * math.sqrt(self._model.hidden_size)
            if not norm <= limit:  # nan, too
                troubles.append(
                    Trouble(
                        "exploding_norm",
                        f"the norm of h is {norm:.1f}, above {limit:.1f}",
                        calmer(self._model, self._train),
                    )
                )
        if share is not None and self._stuck(share):
            what = f"one memory gets {share:.0%} of the recall weight, and the loss does not fall"
            troubles.append(Trouble("dead_attention", what, self._livelier()))
        return troubles

    def _stuck(self, share: float) -> bool:
        """Whether one memory has got all weight for some evaluations, and the loss is high and surely does not fall.

        The losses since then are compared by halves: the longer it lasts, the less is hidden by their noise.
        """
        latest, self._latest = self._latest, None
        if share < DEAD_SHARE or latest is None:
            self._dead = [] if share < DEAD_SHARE else self._dead
            return False
        self._dead.append(latest)
        half = len(self._dead) // 2
        earlier, later = (reduce(add, part) if part else None for part in (self._dead[:half], self._dead[half:]))
        if earlier is None or later is None or min(earlier.count, later.count) < ENOUGH:
            return False
        fallen = replace(earlier, value=STILL_LEARNING * earlier.value)
        if _surely_above(fallen, later):
            self._dead = [latest]
        high = later.value > LEARNED * self._means[0].value
        return len(self._dead) >= DEAD_EVALUATIONS and high and _surely_above(later, fallen)

    def _livelier(self) -> str:
        """Advice that lets the model choose other memories."""
        tries = [f"an --lr below {self._train.lr:g}", "another --seed"]
        if self._model.score not in (None, "additive"):
            tries.insert(0, "--score additive")
        if self._model.normalizer not in (None, "softmax", "softmax1"):
            tries.insert(0, "--normalizer softmax")
        return f"try {', '.join(tries)}"


def _surely_above(mean: MeanLoss, other: MeanLoss) -> bool:
    """Whether the difference is more than the noise of both."""
    return mean.value - other.value > SURE * math.hypot(mean.error, other.error)


def calmer(model: ModelOptions, train: TrainOptions) -> str:
    """Advice that keeps a model's state and its gradient small."""
    if model.model != "sab":
        return f"try an --lr below {train.lr:g}"
    if model.cell == "gru" and model.recall_scale > 0.1:
        return "a gru adds up what it recalls, whatever is stored: try --cell lstm, or --recall-scale 0.1"
    tries = ["--recall-scale 0.5"] if model.recall_scale == 1 else []
    if model.k_att is not None and model.k_trunc is not None and model.k_att != model.k_trunc:
        tries.insert(0, "no --k-att (a memory at the end of each segment)")
    if model.normalizer not in (None, "softmax", "softmax1"):
        tries.append("--normalizer softmax")
    return f"try {', '.join([*tries, f'an --lr below {train.lr:g}'])}"
