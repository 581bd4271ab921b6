"""Tasks: the data, loss and metrics of each experiment. Tasks know no model.

Other rooms may import all of `tasks`.
May import: `checks`, `tasks.kinds`, `tasks.delayed`, `tasks.files`, `tasks.data`, `tasks.data.tables`,
`tasks.data.labelled`.
"""

from __future__ import annotations

from typing import Any

from reminding.tasks.adding import Adding
from reminding.tasks.characters import PTB, Enwik8, Text8
from reminding.tasks.cifar10 import CIFAR10
from reminding.tasks.copying import Copying
from reminding.tasks.cue import Cue
from reminding.tasks.data.datasets import DATASETS
from reminding.tasks.data.download import fetch, status
from reminding.tasks.delayed.match import MatchSpeaker
from reminding.tasks.delayed.nback import NBack
from reminding.tasks.delayed.noisy_cifar10 import NoisyCIFAR10
from reminding.tasks.delayed.selective import SelectiveCopying
from reminding.tasks.digits import Digits
from reminding.tasks.filestream import FileStream
from reminding.tasks.kinds.base import DERIVED, TRAINING, Batch, EvalSplit, MetricSums, Split, Task, mean_metrics
from reminding.tasks.kinds.nextstep import next_step_batches
from reminding.tasks.mnist import MNIST, PermutedMNIST
from reminding.tasks.series import Series, SpokenDigits

_images: tuple[type[Task], ...] = (Digits, MNIST, PermutedMNIST, CIFAR10, NoisyCIFAR10)
_texts: tuple[type[Task], ...] = (PTB, Text8, Enwik8)
_series: tuple[type[Task], ...] = (Series, SpokenDigits)
_drawn: tuple[type[Task], ...] = (Copying, SelectiveCopying, Adding)
_streams: tuple[type[Task], ...] = (Cue, NBack, MatchSpeaker, FileStream)
_classes: tuple[type[Task], ...] = (*_drawn, *_images, *_series, *_texts, *_streams)

TASKS: dict[str, type[Any]] = {task.name: task for task in _classes}
"""The tasks by name; construct one with its options, `TASKS["copying"](T=300)`."""

__all__ = [
    "CIFAR10",
    "DATASETS",
    "DERIVED",
    "MNIST",
    "PTB",
    "TASKS",
    "TRAINING",
    "Adding",
    "Batch",
    "Copying",
    "Cue",
    "Digits",
    "Enwik8",
    "EvalSplit",
    "FileStream",
    "MatchSpeaker",
    "MetricSums",
    "NBack",
    "NoisyCIFAR10",
    "PermutedMNIST",
    "SelectiveCopying",
    "Series",
    "Split",
    "SpokenDigits",
    "Task",
    "Text8",
    "fetch",
    "mean_metrics",
    "next_step_batches",
    "status",
]
