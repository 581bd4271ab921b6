"""The actions of the verb `bench`, one for each kind of measurement, with their output on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from reminding.disk.writing import check_folder
from reminding.lab.bench import gpu
from reminding.lab.bench.gpu_report import GpuMeasurement
from reminding.lab.bench.kinds import serve, stream
from reminding.lab.bench.kinds.serve import ServeMeasurement, ServeOptions, ServePoint
from reminding.lab.bench.kinds.stream import StreamMeasurement, StreamOptions, StreamRow
from reminding.lab.bench.measurement import Measurement
from reminding.lab.bench.options import BenchOptions, GpuOptions
from reminding.lab.bench.report import CpuMeasurement
from reminding.lab.bench.suite import Point, measure
from reminding.lab.runs import machine
from reminding.lab.show.terminal import Status, say, show_table
from reminding.lab.verbs.commands import show_files

Row = TypeVar("Row")


def bench(options: BenchOptions, out: Path) -> None:
    """Measure what a training step costs, show it, and write it to a folder."""
    points: list[Point] = []

    def told(point: Point) -> str:
        return f"{point.size}: {len(point.measured)} of {len(options.contestants)} contestants measured"

    _measure(CpuMeasurement(options, points), points, partial(measure, options), told, out)


def bench_gpu(options: GpuOptions, out: Path) -> None:
    """Measure what a training step costs on a GPU, show it, and write it to a folder.

    Raises:
        ValueError: there is no such device.
    """
    gpu.require_device(options)
    check_folder(out)
    rows: list[gpu.Row] = []

    def told(row: gpu.Row) -> str:
        return f"{row.size}: {row.name} {'measured' if row.skipped is None else row.skipped}"

    with Status() as shown:
        shown.update("measuring the rates of the device")
        about, ceilings = gpu.about(torch.device(options.device)), gpu.ceilings_of(options)
    _measure(GpuMeasurement(options, about, ceilings, rows), rows, partial(gpu.measure, options), told, out)


def bench_stream(options: StreamOptions, out: Path) -> None:
    """Measure what training on a stream costs, show it, and write it to a folder."""
    rows: list[StreamRow] = []

    def told(row: StreamRow) -> str:
        return f"{stream.in_words(row.layers)}: {row.trial} {'measured' if row.skipped is None else 'left out'}"

    _measure(StreamMeasurement(options, rows), rows, partial(stream.measure, options), told, out)


def bench_serve(options: ServeOptions, out: Path) -> None:
    """Measure what one step a call costs, show it, and write it to a folder."""
    points: list[ServePoint] = []

    def told(point: ServePoint) -> str:
        return f"B={point.rows}: {len(point.measured)} of {len(options.contestants)} contestants measured"

    _measure(ServeMeasurement(options, points), points, partial(serve.measure, options), told, out)


@machine.conditions_of_training()
def _measure(
    measurement: Measurement,
    rows: list[Row],
    measured: Callable[[Callable[[str], None]], Iterable[Row]],
    told: Callable[[Row], str],
    out: Path,
) -> None:
    """Add each measured row to those of a measurement and write them all, so that stopping early loses nothing.

    Args:
        measured: makes the rows, and calls its argument with what is being measured.
        told: what is said of a row.
    """
    files: Sequence[Path] = []
    measurement.prepare(out)
    with Status() as shown:
        for row in measured(shown.update):
            rows.append(row)
            files = measurement.write(out)
            shown.done(told(row))
    _show_measurement(measurement, files)


def _show_measurement(measurement: Measurement, files: Sequence[Path]) -> None:
    for line in measurement.setting():
        say(line)
    for table in measurement.tables():
        show_table(table.title, table.columns, table.rows)
        for note in table.notes:
            say(f"not measured: {note}")
    for line in measurement.left_out():
        say(f"not measured: {line}")
    show_files(files)
