"""Training: one loop for every task and model.

Shapes: B batch, T time.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reminding.disk.errors import CannotWriteError, FolderInUseError
from reminding.lab.runs import checkpoint
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.machine import command_line, conditions_of_training, environment, peak_resident_bytes
from reminding.lab.runs.model import StreamState
from reminding.lab.runs.runlog import LOG_NAME, RunLog
from reminding.lab.runs.saved.training import Update, mean_figures
from reminding.lab.runs.watch import calmer
from reminding.lab.show.tables import metric_text
from reminding.lab.show.terminal import LiveDisplay, say
from reminding.lab.train.clip import FAILURES
from reminding.lab.train.data import reading_of, reading_shown, record_reading
from reminding.lab.train.effort import backward_steps
from reminding.lab.train.evaluate import evaluate, recall_shares, state_norms
from reminding.lab.train.finite import NotFiniteError, cause, check_input
from reminding.lab.train.group import is_first
from reminding.lab.train.interrupt import interruptible
from reminding.lab.train.run import Judge, Run, better
from reminding.lab.train.silent import SilentDisplay, SilentLog
from reminding.nn import SAB, SABState
from reminding.tasks import Batch, MetricSums, mean_metrics

EVAL_BATCH = 100
"""Sequences per batch of an evaluation; the result does not depend on it."""
RUNNING = 50
"""Number of updates in the mean of a stream's metric that is displayed."""


@conditions_of_training()
def train(
    config: RunConfig,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    judge: Judge | None = None,
    again: str = Run.again,
) -> dict[str, Any]:
    """Train a model, evaluate the best weights on the test split, and write everything to a folder.

    The folder gets config.json, facts.json (what was learned from the training data), data.json (what was read of
    files of one's own), log.jsonl, tensorboard/, checkpoints/ (the last two, to resume from), model.safetensors (the
    weights that were best on the validation split) and summary.json. Ctrl-C, SIGTERM and SIGHUP end the run after the
    current update, without the test, and the run can be resumed; a resumed run gives the numbers of an uninterrupted
    one, as does one that was killed at any moment. Its data may have grown at their end: split and scale remain those
    of the start. On a stream the state is carried from chunk to chunk. Each chunk is predicted before it is learned
    from, so that in the first pass the training metrics, too, are those of unseen steps. With `credit_every` above 1,
    the credit that waits in the state when the run ends is learned from by one more step of the optimizer; so a run
    that is resumed beyond its end differs from one that never ended there. From the call on, the process keeps the
    memory that it frees, on Linux (see `conditions_of_training`).

    Args:
        resume: continue the run in the folder. Its options must be the same; but its limits of updates and time may
            be raised, without annealing, and it may get another target or patience, or none. A run that its target
            or its patience ended goes on where the new ones do not end it.
        overwrite: replace the run in the folder.
        judge: is called after each evaluation with the update and the main metric, and returns a reason to end the
            run: "pruned", "interrupted", or None.

    Returns:
        the summary: test metrics under their own names (none when interrupted or pruned), time, memory and
        environment. Empty in all processes but the first, if several train together (see `group`).

    Raises:
        FileExistsError: the folder holds a run and neither `resume` nor `overwrite` is given.
        FolderInUseError: another process trains this run, or one in a folder that has taken the place of this one's.
        CannotWriteError: the disk is full or read-only; the run goes on from the last checkpoint with `resume`.
        NotFiniteError: with `check_finite`, something was not finite; the last good weights are saved.
        ValueError: an option is out of range, or both resume and overwrite are given; the message names it.
    """
    if resume and overwrite:
        raise ValueError("resume and overwrite exclude each other")
    if writes := is_first():  # before the data are made, which may take minutes
        checkpoint.check_place(folder, goes_on=resume or overwrite)
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    with reading_shown(config.task):
        config = checkpoint.with_facts(config, folder, resume=resume)
        run = _prepare(config, folder)
        reading = reading_of(config.task)
    run.judge, run.again = judge, again
    if resume and writes and not (folder / checkpoint.CONFIG_NAME).exists():
        say(f"there is no run to resume in {folder}: a new one begins")
    try:
        with checkpoint.opened(folder, config, resume=resume, overwrite=overwrite) if writes else nullcontext():
            if reading is not None and writes:
                record_reading(reading, folder)
            run.group.wait()  # until the folder is ready
            run.resume()
            stopped = _trained(run)
            run.group.leave()
            return _finish(run, stopped) if writes else {}
    except CannotWriteError as error:
        raise error.with_advice(_standing_on_disk(run)) from error


def _prepare(config: RunConfig, folder: Path) -> Run:
    """Build everything from the options. Bad options raise here, before the folder is touched."""
    run = Run.prepare(config, folder)
    config.task.train_batches(config.train.batch_size, config.train.seed)
    config.task.eval_batches("valid", EVAL_BATCH, config.train.eval_sequences)
    config.task.eval_batches("test", EVAL_BATCH, config.train.test_sequences)
    return run


def _standing_on_disk(run: Run) -> str:
    """What a run that could not write can still do."""
    place = checkpoint.newest(run.folder)
    if not (run.folder / checkpoint.CONFIG_NAME).is_file():
        return "nothing of the run is saved; --out names another folder"
    if place is None:
        return f"no update of the run is saved yet; {run.again} begins it again"
    return f"the run is saved up to update {place.name}; {run.again} goes on from there"


def _trained(run: Run) -> str:
    """Update until the run ends. What was learned is saved, also when an error ends it between two updates.

    Returns:
        what ended it: "steps", "time", "patience", "target", "interrupted" or "pruned".
    """
    first = run.group.rank == 0
    log = RunLog(run.folder, after=run.standing.step, committed=run.logged) if first else SilentLog()
    if log.missing:
        say(f"{run.folder / LOG_NAME}: {log.missing} lines are missing; the run goes on without their records")
    for line in log.damaged:
        say(f"{run.folder / LOG_NAME}: line {line} is damaged; the run goes on without its record")
    for record in log.earlier:
        run.watch.see(record)
    try:
        stopped = run.standing.stopped or _loop(run, log)
        run.save(log)
        return stopped
    except CannotWriteError:
        raise
    except BaseException as error:
        # Of several processes one alone cannot save; this error has ended all of them at the same update.
        if run.consistent and (run.group.size == 1 or isinstance(error, NotFiniteError)):
            run.save(log)
        if first and not isinstance(error, NotFiniteError | FolderInUseError):  # which have words of their own
            say(_standing_on_disk(run))
        raise
    finally:
        log.close()


def _loop(run: Run, log: RunLog) -> str:
    """Update and evaluate until the run ends, and return what ended it."""
    config, standing = run.config, run.standing
    limit = math.inf if config.train.max_seconds is None else config.train.max_seconds
    left = None if config.train.max_seconds is None else limit - standing.seconds
    label = f"{config.model.model} on {config.task.name}"
    kind = LiveDisplay if run.group.rank == 0 else SilentDisplay
    with kind(label, config.train.steps, standing.step, left) as display, interruptible() as interrupt:
        display.resumed(log.earlier, config.task.metric)
        batches = config.task.train_batches(config.train.batch_size, config.train.seed, start=standing.step)
        run.clock = time.perf_counter()
        while True:
            done = standing.step >= config.train.steps
            last = done or standing.seconds >= limit
            due = last or standing.step % config.train.eval_every == 0
            if standing.since and due and (reason := _evaluated(run, log, display, last=last)):
                return reason
            if done:
                return "steps"
            if run.group.any(interrupt.requested):
                run.count_time()
                run.signal = interrupt.signal
                run.save(log)  # here, where a second signal, as of a scheduler to all processes, is no end at once
                return "interrupted"
            if standing.seconds >= limit and not run.group.any(_has_credit(run.state)):
                return "time"  # which an evaluation may have reached; credit that waits takes an update to settle
            if len((batch := next(batches)).input) == 0:
                continue
            _set_rate(run, standing.seconds + run.since(run.clock))
            update = learn(run, batch)
            run.count_time()
            display.update(standing.step, update["loss"], update["steps"], _running(run))


def _note(run: Run, log: RunLog, display: LiveDisplay, kind: str, values: dict[str, float]) -> None:
    """Log some numbers, and warn if they show trouble."""
    step = run.standing.step
    log.write(kind, step, values)
    for trouble in run.watch.see({"kind": kind, **values}):
        log.warn(step, trouble)
        display.warn(step, str(trouble))


def _set_rate(run: Run, seconds: float) -> None:
    """Set the learning rate of the next update; it falls in the last part of a run that anneals."""
    options = run.config.train
    if not options.anneal:
        return
    done = run.standing.step / options.steps
    if options.max_seconds is not None:
        done = max(done, seconds / options.max_seconds)
    for group in run.optimizer.param_groups:
        group["lr"] = options.lr * min(1.0, max(0.0, 1.0 - done) / options.anneal)


def _running(run: Run) -> str:
    """The main metric over the latest updates on a stream, for the display."""
    if not run.config.task.streamed:
        return ""
    name = run.config.task.metric
    metrics = mean_metrics(update["metrics"] for update in run.standing.since[-RUNNING:])
    return f"{name} {metric_text(metrics[name])}"


def learn(run: Run, whole: Batch) -> Update:
    """One step of the optimizer. If the batch or the loss is not finite, nothing has changed."""
    check, number = run.config.train.check_finite, run.standing.step + 1
    if check:
        check_input(whole, number)
    batch = run.group.part(whole).to(run.device)
    share = run.group.share(run.config.task, whole, batch)
    run.optimizer.zero_grad(set_to_none=True)
    run.consistent = run.state is None  # an error in the middle of a call leaves open what became of its state
    prediction, state = run.model.read(batch, run.state)
    run.consistent = True
    loss = run.config.task.loss(prediction, batch)
    metrics: MetricSums = {} if batch.reset is None else run.config.task.metrics(prediction.detach(), batch)
    metrics, value, learning = run.group.totals(metrics, share * float(loss.detach()), float(loss.requires_grad))
    norm, learns = 0.0, learning > 0  # a chunk without a target is read, not learned from
    if learns and not loss.requires_grad:  # there are targets in other processes: credit is due here as it is there
        loss = 0 * prediction.sum()
    if learns and check and not math.isfinite(value):
        advice = calmer(run.config.model, run.config.train)
        raise NotFiniteError(f"update {number}: the loss is {value}, though the input is finite; {advice}")
    with run.changing():  # with the backward pass: it may leave credit in the state of the streams
        if learns:
            norm = _backward(run, loss, share, number)
            _step(run, norm)
        run.state = state
        steps = whole.input.shape[:2].numel()
        update = Update(loss=value if learns else math.nan, norm=norm, steps=steps, metrics=metrics)
        run.standing.step = number
        run.standing.since.append(update)
    return update


def _backward(run: Run, loss: Tensor, share: float, number: int) -> float:
    """The gradient of one update, of all processes together, clipped; returns its norm before that.

    Args:
        share: the weight of this process's loss.

    Raises:
        NotFiniteError: the gradient is not finite, as the latest ones were not; or credit that waits in the state of
            a stream is lost with it.
    """
    (loss if share == 1 else share * loss).backward()
    run.group.add_gradients(run.model.parameters())
    norm = run.clipper(run.model.parameters())
    run.standing.failures = failures = 0 if math.isfinite(norm) else run.standing.failures + 1
    if run.config.train.check_finite and failures:
        run.consistent = not run.group.any(_has_credit(run.state))
        if failures >= FAILURES or not run.consistent:
            before = f", and the {failures - 1} gradients before it were not finite" if failures > 1 else ""
            advice = calmer(run.config.model, run.config.train)
            raise NotFiniteError(f"update {number}: the gradient norm is {norm}{before}; {advice}")
    return norm


def _step(run: Run, norm: float) -> None:
    """One step of the optimizer, unless the gradient is not finite: the next batch may have one that is."""
    if math.isfinite(norm) or not run.config.train.check_finite:
        run.optimizer.step()


def _has_credit(state: StreamState | None) -> bool:
    """Whether credit waits in a state, which a backward pass may have added to."""
    return isinstance(state, SABState) and state.history.waits


def settle(run: Run) -> None:
    """One more step of the optimizer, for the credit that waits in a stream's state when the run ends."""
    layer = run.model.layer
    if not isinstance(layer, SAB) or not isinstance(run.state, SABState):
        return
    run.optimizer.zero_grad(set_to_none=True)
    layer.settle(run.state)
    run.group.add_gradients(run.model.parameters())
    if any(parameter.grad is not None for parameter in layer.parameters()):
        _step(run, run.clipper(run.model.parameters()))


def _evaluated(run: Run, log: RunLog, display: LiveDisplay, *, last: bool) -> str | None:
    """Log the updates since the last evaluation, evaluate on the validation split, and save a checkpoint.

    Args:
        last: whether the run ends here.

    Returns:
        the reason to stop, or None.
    """
    task, standing = run.config.task, run.standing
    with run.changing():
        if last:
            settle(run)
            run.count_time()
        _note(run, log, display, "train", {**mean_figures(standing.since), "seconds": standing.seconds})
        standing.since.clear()
        metrics, means = _validated(run)
        run.count_time()
        value = metrics[task.metric]
        display.evaluated(standing.step, task.metric, value, means.get("state_norm"))
        _note(run, log, display, "valid", {**metrics, **means})
        if standing.best is None or better(value, standing.best, task.maximize):
            standing.best, standing.best_step, standing.stale = value, standing.step, 0
            run.best = checkpoint.packed_weights(run.model, standing.step)
        else:
            standing.stale += 1
        standing.stopped = run.reason(value)
    run.save(log, evaluated=True)
    if standing.stopped is None and run.judge is not None:  # what it says of a trial is no part of its checkpoint
        return run.judge(standing.step, value)
    return standing.stopped


def _validated(run: Run) -> tuple[dict[str, float], dict[str, float]]:
    """The metrics on the validation split, and the means of statistics of the state and its recalls."""
    with state_norms(run.model) as norms, recall_shares(run.model) as shares:
        limit, group = run.config.train.eval_sequences, run.group
        metrics = evaluate(
            run.model, run.config.task, "valid", batch_size=EVAL_BATCH, limit=limit, device=run.device, group=group
        )
    statistics = (part for own in group.gathered([*norms, *shares]) for part in own)
    return metrics, mean_metrics(statistics)


def _finish(run: Run, stopped: str) -> dict[str, Any]:
    """Test the best weights, unless the run was interrupted or pruned, and write the summary.

    Raises:
        NotFiniteError: a metric of the test is not finite, which the summary has as null.
    """
    task, options, standing = run.config.task, run.config.train, run.standing
    tested, cost, errors = ({}, {}, {}) if stopped in checkpoint.UNTESTED else _tested(run)
    summary: dict[str, Any] = {
        **{name: _finite(value) for name, value in tested.items()},
        "task": task.name,
        "model": run.config.model.model,
        "metric": task.metric,
        "seed": options.seed,
        "stopped": stopped,
        **({"signal": run.signal} if run.signal else {}),
        "steps": standing.step,
        "best_step": standing.best_step,
        f"valid_{task.metric}": _finite(standing.best),
        "seconds": standing.seconds,
        "ms_per_update": 1000 * standing.seconds / max(standing.step, 1),
        "peak_resident_bytes": peak_resident_bytes(),
        **cost,
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        **({"processes": run.group.size} if run.group.size > 1 else {}),
        "command": command_line(),
        **environment(run.device),
        **errors,
    }
    checkpoint.write_summary(run.folder, summary)
    if options.check_finite and (bad := [name for name in tested if not math.isfinite(tested[name])]):
        raise NotFiniteError(
            f"the {bad[0]} of the test is {tested[bad[0]]}; the weights and the summary are in {run.folder}. "
            f"{cause(run.config)}"
        )
    return summary


def _finite(value: float | None) -> float | None:
    """A number that JSON can hold; None for others."""
    return value if value is not None and math.isfinite(value) else None


def _tested(run: Run) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    """The metrics of the best weights on the test split, the steps that a backward pass visits, and the errors."""
    best = checkpoint.model_of(run.config, run.folder / checkpoint.WEIGHTS_NAME)
    task, limit = run.config.task, run.config.train.test_sequences
    model, tally = best.to(run.device), task.tally()
    metrics = evaluate(model, task, "test", batch_size=EVAL_BATCH, limit=limit, device=run.device, tally=tally)
    errors = {} if tally is None else {"errors": tally.record()}
    return metrics, backward_steps(model, task, run.device), errors
