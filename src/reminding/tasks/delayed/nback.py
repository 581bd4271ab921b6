"""A stream of MNIST images, pixel by pixel: at the end of each, which digit was shown k images before?

Shapes: T steps of a chunk, B batch (rows, one stream each), L steps of an image, n images, I pixels per step.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reminding.checks import at_least, require
from reminding.tasks.kinds.base import Split, stream
from reminding.tasks.kinds.itemstream import Items, ItemStream
from reminding.tasks.mnist import MNIST, PIXELS

BLOCK = 64
"""Images drawn at a time, so that any chunk can be drawn without the chunks before it."""


@dataclass(frozen=True)
class NBack(ItemStream):
    """n-back on MNIST: at the last pixel of each image, the label of the image `back` images before.

    Each row shows images of the split, drawn at random, one after the other without a gap, `frame` pixels a step.
    Input (T, B, frame) in [0, 1], in chunks of `chunk` steps, state carried; target (T, B) int64, a digit at the last
    step of an image and -100 elsewhere; the first `back` images ask for nothing. Chance accuracy 0.1.

    The image asked for ends `back` images before the question. With chunks of at most back * 784 / frame steps, no
    chunk holds a step of that image and the question for it, and a gradient that ends at the border of a chunk never
    reaches the image.

    Args:
        data_dir: as for the task mnist.
        back: how many images before; 0 asks for the image just shown.
        frame: pixels per step, a divisor of 784; 28 is a row of the image.
        chunk: steps per batch.
    Raises (when batches are asked for):
        FileNotFoundError: a file is missing and cannot be downloaded; the message lists the names tried.
        ValueError: a file is damaged or is not the official one; the message shows the difference.
    """

    name: ClassVar[str] = "nback"

    data_dir: Path | None = None
    back: int = 1
    frame: int = 1
    chunk: int = 196

    def __post_init__(self) -> None:
        """Check the options."""
        at_least("back", self.back, 0)
        at_least("frame", self.frame, 1)
        at_least("chunk", self.chunk, 1)
        require(PIXELS % self.frame == 0, "frame", f"divide {PIXELS}, the pixels of an image", self.frame)

    @property
    def item_steps(self) -> int:
        """L, steps of an image."""
        return PIXELS // self.frame

    @property
    def input_size(self) -> int:
        """I = `frame` pixels."""
        return self.frame

    @property
    def output_size(self) -> int:
        """C = 10 digits."""
        return 10

    def items(self, split: Split, seed: int, rows: int, first: int, last: int) -> Items:
        """Images `first` to `last` of each row, and the labels of those `back` before."""
        label = MNIST(self.data_dir).examples(split).label.numpy()
        begin = max(first - self.back, 0) // BLOCK
        blocks = [
            stream(self.name, split, seed, 1 + block).integers(0, len(label), size=(BLOCK, rows))
            for block in range(begin, last // BLOCK + 1)
        ]
        drawn = np.concatenate(blocks)  # from image begin * BLOCK on
        wanted = np.arange(first, last + 1) - begin * BLOCK
        # An image without one `back` before it asks for nothing; its answer is not used.
        return Items(drawn[wanted], label[drawn[np.maximum(wanted - self.back, 0)]])

    def show(self, split: Split, number: NDArray[np.int64], place: NDArray[np.int64]) -> Tensor:
        """Frame `place` of image `number`, (T, B, frame)."""
        examples = MNIST(self.data_dir).examples(split)
        frames = examples.pixels.view(-1, self.item_steps, self.frame)  # (N, L, frame)
        return frames[torch.as_tensor(number), torch.as_tensor(place)].float() / examples.peak
