"""What training changes, as a file and back: progress, model, optimizer and random numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from torch import Tensor, nn

from reminding.disk.errors import DamagedFileError
from reminding.disk.finite import finite, restored
from reminding.nn.state.storage import load_tensors, pack_tensors
from reminding.tasks import MetricSums, mean_metrics

FORMAT = "reminding.Training"
VERSION = "1"


class Update(TypedDict):
    """The figures of one update: loss, gradient norm before clipping, time steps read, and on streams the metrics.

    The loss is nan for a chunk without a target.
    """

    loss: float
    norm: float
    steps: int
    metrics: MetricSums


@dataclass
class Standing:
    """The progress of a run: everything that it needs to continue, except weights and optimizer.

    Attributes:
        step: updates done.
        seconds: time spent on updates and evaluations.
        best: the best main metric on the validation split so far; best_step: the update at which it was reached.
        stale: evaluations since then.
        failures: the latest gradients in a row that were not finite.
        since: the updates since the last evaluation; the next evaluation logs their means.
        stopped: the reason to stop that the last evaluation gave, "target" or "patience"; None: the run is not at its
            end, or is there because of a limit that may be raised.
    """

    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    failures: int = 0
    since: list[Update] = field(default_factory=list[Update])
    stopped: str | None = None


@dataclass
class Restored:
    """What a checkpoint holds besides model and optimizer.

    Attributes:
        clip_mean: of the gradient clipper.
        random: the states of the random number generators, as `random_state` has them.
    """

    standing: Standing
    clip_mean: float | None
    random: dict[str, Tensor]


@dataclass(frozen=True)
class MeanLoss:
    """The mean of the losses of some updates, each of which is a mean over the update's own targets.

    Args:
        value: the mean over all targets.
        error: its standard error; unknown if it is the loss of one update.
        count: the number of updates that had a target.
        targets: of all of them, by which they weigh.
    """

    value: float
    error: float
    count: int
    targets: float

    @staticmethod
    def of(losses: Sequence[float], targets: Sequence[float] = ()) -> MeanLoss:
        """The mean of at least one loss.

        Args:
            targets: of each update; (): one each.
        """
        count, weights = len(losses), targets or [1.0] * len(losses)
        total = sum(weights)
        value = sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / total
        if not math.isfinite(value):
            return MeanLoss(value, math.nan, count, total)
        spread = math.hypot(*(weight * (loss - value) for weight, loss in zip(weights, losses, strict=True)))
        return MeanLoss(value, _error(spread, count, total), count, total)

    def __add__(self, other: MeanLoss) -> MeanLoss:
        """The mean over the targets of both, with an error as if each had as many in each of its updates."""
        count, targets = self.count + other.count, self.targets + other.targets
        value = (self.targets * self.value + other.targets * other.value) / targets
        apart = [each.targets / math.sqrt(each.count) * (each.value - value) for each in (self, other)]
        return MeanLoss(
            value, _error(math.hypot(self._spread, other._spread, *apart), count, targets), count, targets
        )

    @property
    def _spread(self) -> float:
        """The root of the sum of squared distances to the mean, each times the targets of its update."""
        return self.error * self.targets * math.sqrt(1 - 1 / self.count) if self.count > 1 else 0.0


def _error(spread: float, count: int, targets: float) -> float:
    """The standard error of a weighted mean, from the weighted distances to it."""
    return spread / targets * math.sqrt(count / (count - 1)) if count > 1 else math.nan


def mean_figures(updates: Sequence[Update]) -> dict[str, float]:
    """Means over some updates, with the last and the largest gradient norm, and how many were not finite, if any.

    The mean loss has its standard error beside it, `loss_error`. On streams it is the mean over all targets, and has
    their number, `loss_targets`, and `loss_count`, the number of updates with a target: both are small where a stream
    asks seldom.

    Chunks without a target have neither loss nor metrics, and do not count; if no chunk has one, there is no mean. A
    loss, metric or norm that is not a number is not left out: the run diverges.
    """
    learned = [update for update in updates if _has_target(update)]
    means = mean_metrics(update["metrics"] for update in updates)
    counted = {name for update in updates for name, (_, count) in update["metrics"].items() if count}
    metrics = {name: value for name, value in means.items() if name in counted}
    loss = _mean_loss(learned) if learned else {}
    norms = [update["norm"] for update in updates]
    highest = max(norms, key=lambda norm: (math.isnan(norm), norm))
    bad = sum(not math.isfinite(norm) for norm in norms)
    count = {"gradients_not_finite": float(bad)} if bad else {}
    return {**loss, "gradient_norm": norms[-1], "gradient_norm_max": highest, **count, **metrics}


def _mean_loss(updates: Sequence[Update]) -> dict[str, float]:
    """The mean, its standard error if there are several, and on streams the number of updates and of targets."""
    targets = [max(count for _, count in update["metrics"].values()) for update in updates if update["metrics"]]
    mean = MeanLoss.of([update["loss"] for update in updates], targets)
    error = {"loss_error": mean.error} if mean.count > 1 else {}
    counts = {"loss_count": float(mean.count), "loss_targets": float(mean.targets)} if targets else {}
    return {"loss": mean.value, **error, **counts}


def _has_target(update: Update) -> bool:
    """Whether an update had anything to learn from; only on streams may a chunk lack that."""
    counts = [count for _, count in update["metrics"].values()]
    return not counts or any(counts)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The states of the random number generators that training draws from."""
    state = {"cpu": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Let the generators go on from what `random_state` gave."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def of_processes(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The generators' states of several processes in one dictionary; those of process 0 have their own names."""
    return {
        name if rank == 0 else f"{rank}.{name}": tensor
        for rank, state in enumerate(states)
        for name, tensor in state.items()
    }


def of_process(states: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Those of one process; empty if it was not there."""
    if rank == 0:
        return {name: tensor for name, tensor in states.items() if "." not in name}
    return {name.removeprefix(f"{rank}."): each for name, each in states.items() if name.startswith(f"{rank}.")}


def pack_training(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    clip_mean: float | None,
    standing: Standing,
    random: Mapping[str, Tensor],
) -> bytes:
    """The content of a checkpoint's file; `restore_training` is the reverse."""
    state = optimizer.state_dict()
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"random.{name}": tensor for name, tensor in random.items()}
    numbers: dict[str, Any] = {}
    for parameter, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{parameter}.{name}"] = value
            else:
                numbers[f"{parameter}.{name}"] = value
    content = {
        "standing": vars(standing),
        "clip_mean": clip_mean,
        "groups": state["param_groups"],
        "numbers": numbers,
    }
    text = json.dumps(finite(content), allow_nan=False)
    return pack_tensors(tensors, {"format": FORMAT, "version": VERSION, "training": text})


def restore_training(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Restored:
    """Restore model and optimizer from a checkpoint's file.

    Raises:
        DamagedFileError: the file is damaged.
        ValueError: it belongs to another model.
    """
    tensors, metadata = load_tensors(path)
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
        raise ValueError(
            f"{path} is no checkpoint of version {VERSION}; its metadata says {sorted(metadata.items())}"
        )
    try:
        content = restored(json.loads(metadata["training"]))
        parts = _parted(tensors)
        state: dict[int, dict[str, Any]] = {}
        for name, value in [*parts["optimizer"].items(), *content["numbers"].items()]:
            parameter, _, key = name.partition(".")
            state.setdefault(int(parameter), {})[key] = value
        standing = _standing(content["standing"])
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFileError(path, repr(error), "metadata training") from error
    try:
        model.load_state_dict(parts["model"])
        optimizer.load_state_dict({"state": state, "param_groups": [_group(group) for group in content["groups"]]})
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path} belongs to another model: {error}") from error
    return Restored(standing, content["clip_mean"], parts["random"])


def standing_of(path: Path) -> Standing:
    """The progress of the run in a checkpoint's file.

    Raises:
        DamagedFileError: the file is damaged.
    """
    _, metadata = load_tensors(path)
    try:
        return _standing(restored(json.loads(metadata["training"]))["standing"])
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFileError(path, repr(error), "metadata training") from error


def restore_old(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Restored, str | None]:
    """Restore from checkpoint.pt of version 0.1, which has no checksums.

    Returns:
        what was restored, and the name of the file with the state of the streams, if there are any.

    Raises:
        DamagedFileError: the file is damaged, or belongs to another model.
    """
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        found = Restored(_standing(content["standing"]), content["clip_mean"], {"cpu": content["rng"]})
        return found, cast("str | None", content.get("state"))
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise DamagedFileError(path, f"it cannot be read, or belongs to another model: {error}") from error


def _parted(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors "part.name" by part, as "name"."""
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": {}, "random": {}}
    for whole, tensor in tensors.items():
        part, _, name = whole.partition(".")
        parts[part][name] = tensor
    return parts


def _standing(values: Mapping[str, Any]) -> Standing:
    since = [
        Update(
            loss=each["loss"],
            norm=each["norm"],
            steps=each["steps"],
            metrics={name: (sums[0], sums[1]) for name, sums in each["metrics"].items()},
        )
        for each in values["since"]
    ]
    rest: dict[str, Any] = {name: value for name, value in values.items() if name != "since"}
    return Standing(**rest, since=since)


def _group(values: Mapping[str, Any]) -> dict[str, Any]:
    """An optimizer's settings for some parameters; JSON has made lists of its tuples."""
    return {
        name: tuple(cast("list[Any]", value)) if isinstance(value, list) and name != "params" else value
        for name, value in values.items()
    }
