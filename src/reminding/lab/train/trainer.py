"""Training: one loop for every task and model.

Shapes: B batch, T time.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reminding.lab.runs import checkpoint
from reminding.lab.runs.checkpoint import Standing, Update
from reminding.lab.runs.config import RunConfig
from reminding.lab.runs.machine import choose_device, command_line, environment, peak_resident_bytes
from reminding.lab.runs.model import SequenceModel, StreamState
from reminding.lab.runs.runlog import RunLog
from reminding.lab.runs.watch import Watch
from reminding.lab.show.terminal import LiveDisplay
from reminding.lab.train.clip import GradientClipper
from reminding.lab.train.data import reading_of, record_reading
from reminding.lab.train.effort import backward_steps
from reminding.lab.train.evaluate import evaluate, recall_shares, state_norms
from reminding.nn import SAB, SABState
from reminding.tasks import Batch, MetricSums, mean_metrics

EVAL_BATCH = 100
"""Sequences per batch of an evaluation; the result does not depend on it."""
RUNNING = 50
"""Number of updates in the mean of a stream's metric that is displayed."""


Judge = Callable[[int, float], str | None]
"""Called with an update and the main metric on the validation split; returns a reason to end the run, or None."""
UNTESTED = ("interrupted", "pruned")
"""Endings without a test."""


class NotFiniteError(ValueError):
    """A batch, a loss or a gradient was NaN or infinite."""


@dataclass
class Run:
    """A run in progress."""

    config: RunConfig
    folder: Path
    device: torch.device
    model: SequenceModel
    optimizer: torch.optim.Optimizer
    clipper: GradientClipper
    standing: Standing
    watch: Watch
    state: StreamState | None = None
    """Of the streams, if the task has streams."""
    judge: Judge | None = None


def train(
    config: RunConfig, folder: Path, *, resume: bool = False, overwrite: bool = False, judge: Judge | None = None
) -> dict[str, Any]:
    """Train a model, evaluate the best weights on the test split, and write everything to a folder.

    The folder gets config.json, facts.json (what was learned from the training data), data.json (what was read of
    files of one's own), log.jsonl, tensorboard/, checkpoint.pt (to resume from), model.safetensors (the weights that
    were best on the validation split) and summary.json. Ctrl-C ends the run after the current update, without the
    test, and the run can be resumed; a resumed run gives the numbers of an uninterrupted one. Its data may have grown
    at their end: split and scale remain those of the start. On a stream the state is carried from chunk to chunk.
    Each chunk is predicted before it is learned from, so that in the first pass the training metrics, too, are those
    of unseen steps. With `credit_every` above 1, the credit that waits in the state when the run ends is learned from
    by one more step of the optimizer; so a run that is resumed beyond its end differs from one that never ended
    there.

    Args:
        resume: continue the run in the folder. Its options must be the same; only its limits may be raised, and only
            without annealing.
        overwrite: replace the run in the folder.
        judge: is called after each evaluation with the update and the main metric, and returns a reason to end the
            run: "pruned", "interrupted", or None.

    Returns:
        the summary: test metrics under their own names (none when interrupted or pruned), time, memory and
        environment.

    Raises:
        FileExistsError: the folder holds a run and neither `resume` nor `overwrite` is given.
        NotFiniteError: with `check_finite`, something was not finite; the last good weights are saved.
        ValueError: an option is out of range; the message names it.
    """
    if config.train.threads is not None:
        torch.set_num_threads(config.train.threads)
    config = checkpoint.with_facts(config, folder, resume=resume)
    run = _prepare(config, folder)
    run.judge = judge
    reading = reading_of(config.task)
    if checkpoint.open_run(folder, config, resume=resume, overwrite=overwrite):
        saved = checkpoint.load_checkpoint(folder, run.model, run.optimizer, run.device)
        run.clipper.mean, run.standing, run.state = saved
    if reading is not None:
        record_reading(reading, folder)
    log = RunLog(folder, after=run.standing.step)
    label = f"{config.model.model} on {config.task.name}"
    try:
        limit = config.train.max_seconds
        seconds = None if limit is None else limit - run.standing.seconds
        with LiveDisplay(label, config.train.steps, run.standing.step, seconds) as display:
            display.resumed(log.earlier, config.task.metric)
            for record in log.earlier:
                run.watch.see(record)
            stopped = _loop(run, log, display)
    finally:
        log.close()
        _save(run)
        if not (folder / checkpoint.WEIGHTS_NAME).exists():
            checkpoint.save_weights(folder, run.model)
    return _finish(run, stopped)


def _prepare(config: RunConfig, folder: Path) -> Run:
    """Build everything from the options. Bad options raise here, before the folder is touched."""
    torch.manual_seed(config.train.seed)
    device = choose_device(config.train.device)
    model = SequenceModel(config.task, config.model).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.train.lr)
    clipper = GradientClipper(config.train.clip, config.train.clip_kind == "adaptive")
    watch = Watch(config.model, config.train)
    config.task.train_batches(config.train.batch_size, config.train.seed)
    config.task.eval_batches("valid", EVAL_BATCH, config.train.eval_sequences)
    config.task.eval_batches("test", EVAL_BATCH, config.train.test_sequences)
    return Run(config, folder, device, model, optimizer, clipper, Standing(), watch)


def _loop(run: Run, log: RunLog, display: LiveDisplay) -> str:
    """Update until the run ends.

    Returns:
        what ended it: "steps", "time", "patience", "target", "interrupted" or "pruned".
    """
    options, standing = run.config.train, run.standing
    limit = math.inf if options.max_seconds is None else options.max_seconds
    batches = run.config.task.train_batches(options.batch_size, options.seed, start=standing.step)
    with _interruptible() as interrupt:
        clock = time.perf_counter()
        while standing.step < options.steps:
            if interrupt.requested:
                standing.seconds += time.perf_counter() - clock
                return "interrupted"
            if standing.seconds >= limit:
                return "time"
            batch = next(batches)
            if len(batch.input) == 0:
                continue
            _set_rate(run, standing.seconds + time.perf_counter() - clock)
            update = _update(run, batch.to(run.device))
            standing.step += 1
            standing.since.append(update)
            display.update(standing.step, update["loss"], update["steps"], _running(run))
            now = time.perf_counter()
            last = standing.step == options.steps or standing.seconds + now - clock >= limit
            if last:
                _settle(run)
            if last or standing.step % options.eval_every == 0:
                standing.seconds, clock = standing.seconds + now - clock, now
                _note(run, log, display, "train", {**_mean(standing.since), "seconds": standing.seconds})
                standing.since.clear()
                if reason := _evaluated(run, log, display):
                    return reason
    return "steps"


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


def _mean(updates: list[Update]) -> dict[str, float]:
    """Means over some updates, with the last and the largest gradient norm.

    Chunks without a target have no loss, and do not count.
    """
    losses = [update["loss"] for update in updates if not math.isnan(update["loss"])]
    metrics = mean_metrics(update["metrics"] for update in updates)
    loss = sum(losses) / len(losses) if losses else math.nan
    norms = [update["norm"] for update in updates]
    return {"loss": loss, "gradient_norm": norms[-1], "gradient_norm_max": max(norms), **metrics}


def _running(run: Run) -> str:
    """The main metric over the latest updates on a stream, for the display."""
    if not run.config.task.streamed:
        return ""
    name = run.config.task.metric
    metrics = mean_metrics(update["metrics"] for update in run.standing.since[-RUNNING:])
    return f"{name} {metrics[name]:.4f}"


def _update(run: Run, batch: Batch) -> Update:
    """One step of the optimizer; if it raises, nothing has changed."""
    check, number = run.config.train.check_finite, run.standing.step + 1
    if check:
        check_input(batch, number)
    run.optimizer.zero_grad(set_to_none=True)
    prediction, state = run.model.read(batch, run.state)
    loss = run.config.task.loss(prediction, batch)
    steps = batch.input.shape[:2].numel()
    metrics: MetricSums = {} if batch.reset is None else run.config.task.metrics(prediction.detach(), batch)
    if not loss.requires_grad:  # a chunk without a target: it is read, not learned from
        run.state = state
        return Update(loss=math.nan, norm=0.0, steps=steps, metrics=metrics)
    value = float(loss.detach())
    if check and not math.isfinite(value):
        raise NotFiniteError(f"update {number}: the loss is {value}, though the input is finite; try a smaller --lr")
    loss.backward()
    norm = run.clipper(run.model.parameters())
    if check and not math.isfinite(norm):
        raise NotFiniteError(
            f"update {number}: the gradient norm is {norm}; try --normalizer softmax or a smaller --lr"
        )
    run.optimizer.step()
    run.state = state
    return Update(loss=value, norm=norm, steps=steps, metrics=metrics)


def _settle(run: Run) -> None:
    """One more step of the optimizer, for the credit that waits in a stream's state when the run ends."""
    layer = run.model.layer
    if not isinstance(layer, SAB) or not isinstance(run.state, SABState):
        return
    run.optimizer.zero_grad(set_to_none=True)
    layer.settle(run.state)
    if any(parameter.grad is not None for parameter in layer.parameters()):
        run.clipper(run.model.parameters())
        run.optimizer.step()


def check_input(batch: Batch, number: int) -> None:
    """Refuse a batch whose input is not finite.

    Raises:
        NotFiniteError: names the update, and the first bad step (counted from 1) and row.
    """
    if not batch.input.is_floating_point() or bool(batch.input.isfinite().all()):
        return
    bad = (~batch.input.isfinite()).flatten(2).any(2).nonzero()  # (n, 2), by time first
    step, row = (int(index) for index in bad[0])
    value = batch.input[step, row][~batch.input[step, row].isfinite()][0]
    raise NotFiniteError(
        f"update {number}: input holds {float(value)} at step {step + 1} of sequence {row} of the batch"
    )


def _evaluated(run: Run, log: RunLog, display: LiveDisplay) -> str | None:
    """Evaluate on the validation split, save the weights if they are the best so far, and save a checkpoint.

    Returns:
        the reason to stop, or None.
    """
    task, options, standing = run.config.task, run.config.train, run.standing
    began = time.perf_counter()
    with state_norms(run.model) as norms, recall_shares(run.model) as shares:
        metrics = evaluate(
            run.model, task, "valid", batch_size=EVAL_BATCH, limit=options.eval_sequences, device=run.device
        )
    standing.seconds += time.perf_counter() - began
    value = metrics[task.metric]
    statistics = {"state_norm": norms, "recall_share": shares}
    means = {name: sum(values) / len(values) for name, values in statistics.items() if values}
    display.evaluated(standing.step, task.metric, value, means.get("state_norm"))
    _note(run, log, display, "valid", {**metrics, **means})
    if standing.best is None or _better(value, standing.best, task.maximize):
        standing.best, standing.best_step, standing.stale = value, standing.step, 0
        checkpoint.save_weights(run.folder, run.model)
    else:
        standing.stale += 1
    _save(run)
    if options.target is not None and not _better(options.target, value, task.maximize):
        return "target"
    if options.patience is not None and standing.stale >= options.patience:
        return "patience"
    return None if run.judge is None else run.judge(standing.step, value)


def _better(value: float, other: float, maximize: bool) -> bool:
    return value > other if maximize else value < other


def _save(run: Run) -> None:
    checkpoint.save_checkpoint(run.folder, run.model, run.optimizer, run.clipper.mean, run.standing, run.state)


def _finish(run: Run, stopped: str) -> dict[str, Any]:
    """Test the best weights, unless the run was interrupted or pruned, and write the summary."""
    task, options, standing = run.config.task, run.config.train, run.standing
    tested, cost, errors = ({}, {}, {}) if stopped in UNTESTED else _tested(run)
    summary: dict[str, Any] = {
        **tested,
        "task": task.name,
        "model": run.config.model.model,
        "metric": task.metric,
        "seed": options.seed,
        "stopped": stopped,
        "steps": standing.step,
        "best_step": standing.best_step,
        f"valid_{task.metric}": standing.best,
        "seconds": standing.seconds,
        "ms_per_update": 1000 * standing.seconds / max(standing.step, 1),
        "peak_resident_bytes": peak_resident_bytes(),
        **cost,
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "command": command_line(),
        **environment(run.device),
        **errors,
    }
    checkpoint.write_summary(run.folder, summary)
    return summary


def _tested(run: Run) -> tuple[dict[str, float], dict[str, float], dict[str, Any]]:
    """The metrics of the best weights on the test split, the steps that a backward pass visits, and the errors."""
    _, best = checkpoint.load_run(run.folder)
    task, limit = run.config.task, run.config.train.test_sequences
    model, tally = best.to(run.device), task.tally()
    metrics = evaluate(model, task, "test", batch_size=EVAL_BATCH, limit=limit, device=run.device, tally=tally)
    errors = {} if tally is None else {"errors": tally.record()}
    return metrics, backward_steps(model, task, run.device), errors


@dataclass
class Interrupt:
    """Whether the user asked to stop."""

    requested: bool = False


@contextmanager
def _interruptible() -> Generator[Interrupt]:
    """Let the first Ctrl-C request a stop after the current update; the second one interrupts as usual."""
    interrupt = Interrupt()

    def ask(*_: object) -> None:
        interrupt.requested = True
        signal.signal(signal.SIGINT, previous)

    try:
        previous = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not the main thread, where signals do not arrive
        yield interrupt
        return
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, previous)
