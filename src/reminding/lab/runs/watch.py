"""What goes wrong while training, told from the numbers that the log gets anyway.

Shapes: none; numbers come from the records of log.jsonl.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reminding.lab.runs.config import ModelOptions, TrainOptions

NORM_LIMIT = 2.7
"""Times the square root of hidden_size. A cell's own state lies between -1 and 1 in every unit, so its norm is below
once that root; what is recalled is a mean of such states with what they had recalled in their turn, and piles up on
itself. Runs that store every step come to 2.6 and learn; of those in results/ablation that went above, none had."""
GIVEN_BACK = 0.5
"""Share of what the loss had gained since the first evaluation. Runs that learned gave back 0.08 and, where the loss
comes in steps, 0.41; a model thrown off the solution it had gives back most of it or all."""
LEAST_GAIN = 0.05
"""Of the first loss: with less there is nothing yet that could be lost, and the loss only wavers."""
RISEN = 2.0
"""Times the first loss: there was never a solution to lose, and it goes the wrong way."""
SPIKE = 30.0
"""Times the usual gradient norm, after clipping. Adam, which divides by the root of a mean over 1,000 updates, takes
a step of its usual length at ten times the usual gradient, and of three times the usual length, ten updates long,
from thirty on."""
DEAD_SHARE = 0.97
"""Share of a sequence's recall weight that a single memory gets. Alone it says little: a model that has learned
copying reads one memory, the right one, 93% of the time."""
DEAD_EVALUATIONS = 3
"""In a row, with the loss no lower than before them."""
STILL_LEARNING = 0.98
"""A loss below this times the best one before has fallen."""
LEARNED = 0.1
"""Of the first loss: below it the memory that is read is the right one."""


@dataclass(frozen=True)
class Trouble:
    """Something that goes wrong in a run.

    Args:
        name: "exploding_norm", "dead_attention", "lost_solution" or "gradient_spike".
        what: is seen, with its numbers.
        advice: what to try.
    """

    name: str
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}; {self.advice}"


class Watch:
    """Looks at each record of a run's log as it is written, and tells each kind of trouble once.

    Everything follows from the records, so that a watch which has seen those of an interrupted run goes on with it as
    if nothing had happened.

    Args:
        model: of the run: the width of the state, and what there is to recommend against.
        train: of the run: how gradients are clipped.
    """

    def __init__(self, model: ModelOptions, train: TrainOptions) -> None:
        self._model, self._train = model, train
        self._told: set[str] = set()
        self._losses: list[float] = []
        self._norms: list[float] = []
        self._dead = 0

    def see(self, record: Mapping[str, Any]) -> list[Trouble]:
        """Look at a record of the log.

        Args:
            record: its "kind" is "train" (with loss, gradient_norm and gradient_norm_max), "valid" (with state_norm
                and recall_share) or "warning"; numbers that are missing are not judged.

        Returns:
            what is wrong and has not been told before.
        """
        if record["kind"] == "warning":
            self._told.add(record["name"])
            return []
        found = self._updates(record) if record["kind"] == "train" else self._evaluation(record)
        new = [trouble for trouble in found if trouble.name not in self._told]
        self._told.update(trouble.name for trouble in new)
        return new

    def _updates(self, record: Mapping[str, Any]) -> list[Trouble]:
        found: list[Trouble] = []
        norm, highest = record.get("gradient_norm", math.nan), record.get("gradient_norm_max", math.nan)
        loss = record.get("loss", math.nan)
        if (spike := self._spike(highest)) is not None:
            found.append(spike)
        if norm > 0:
            self._norms.append(norm)
        if math.isfinite(loss):
            if (lost := self._lost(loss)) is not None:
                found.append(lost)
            self._losses.append(loss)
        return found

    def _spike(self, highest: float) -> Trouble | None:
        """A gradient far above the usual; adaptive clipping lets none through."""
        clip = self._train.clip
        if len(self._norms) < 3 or (clip and self._train.clip_kind == "adaptive"):
            return None
        usual, passed = statistics.median(self._norms), min(highest, clip or math.inf)
        if not passed > SPIKE * usual:
            return None
        what = f"a gradient of norm {highest:.3g} where {usual:.2g} is usual"
        if clip:
            what += f" was clipped to {passed:g} only"
        return Trouble("gradient_spike", what, "try --clip 1 --clip-kind adaptive, which follows the usual norm")

    def _lost(self, loss: float) -> Trouble | None:
        """A loss that rises back to where it came from, or away from where it began."""
        if not self._losses:
            return None
        first, best = self._losses[0], min(self._losses)
        gain = first - best
        back = gain >= LEAST_GAIN * first and loss - best >= GIVEN_BACK * gain
        if not back and not loss > RISEN * first:
            return None
        adaptive = self._train.clip and self._train.clip_kind == "adaptive"
        clipping = "" if adaptive else "--clip 1 --clip-kind adaptive and "
        what = f"the loss has risen to {loss:.4f} from {best:.4f}: the model has lost what it had learned"
        if not back:
            what = f"the loss has risen to {loss:.4f} from {first:.4f} at the beginning"
        return Trouble("lost_solution", what, f"try {clipping}an --lr below {self._train.lr:g}")

    def _evaluation(self, record: Mapping[str, Any]) -> list[Trouble]:
        found: list[Trouble] = []
        norm, share = record.get("state_norm"), record.get("recall_share")
        if norm is not None and self._model.model != "transformer":
            limit = NORM_LIMIT * math.sqrt(self._model.hidden_size)
            if not norm <= limit:  # nan, too
                found.append(
                    Trouble("exploding_norm", f"the norm of h is {norm:.1f}, over {limit:.1f}", self._calmer())
                )
        if share is not None:
            self._dead = self._dead + 1 if share >= DEAD_SHARE and self._stuck() else 0
            if self._dead >= DEAD_EVALUATIONS:
                what = f"one memory gets {share:.0%} of the recall weight, at nearly every step, and the loss stays"
                found.append(Trouble("dead_attention", what, self._livelier()))
        return found

    def _stuck(self) -> bool:
        """Whether the loss is high and has not fallen since the evaluation before."""
        if len(self._losses) < 2:
            return False
        *before, last = self._losses
        return last > LEARNED * before[0] and last > STILL_LEARNING * min(before)

    def _calmer(self) -> str:
        """What keeps the state small."""
        model = self._model
        if model.model != "sab":
            return f"try an --lr below {self._train.lr:g}"
        tries = ["--recall-scale 0.5"] if model.recall_scale == 1 else []
        if model.k_att is not None and model.k_att != model.k_trunc:
            tries.insert(0, "no --k-att (a memory at the end of each segment)")
        if model.normalizer not in (None, "softmax", "softmax1"):
            tries.append("--normalizer softmax")
        return f"try {', '.join([*tries, f'an --lr below {self._train.lr:g}'])}"

    def _livelier(self) -> str:
        """What lets another memory be chosen."""
        tries = [f"an --lr below {self._train.lr:g}", "another --seed"]
        if self._model.score not in (None, "additive"):
            tries.insert(0, "--score additive")
        if self._model.normalizer not in (None, "softmax", "softmax1"):
            tries.insert(0, "--normalizer softmax")
        return f"try {', '.join(tries)}"
