"""A run's folder: its files, who may write to it, and how a run is saved and resumed."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict

import torch

from reminding.lab.runs.config import EXTENDABLE, RunConfig
from reminding.lab.runs.facts import FACTS_NAME, check_files, read_facts, save_facts
from reminding.lab.runs.model import SequenceModel, StreamState
from reminding.lab.runs.runlog import BOARD_NAME, LOG_NAME
from reminding.nn import SAB, CarriedState, SABState
from reminding.nn.state.storage import load_tensors, save_tensors
from reminding.tasks import MetricSums

CONFIG_NAME = "config.json"
CHECKPOINT_NAME = "checkpoint.pt"
WEIGHTS_NAME = "model.safetensors"
SUMMARY_NAME = "summary.json"
EVALUATIONS_NAME = "eval.jsonl"
STATE_NAMES = "state-*.safetensors"
WEIGHTS_FORMAT = "reminding.SequenceModel"


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
        since: the updates since the last evaluation; the next evaluation logs their means.
    """

    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    since: list[Update] = field(default_factory=list[Update])


def open_run(folder: Path, config: RunConfig, *, resume: bool, overwrite: bool) -> bool:
    """Prepare the folder of a run.

    Returns:
        whether there is a checkpoint to resume from.

    Raises:
        FileExistsError: the folder holds a run and neither resume nor overwrite is given, or it holds other files.
        ValueError: resume and overwrite are both given, or the run to resume has another configuration.
    """
    if resume and overwrite:
        raise ValueError("resume and overwrite exclude each other")
    if (folder / CONFIG_NAME).exists():
        if resume:
            check_same(RunConfig.load(folder / CONFIG_NAME), config, folder)
            _save(config, folder)
            return (folder / CHECKPOINT_NAME).exists()
        if not overwrite:
            raise FileExistsError(
                f"out: {folder} already holds a run; --resume continues it, --overwrite replaces it"
            )
        _remove_run(folder)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"out: {folder} exists and is not a run; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    _save(config, folder)
    return False


def _save(config: RunConfig, folder: Path) -> None:
    """Write config.json and, unless the run has it already, facts.json."""
    if not (folder / FACTS_NAME).exists():
        save_facts(folder, config.task)
    config.save(folder / CONFIG_NAME)


def with_facts(config: RunConfig, folder: Path, *, resume: bool) -> RunConfig:
    """A configuration whose task has its facts: those of the run to resume, or those of its data now.

    Raises:
        FileNotFoundError, ValueError: the data are missing, cannot be read, or are not those of the run to resume.
    """
    saved = read_facts(folder) if resume else None
    if saved is None:
        return replace(config, task=config.task.with_facts(config.task.facts()))
    check_same(RunConfig.load(folder / CONFIG_NAME), config, folder)
    check_files(config.task, saved, folder, "resume", "bring the file back as it was, or begin a new run")
    return replace(config, task=config.task.with_facts(saved["facts"]))


def check_same(saved: RunConfig, wanted: RunConfig, folder: Path) -> None:
    """Refuse to resume a run with other options. It may be resumed for longer, unless its learning rate anneals.

    Files may be in other places; `with_facts` has checked their content.

    Raises:
        ValueError: names every option that differs.
    """
    old, new = saved.settings(), wanted.settings()
    names = sorted({*old, *new} - wanted.places() - (set() if wanted.train.anneal else EXTENDABLE))
    changed = [name for name in names if old.get(name) != new.get(name)]
    differences = [f"{name}: {old.get(name)} there, {new.get(name)} here" for name in changed]
    if differences:
        raise ValueError(f"resume: {folder} was begun with other options ({'; '.join(differences)})")


def _remove_run(folder: Path) -> None:
    """Delete the files that a run wrote, and no others."""
    for name in (CONFIG_NAME, FACTS_NAME, CHECKPOINT_NAME, WEIGHTS_NAME, SUMMARY_NAME, LOG_NAME):
        (folder / name).unlink(missing_ok=True)
    _remove_states(folder)
    shutil.rmtree(folder / BOARD_NAME, ignore_errors=True)


def _remove_states(folder: Path, but: str | None = None) -> None:
    for path in folder.glob(STATE_NAMES + "*"):  # also files left half written when the process was killed
        if path.name != but:
            path.unlink()


def save_checkpoint(
    folder: Path,
    model: SequenceModel,
    optimizer: torch.optim.Optimizer,
    clip_mean: float | None,
    standing: Standing,
    state: StreamState | None,
) -> None:
    """Write everything that a resumed run needs. The last checkpoint is replaced when the new one is complete.

    Args:
        state: of the streams, if the task has streams; it goes to a file of its own, which the checkpoint names.
    """
    state_name = None if state is None else STATE_NAMES.replace("*", str(standing.step))
    if state is not None and state_name is not None:
        state.save(folder / state_name)
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "clip_mean": clip_mean,
        "standing": vars(standing),
        "rng": torch.get_rng_state(),
        "state": state_name,
    }
    temporary = folder / (CHECKPOINT_NAME + ".part")
    torch.save(content, temporary)
    temporary.replace(folder / CHECKPOINT_NAME)
    _remove_states(folder, but=state_name)  # only now: until here the last checkpoint needs its own


def load_checkpoint(
    folder: Path, model: SequenceModel, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[float | None, Standing, StreamState | None]:
    """Restore model, optimizer and random number generator from the checkpoint.

    Returns:
        the clipper's running mean, the standing, and the state of the streams.

    Raises:
        ValueError: the file is damaged or belongs to another model.
    """
    path = folder / CHECKPOINT_NAME
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        torch.set_rng_state(content["rng"])
        name = content.get("state")
        state = None if name is None else _state_of(model).load(folder / name, str(device))
        return content["clip_mean"], Standing(**content["standing"]), state
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise ValueError(f"{path} is damaged or belongs to another model: {error}") from error


def _state_of(model: SequenceModel) -> type[SABState] | type[CarriedState]:
    """The kind of state that a model carries along a stream."""
    return SABState if isinstance(model.layer, SAB) else CarriedState


def save_weights(folder: Path, model: SequenceModel) -> None:
    """Write the weights to model.safetensors."""
    save_tensors(folder / WEIGHTS_NAME, model.state_dict(), {"format": WEIGHTS_FORMAT})


def load_run(folder: Path, **changes: Any) -> tuple[RunConfig, SequenceModel]:
    """A trained model and its configuration.

    Args:
        changes: fields of `ModelOptions` that do not concern the weights, such as capacity, to differ from training.

    Raises:
        FileNotFoundError: the folder is not a run, or has no weights yet.
        ValueError: a file is damaged.
    """
    config = RunConfig.load(folder / CONFIG_NAME)
    config = replace(config, model=replace(config.model, **changes))
    model = SequenceModel(config.task, config.model)
    tensors, _ = load_tensors(folder / WEIGHTS_NAME)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{folder / WEIGHTS_NAME} does not fit {folder / CONFIG_NAME}: {error}") from error
    return config, model.eval()


def write_summary(folder: Path, summary: dict[str, Any]) -> None:
    """Write summary.json."""
    (folder / SUMMARY_NAME).write_text(json.dumps(summary, indent=2) + "\n")


def read_summary(folder: Path) -> dict[str, Any]:
    """Read summary.json; empty if there is none yet."""
    path = folder / SUMMARY_NAME
    return json.loads(path.read_text()) if path.is_file() else {}


def add_evaluation(folder: Path, record: dict[str, Any]) -> None:
    """Add the result of a further test to a run's eval.jsonl."""
    with (folder / EVALUATIONS_NAME).open("a") as file:
        file.write(json.dumps(record) + "\n")


def read_evaluations(folder: Path) -> list[dict[str, Any]]:
    """The further tests of a run, in the order in which they were made."""
    path = folder / EVALUATIONS_NAME
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
