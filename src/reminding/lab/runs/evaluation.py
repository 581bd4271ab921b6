"""How a trained model is tested: one value for the command line, the record in eval.jsonl and the paper's tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reminding.checks import at_least, at_least_or_none
from reminding.disk.fields import option, plain
from reminding.tasks.characters import CharacterStream
from reminding.tasks.delayed.repeats import RareRepeats


@dataclass(frozen=True)
class EvalOptions:
    """The evaluation of a trained model.

    Args:
        sequences: number of sequences, or of chunks of each stream; None: the task's own number.
        batch_size: sequences per batch; the result does not depend on it.
        steps_at_once: read whole sequences in pieces of this many steps, to use less memory; the result does not
            depend on it. None: in one piece. Streams have their own chunks.
        capacity: at most this many memories; None: as in training.
        evict: which memory is evicted when the capacity is reached: fifo, least_recalled or module:name; None: as in
            training.
        by_distance: of a text: bits per character of rare words that came before, by the distance to their last
            occurrence, beside the usual metric.
        rare: with by_distance, a word is rare if the training part has it at most this many times.
        distances: with by_distance, the characters at which one group ends and the next begins.
        device: auto: a GPU if there is one.
    """

    sequences: int | None = None
    batch_size: int = 100
    steps_at_once: int | None = None
    capacity: int | None = None
    evict: str | None = None
    by_distance: bool = False
    rare: int = RareRepeats.rare
    distances: tuple[int, ...] = RareRepeats.distances
    device: str = "auto"

    def __post_init__(self) -> None:
        """Check the numbers."""
        at_least("batch_size", self.batch_size, 1)
        for name in ("sequences", "steps_at_once", "capacity"):
            at_least_or_none(name, getattr(self, name), 1)
        for name in ("rare", "distances"):
            if not self.by_distance and getattr(self, name) != getattr(RareRepeats, name):
                raise ValueError(f"{name} is for by_distance, without which it means nothing")

    @property
    def changes(self) -> dict[str, Any]:
        """The model's options that differ from training."""
        changes = {"capacity": self.capacity, "evict": self.evict}
        return {name: value for name, value in changes.items() if value is not None}

    def judged(self, task: Any) -> Any:
        """The task as it is evaluated: the run's own or, with by_distance, its rare words.

        Raises:
            ValueError: by_distance is asked of a task that is no published text.
        """
        if not self.by_distance:
            return task
        if not isinstance(task, CharacterStream):
            raise ValueError(f"by_distance is for runs on ptb, text8 or enwik8, got a run on {task.name}")
        return RareRepeats(task, self.rare, self.distances)

    def record(self, task: Any) -> dict[str, Any]:
        """The entries of eval.jsonl that say what was evaluated."""
        groups = {"rare": self.rare, "distances": list(self.distances)}
        return {
            "task": {"name": task.name, **plain(task)},
            "changes": self.changes,
            "sequences": self.sequences,
            "steps_at_once": self.steps_at_once,
            **({"by_distance": groups} if self.by_distance else {}),
        }

    def matches(self, record: Mapping[str, Any], task: Any) -> bool:
        """Whether a record of eval.jsonl holds the result of this evaluation."""
        own = self.record(task)
        return all(
            record.get(name, {}) == own.get(name, {}) for name in ("task", "changes", "sequences", "by_distance")
        )

    def command(self, folder: Path, **task_options: Any) -> list[str]:
        """The arguments after `reminding` that evaluate a run; options at their defaults are left out.

        Args:
            folder: of the run.
            task_options: options of the task that differ from training.
        """
        defaults = plain(EvalOptions())
        changed = {name: value for name, value in plain(self).items() if value != defaults[name]}
        words = (word for name, value in (*task_options.items(), *changed.items()) for word in option(name, value))
        return ["eval", str(folder), *words]
