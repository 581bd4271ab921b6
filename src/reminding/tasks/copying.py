"""The copying memory task: remember some symbols over many blank steps, then repeat them.

Shapes: B batch, T blank steps between the symbols and their recall, S symbols, A alphabet,
L = T + 2 S steps in all, C = A + 2 token ids.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reminding.checks import at_least
from reminding.tasks.kinds.base import TRAINING, Batch, MetricSums, check_prediction, full_precision
from reminding.tasks.kinds.generated import Generated

BLANK = 0


@dataclass(frozen=True)
class Copying(Generated):
    """The copying memory task.   [Hochreiter & Schmidhuber 1997, in the form of Arjovsky et al. 2016]

    Input: S symbols drawn uniformly from ids 1..A, T - 1 blanks (id 0), one delimiter (id A + 1), S
    blanks. Target: T + S blanks, then the S symbols in order. Both (L, B) int64.

    The best model without memory predicts blanks and then guesses uniformly: its cross-entropy is S ln(A) / L nats
    over all steps, and its accuracy 1 / A over the last S.

    Args:
        T: steps from the last symbol to its first repetition, at least 1.
        symbols: S, number of symbols to remember, at least 1.
        alphabet: A, number of different symbols, at least 2.
        balanced: train on the mean loss over the recalled steps plus the mean over the others, so that the weight of
            the recalled steps does not depend on T; no: on the mean over all steps, the usual definition. The metrics
            are the same.

    Raises:
        ValueError: an option is out of range; the message names it.
    """

    name: ClassVar[str] = "copying"
    metric = "accuracy"
    maximize: ClassVar[bool] = True

    T: int = 100
    symbols: int = 10
    alphabet: int = 8
    balanced: bool = field(default=False, metadata={TRAINING: True})

    def __post_init__(self) -> None:
        """Check the options."""
        at_least("T", self.T, 1)
        at_least("symbols", self.symbols, 1)
        at_least("alphabet", self.alphabet, 2)

    @property
    def vocabulary(self) -> int:
        """A + 2 token ids: the blank, the symbols, the delimiter."""
        return self.alphabet + 2

    @property
    def input_size(self) -> int:
        """The size of the vocabulary."""
        return self.vocabulary

    @property
    def output_size(self) -> int:
        """C = A + 2, as many classes as token ids; the delimiter is never the target."""
        return self.vocabulary

    def draw(self, sequences: int, rng: np.random.Generator) -> Batch:
        """Draw a batch: input (L, B), target (L, B)."""
        shown = torch.as_tensor(rng.integers(1, self.alphabet + 1, size=(self.symbols, sequences)))  # (S, B)
        tokens = torch.full((self.T + 2 * self.symbols, sequences), BLANK)
        tokens[: self.symbols] = shown
        tokens[self.symbols + self.T - 1] = self.alphabet + 1
        target = torch.full_like(tokens, BLANK)
        target[-self.symbols :] = shown
        return Batch(tokens, target)

    def loss(self, prediction: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy over all L steps, nats, or the sum of two means. `prediction` is logits, (L, B, C)."""
        check_prediction(prediction, batch, self.output_size)
        if not self.balanced:
            return _mean(prediction, batch.target)
        blanks = len(prediction) - self.symbols
        return _mean(prediction[:blanks], batch.target[:blanks]) + _mean(prediction[blanks:], batch.target[blanks:])

    def metrics(self, prediction: Tensor, batch: Batch) -> MetricSums:
        """Accuracy and cross-entropy (nats) over the recalled steps and over all.

        Args:
            prediction: logits, (L, B, C).
            batch: the batch that was predicted.

        Returns:
            "accuracy" and "cross_entropy_recall" over the last S steps, "accuracy_all" and
            "cross_entropy" over all L.
        """
        check_prediction(prediction, batch, self.output_size)
        right = prediction.argmax(-1) == batch.target  # (L, B)
        classes_second = full_precision(prediction).transpose(1, 2)  # (L, C, B)
        surprise = F.cross_entropy(classes_second, batch.target, reduction="none")  # (L, B)
        every, recalled = batch.target.numel(), self.symbols * batch.target.shape[1]
        return {
            "accuracy": (float(right[-self.symbols :].sum()), recalled),
            "cross_entropy": (float(surprise.sum()), every),
            "cross_entropy_recall": (float(surprise[-self.symbols :].sum()), recalled),
            "accuracy_all": (float(right.sum()), every),
        }


def _mean(prediction: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(prediction.flatten(0, 1), target.flatten())
