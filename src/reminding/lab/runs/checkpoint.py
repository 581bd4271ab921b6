"""A run's folder: its files, who may write to it, and how a run is saved and resumed."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reminding.disk.commits import Commits
from reminding.disk.errors import DamagedFileError
from reminding.disk.lock import LOCK_NAME, check_held, locked
from reminding.disk.records import add_line, drop_damaged, packed_json, read_json, read_lines, write_json
from reminding.disk.writing import check_folder, discard, is_leftover, naming, remove_leftovers, write_file
from reminding.lab.runs.config import ENDS, EXTENDABLE, RunConfig
from reminding.lab.runs.facts import FACTS_NAME, check_files, read_facts, save_facts
from reminding.lab.runs.model import SequenceModel, StreamState
from reminding.lab.runs.runlog import BOARD_NAME, LOG_NAME, LogSize, log_size
from reminding.lab.runs.saved.limits import check_limits, has_ended
from reminding.lab.runs.saved.training import Restored, Standing, pack_training, restore_old, restore_training
from reminding.nn import SAB, CarriedState, SABState
from reminding.nn.state.storage import load_tensors, pack_tensors, safetensors_library

CONFIG_NAME = "config.json"
CHECKPOINTS_NAME = "checkpoints"
TRAINING_NAME = "training.safetensors"
STATE_NAME = "state.safetensors"
WEIGHTS_NAME = "model.safetensors"
LOG_SIZE_NAME = "log.json"
SUMMARY_NAME = "summary.json"
EVALUATIONS_NAME = "eval.jsonl"
DATA_NAME = "data.json"
OLD_CHECKPOINT_NAME = "checkpoint.pt"
UNTESTED = ("interrupted", "pruned")
"""What stops a run before its end, and without a test."""
WEIGHTS_FORMAT = "reminding.SequenceModel"
_OLD_LITTER = re.compile(r"\.tmp\w{6}|checkpoint\.pt\.part|(state-\d+|model)\.safetensors\.part")
"""What killed processes of version 0.1 left behind."""


@contextlib.contextmanager
def opened(folder: Path, config: RunConfig, *, resume: bool, overwrite: bool) -> Generator[None]:
    """Prepare the folder of a run, and hold its lock.

    Raises:
        FileExistsError: the folder holds a run and neither resume nor overwrite is given, or it holds other files.
        FolderInUseError: another process trains this run.
        CannotWriteError: the disk is full or read-only, or there is a file in the folder's place or above.
        ImportError: the library is missing that saves the run.
        ValueError: the run to resume has another configuration.
    """
    safetensors_library()
    _check_place(folder, config, resume=resume, overwrite=overwrite)
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        _check_place(folder, config, resume=resume, overwrite=overwrite)  # another process may have been here first
        _remove_litter(folder)
        if overwrite:
            _remove_run(folder)
        elif not is_finished(folder, config):
            discard(folder / SUMMARY_NAME)  # no reader shall take the results before for those of a run that goes on
        config.save(folder / CONFIG_NAME)
        if not (folder / FACTS_NAME).exists():
            save_facts(folder, config.task)
        yield


def _check_place(folder: Path, config: RunConfig, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that this run may not write to."""
    check_place(folder, goes_on=resume or overwrite)
    if resume and (folder / CONFIG_NAME).exists():
        saved = RunConfig.load(folder / CONFIG_NAME)
        check_same(saved, config, folder)
        if (place := newest(folder)) is not None:
            check_limits(saved.train, config.train, folder, place / TRAINING_NAME)
        if not _has_checkpoint(folder) and (folder / SUMMARY_NAME).exists():
            raise ValueError(f"resume: {folder} holds results but no checkpoint; --overwrite begins the run anew")


def check_place(folder: Path, *, goes_on: bool) -> None:
    """Refuse what is no folder, a folder of other things, and a run, unless it goes on or is replaced (`goes_on`)."""
    check_folder(folder)
    if (folder / CONFIG_NAME).exists():
        if not goes_on:
            told = f"out: {folder} already holds a run; --resume continues it, --overwrite replaces it"
            raise FileExistsError(told)
    elif folder.exists() and not all(map(_of_a_start, folder.iterdir())):
        raise FileExistsError(f"out: {folder} exists and is not a run; choose another folder")


def is_finished(folder: Path, config: RunConfig) -> bool:
    """Whether the results that a folder holds are those of the run to its end by these options."""
    with contextlib.suppress(DamagedFileError):
        summary = read_summary(folder)
        return bool(summary) and has_ended(summary, RunConfig.load(folder / CONFIG_NAME).train, config.train)
    return False


def _of_a_start(path: Path) -> bool:
    """Whether a process may leave this that is killed before it has written the configuration."""
    return path.name == LOCK_NAME or is_leftover(path)


def _has_checkpoint(folder: Path) -> bool:
    return bool(Commits(folder / CHECKPOINTS_NAME).numbers()) or (folder / OLD_CHECKPOINT_NAME).exists()


def _remove_litter(folder: Path) -> None:
    """Remove what killed processes left unfinished."""
    for place in (folder, folder / CHECKPOINTS_NAME):
        remove_leftovers(place, everywhere=True)
    for path in folder.iterdir():
        if _OLD_LITTER.fullmatch(path.name):
            discard(path)


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

    Target and patience may differ, on which no update depends, and options that its model does not read. Files may be
    in other places; `with_facts` has checked their content.

    Raises:
        ValueError: names every option that differs.
    """
    old, new = saved.settings(), wanted.settings()
    unread = {f"model.{name}" for name in wanted.unread()}
    limits = ENDS if wanted.train.anneal else ENDS | EXTENDABLE
    names = sorted({*old, *new} - unread - wanted.places() - limits)
    changed = [name for name in names if old.get(name) != new.get(name)]
    differences = [f"{name}: {old.get(name)} there, {new.get(name)} here" for name in changed]
    if differences:
        raise ValueError(f"resume: {folder} was begun with other options ({'; '.join(differences)})")


def _remove_run(folder: Path) -> None:
    """Delete the files that a run wrote, and no others. Its config.json stays until the new one replaces it."""
    Commits(folder / CHECKPOINTS_NAME).keep_only()
    for name in (SUMMARY_NAME, EVALUATIONS_NAME, LOG_NAME, WEIGHTS_NAME, FACTS_NAME, DATA_NAME):
        discard(folder / name)
    _remove_old(folder)
    shutil.rmtree(folder / BOARD_NAME, ignore_errors=True)


def _remove_old(folder: Path) -> None:
    """Delete the checkpoint of version 0.1."""
    for path in (folder / OLD_CHECKPOINT_NAME, *folder.glob("state-*.safetensors")):
        discard(path)


@dataclass
class Saved:
    """Everything that a resumed run needs.

    Attributes:
        model, optimizer: restored in place.
        best: the content of model.safetensors, the weights that were best on the validation split, or any weights
            before the first evaluation.
        state: of the streams, if the task has streams.
        clip_mean, standing, random: see `Restored`.
        step: of the checkpoint it was read from; None: there is none in this version's format.
        log: the size of log.jsonl at this step; None: unknown, as of older checkpoints.
    """

    model: SequenceModel
    optimizer: torch.optim.Optimizer
    clip_mean: float | None
    standing: Standing
    random: Mapping[str, Tensor]
    best: bytes
    state: StreamState | None
    step: int | None = None
    log: LogSize | None = None


def save_checkpoint(folder: Path, saved: Saved, before: int | None) -> None:
    """Commit everything that a resumed run needs, and the best weights with it; then renew model.safetensors.

    Args:
        before: the step of the last whole checkpoint, which is kept beside the new one; None: there is none.

    Raises:
        CannotWriteError: the disk is full or read-only; the last checkpoint is as it was.
        FolderInUseError: another run's folder has taken the place of this one's.
    """
    check_held(folder)
    commits, step = Commits(folder / CHECKPOINTS_NAME), saved.standing.step
    packed = pack_training(saved.model, saved.optimizer, saved.clip_mean, saved.standing, saved.random)
    files = {TRAINING_NAME: packed, WEIGHTS_NAME: saved.best}
    if saved.state is not None:
        files[STATE_NAME] = saved.state.packed_file()
    if saved.log is not None:
        files[LOG_SIZE_NAME] = packed_json(asdict(saved.log))
    commits.write(step, files)
    commits.keep_only(step, step if before is None else before)
    publish_weights(folder, saved.best)
    _remove_old(folder)


def publish_weights(folder: Path, best: bytes) -> None:
    """Write the best weights of a checkpoint to model.safetensors, unless they are there already."""
    write_file(folder / WEIGHTS_NAME, best)


def newest(folder: Path) -> Path | None:
    """The folder of a run's last checkpoint; None if there is none."""
    commits = Commits(folder / CHECKPOINTS_NAME)
    return next((commits.place(number) for number in commits.numbers()), None)


def load_checkpoint(
    folder: Path, model: SequenceModel, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[Saved | None, list[DamagedFileError]]:
    """Restore model and optimizer from the last checkpoint that is whole.

    Returns:
        what the checkpoint holds, None if the run has no checkpoint; and what is damaged in later ones.

    Raises:
        DamagedFileError: every checkpoint is damaged.
        ValueError: the checkpoint belongs to another model.
    """
    commits, damaged = Commits(folder / CHECKPOINTS_NAME), list[DamagedFileError]()
    for number in commits.numbers():
        try:
            return _load_commit(commits, number, model, optimizer, device), damaged
        except DamagedFileError as error:
            damaged.append(error)
    if (folder / OLD_CHECKPOINT_NAME).exists():
        return _load_old(folder, model, optimizer, device), damaged
    if damaged:
        raise damaged[0]
    return None, damaged


def _load_commit(
    commits: Commits, number: int, model: SequenceModel, optimizer: torch.optim.Optimizer, device: torch.device
) -> Saved:
    best = commits.verified(number, WEIGHTS_NAME).read_bytes()
    path = commits.verified(number, STATE_NAME) if STATE_NAME in commits.manifest(number) else None
    state = None if path is None else _state_of(model).load(path, str(device))
    restored = restore_training(commits.verified(number, TRAINING_NAME), model, optimizer)
    return replace(_saved(model, optimizer, restored, best, state), step=number, log=_log_size(commits, number))


def _log_size(commits: Commits, number: int) -> LogSize | None:
    """The size of the log at a checkpoint."""
    if LOG_SIZE_NAME not in commits.manifest(number):
        return None
    path = commits.verified(number, LOG_SIZE_NAME)
    content = read_json(path, checksum_required=True)
    if not all(isinstance(content.get(name), int) for name in ("lines", "bytes")):
        raise DamagedFileError(path, f"it has no lines and bytes, only {sorted(content)}")
    return LogSize(content["lines"], content["bytes"])


def missing_lines(folder: Path) -> int:
    """How many lines of a run's log are gone that were there when its last whole checkpoint was written."""
    commits = Commits(folder / CHECKPOINTS_NAME)
    for number in commits.numbers():
        with contextlib.suppress(DamagedFileError):
            size = _log_size(commits, number)
            return 0 if size is None else size.beyond(log_size(folder))
    return 0


def _load_old(folder: Path, model: SequenceModel, optimizer: torch.optim.Optimizer, device: torch.device) -> Saved:
    """From a run of version 0.1; the next checkpoint replaces its files."""
    restored, name = restore_old(folder / OLD_CHECKPOINT_NAME, model, optimizer)
    state = None if name is None else _state_of(model).load(folder / name, str(device))
    path = folder / WEIGHTS_NAME
    load_tensors(path)
    return _saved(model, optimizer, restored, path.read_bytes(), state)


def _saved(
    model: SequenceModel,
    optimizer: torch.optim.Optimizer,
    restored: Restored,
    best: bytes,
    state: StreamState | None,
) -> Saved:
    return Saved(model, optimizer, restored.clip_mean, restored.standing, restored.random, best, state)


def _state_of(model: SequenceModel) -> type[SABState] | type[CarriedState]:
    """The kind of state that a model carries along a stream."""
    return SABState if isinstance(model.layer, SAB) else CarriedState


def packed_weights(model: SequenceModel, step: int | None = None) -> bytes:
    """The content of model.safetensors.

    Args:
        step: updates that led to these weights; None: unknown.
    """
    metadata = {"format": WEIGHTS_FORMAT} if step is None else {"format": WEIGHTS_FORMAT, "step": str(step)}
    return pack_tensors(model.state_dict(), metadata)


def save_weights(folder: Path, model: SequenceModel) -> None:
    """Write the weights to model.safetensors."""
    write_file(folder / WEIGHTS_NAME, packed_weights(model))


def load_run(folder: Path, **changes: Any) -> tuple[RunConfig, SequenceModel]:
    """A trained model and its configuration.

    Args:
        changes: fields of `ModelOptions` that do not concern the weights, such as capacity, to differ from training.

    Raises:
        FileNotFoundError: the folder is not a run, or has no weights yet.
        ValueError: a file is damaged; or a change means nothing to the model.
    """
    config = RunConfig.load(folder / CONFIG_NAME)
    config = replace(config, model=replace(config.model, **changes))
    config.check_read(changes)
    return config, model_of(config, folder / WEIGHTS_NAME)


def model_of(config: RunConfig, path: Path) -> SequenceModel:
    """The model of a configuration, with the weights of a file.

    Raises:
        ValueError: the file is damaged, or of another model.
    """
    model = SequenceModel(config.task, config.model)
    tensors, _ = load_tensors(path)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit {CONFIG_NAME}: {error}") from error
    return model.eval()


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write summary.json; raises as `save_checkpoint`."""
    check_held(folder)
    write_json(folder / SUMMARY_NAME, summary)


def read_summary(folder: Path) -> dict[str, Any]:
    """Read summary.json; empty if there is none yet.

    Raises:
        DamagedFileError: it cannot be read, or has changed since it was written.
    """
    path = folder / SUMMARY_NAME
    return read_json(path) if path.is_file() else {}


def add_evaluation(folder: Path, record: Mapping[str, Any]) -> int:
    """Add the result of a further test to a run's eval.jsonl; return how many damaged lines were left out of it."""
    dropped = drop_damaged(folder / EVALUATIONS_NAME)
    add_line(folder / EVALUATIONS_NAME, record)
    return dropped


def read_evaluations(folder: Path) -> list[dict[str, Any]]:
    """The further tests of a run's weights, in the order in which they were made, without damaged lines."""
    return of_tested(read_lines(folder / EVALUATIONS_NAME).records, read_summary(folder))


def weights_step(folder: Path) -> int | None:
    """The updates that led to the weights of a run; None: unknown, as in version 0.1."""
    step = load_tensors(folder / WEIGHTS_NAME)[1].get("step")
    return None if step is None else int(step)


def of_tested(records: Sequence[dict[str, Any]], summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The further tests that may be of the weights of a summary: not those of weights that the run had before.

    An older version did not record the weights; such a test is left out if one of earlier weights follows it.
    """
    tested, steps = summary.get("best_step"), [record.get("best_step") for record in records]
    others = [at for at, step in enumerate(steps) if None not in (step, tested) and step != tested]
    begin = others[-1] + 1 if others else 0
    return [record for at, record in enumerate(records) if at not in others and (at >= begin or steps[at] == tested)]
