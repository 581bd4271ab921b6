"""What was measured on a CPU: tables, a figure of the growth, and measured.json, which a report reads back."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from reminding.disk.fields import from_plain
from reminding.disk.records import read_json
from reminding.lab.bench.contestants import CONTESTANTS
from reminding.lab.bench.measurement import FIGURE_NAME, FORMAT_VERSION, RECORD_NAME, Measurement, shown
from reminding.lab.bench.meter import Lap
from reminding.lab.bench.options import BASE, BenchOptions, Name, Size
from reminding.lab.bench.suite import Figures, Point
from reminding.lab.runs.machine import processor
from reminding.lab.show.growth import Growth, Panel, growth_curves
from reminding.lab.show.tables import Table

CLOCKS = {"cpu": "CPU", "wall": "Wall-clock"}
UNITS = {"T": "T, steps", "B": "B, sequences", "H": "H, hidden units"}


@dataclass(frozen=True)
class Summary:
    """One contestant at one size: medians over repetitions, and medians of the ratios within each repetition.

    Args:
        ms, forward_ms, backward_ms: milliseconds of a training step and its two halves; None where only the memory
            was measured.
        ratio: of its time to nn.LSTM's; None where one of them was not measured.
        backward_share: its backward time over its backward time under a loss everywhere; None with that loss.
        peak_bytes: None where the system does not report it.
        peak_ratio: of its peak to nn.LSTM's; None where one of them was not measured.
    """

    ms: float | None
    forward_ms: float | None
    backward_ms: float | None
    ratio: float | None
    backward_share: float | None
    peak_bytes: int | None
    peak_ratio: float | None


@dataclass(frozen=True)
class CpuMeasurement(Measurement):
    """The figures of one run on a CPU, one point for each size."""

    heading: ClassVar[str] = "One training step beside `nn.LSTM`"

    options: BenchOptions
    points: Sequence[Point]

    @property
    def clock(self) -> str:
        """The clock that is reported: with one thread CPU time, which other processes disturb less."""
        return "cpu" if self.options.threads == 1 else "wall"

    @property
    def unit(self) -> str:
        """The size that varies, with its unit."""
        return UNITS[self.options.axis]

    def summaries(self) -> list[dict[Name, Summary]]:
        """Medians and ratios of everything measured, size by size."""
        return [
            {
                name: _summary(figures, point.measured.get(BASE), self.clock)
                for name, figures in point.measured.items()
            }
            for point in self.points
        ]

    def common(self) -> str:
        """What all figures have in common, in a line."""
        options = self.options
        sizes = [f"{axis}={getattr(options, axis)[0]}" for axis in UNITS if axis != options.axis]
        return ", ".join(
            [
                *sizes,
                *options.described(("I", "k_top", "k_att", "k_trunc")),
                options.normalizer,
                f"loss {options.loss}",
                *([f"a new stream at {options.resets:.0%} of the steps"] if options.resets else []),
                *(["packed sequences of 1 to T steps"] if options.packed else []),
                *([f"recurrent dropout {options.recurrent_dropout}"] if options.recurrent_dropout else []),
                options.dtype,
                f"{options.threads} thread{'s' if options.threads > 1 else ''}",
                f"{options.repetitions} repetition{'s' if options.repetitions > 1 else ''}",
            ]
        )

    def setting(self) -> list[str]:
        """What all figures have in common, and the processor."""
        return [f"{self.common()}; {processor()}."]

    def tables(self) -> list[Table]:
        """Time and memory; with the loss at the end, the two halves of the time too."""
        clock, summaries = CLOCKS[self.clock], self.summaries()

        def table(title: str, cell: Callable[[Summary], str]) -> Table:
            columns = ["", *map(self._column, self.points)]
            rows = [
                [CONTESTANTS[name].label, *(cell(each[name]) if name in each else "-" for each in summaries)]
                for name in self.options.contestants
            ]
            return Table(title, columns, rows)

        time = table(f"{clock} time of a training step, ms (ratio to nn.LSTM)", lambda s: _cell(s.ms, s.ratio))
        memory = table(
            "Peak memory of a training step, MB (ratio to nn.LSTM)",
            lambda s: _cell(_megabytes(s), s.peak_ratio),
        )
        if self.options.loss == "everywhere":
            return [time, memory]
        forward = table(f"{clock} time of its forward pass, ms", lambda s: shown(s.forward_ms))
        backward = table(
            f"{clock} time of its backward pass, ms (ratio to its own under a loss everywhere)",
            lambda s: _cell(s.backward_ms, s.backward_share),
        )
        return [time, forward, backward, memory]

    def _column(self, point: Point) -> str:
        return f"{self.options.axis}={getattr(point.size, self.options.axis)}"

    def left_out(self) -> list[str]:
        """A line for each "-" in the tables, with its reason."""
        lines = [
            f"{CONTESTANTS[name].label}, {self._column(point)}: {reason}"
            for point in self.points
            for name, reason in point.skipped.items()
        ]
        if any(figures.peak_bytes is None for point in self.points for figures in point.measured.values()):
            lines.append("peak memory: this system does not report it")
        return lines

    def results(self) -> dict[str, Any]:
        """The seconds of each repetition, the medians, and the conditions."""
        results = [
            {
                "size": dataclasses.asdict(point.size),
                "measured": {
                    name: {**dataclasses.asdict(summary), **dataclasses.asdict(point.measured[name])}
                    for name, summary in summaries.items()
                },
                "skipped": point.skipped,
                "load": point.load,
            }
            for point, summaries in zip(self.points, self.summaries(), strict=True)
        ]
        return {"clock": self.clock, "results": results, "processor": processor()}

    def panels(self) -> list[Panel]:
        """Time and memory against the size that varies, a line for each contestant."""
        summaries = self.summaries()
        sizes = [getattr(point.size, self.options.axis) for point in self.points]

        def panel(ylabel: str, value: Callable[[Summary], float | None]) -> Panel:
            lines: list[Growth] = []
            for name in self.options.contestants:
                values = [value(each[name]) if name in each else None for each in summaries]
                measured = [(size, y) for size, y in zip(sizes, values, strict=True) if y is not None and y > 0]
                contestant = CONTESTANTS[name]
                if measured:
                    lines.append(Growth(contestant.label, contestant.family, *zip(*measured, strict=True)))
            return Panel(ylabel, lines)

        return [
            panel(f"{CLOCKS[self.clock]} time of a training step, ms", lambda s: s.ms),
            panel("Peak memory of a training step, MB", _megabytes),
        ]

    def draw(self, out: Path) -> list[Path]:
        """Draw growth.png if a size varies."""
        if len(self.points) < 2:
            return []
        path = out / FIGURE_NAME
        growth_curves(self.panels(), self.unit, self.common(), path)
        return [path]


def _summary(figures: Figures, base: Figures | None, clock: str) -> Summary:
    backward = _seconds(figures.laps, f"backward_{clock}")
    peak, base_peak = figures.peak_bytes, base.peak_bytes if base is not None else None
    return Summary(
        ms=_median_ms(_whole(figures.laps, clock)),
        forward_ms=_median_ms(_seconds(figures.laps, f"forward_{clock}")),
        backward_ms=_median_ms(backward),
        ratio=_median_ratio(_whole(figures.laps, clock), _whole(base.laps if base is not None else [], clock)),
        backward_share=_median_ratio(backward, _seconds(figures.full_laps, f"backward_{clock}")),
        peak_bytes=peak,
        peak_ratio=peak / base_peak if peak is not None and base_peak else None,
    )


def _seconds(laps: Sequence[Lap], part: str) -> list[float]:
    return [getattr(lap, part) for lap in laps]


def _whole(laps: Sequence[Lap], clock: str) -> list[float]:
    halves = zip(_seconds(laps, f"forward_{clock}"), _seconds(laps, f"backward_{clock}"), strict=True)
    return [forward + backward for forward, backward in halves]


def _median_ms(seconds: Sequence[float]) -> float | None:
    return 1000 * statistics.median(seconds) if seconds else None


def _median_ratio(times: Sequence[float], base: Sequence[float]) -> float | None:
    """The median over repetitions; None where one side was not measured, or is too short for the clock."""
    if not times or not base or min(base) <= 0:
        return None
    return statistics.median(a / b for a, b in zip(times, base, strict=True))


def _megabytes(summary: Summary) -> float | None:
    return None if summary.peak_bytes is None else summary.peak_bytes / 1e6


def _cell(value: float | None, ratio: float | None) -> str:
    """A figure and, if there is one, its ratio."""
    return shown(value) + ("" if value is None or ratio is None else f" ({ratio:.2f})")


@dataclass(frozen=True)
class SavedMeasurement:
    """A measurement read from the folder of `reminding bench`, with its command and the machine."""

    measurement: CpuMeasurement
    command: str
    machine: str


def read(folder: Path) -> SavedMeasurement | None:
    """Read a measurement from the folder that `reminding bench` wrote; None if its measured.json is of another kind.

    Raises:
        ValueError: it is of this kind but cannot be read; the message says why.
    """
    path = folder / RECORD_NAME
    try:
        content = read_json(path)
        if "results" not in content or "clock" not in content:
            return None
        if content["format"] != FORMAT_VERSION:
            raise ValueError(f"format {content['format']}, expected {FORMAT_VERSION}")
        points = [
            Point(Size(**each["size"]), _figures(each["measured"]), each["skipped"], each["load"])
            for each in content["results"]
        ]
        machine = f"{content['processor']}, {content['machine']}, PyTorch {content['torch']}"
        measurement = CpuMeasurement(from_plain(BenchOptions, content["options"]), points)
        return SavedMeasurement(measurement, content["command"], machine)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _figures(measured: dict[Name, dict[str, Any]]) -> dict[Name, Figures]:
    return {
        name: Figures(
            [Lap(**lap) for lap in each["laps"]], [Lap(**lap) for lap in each["full_laps"]], each["peak_bytes"]
        )
        for name, each in measured.items()
    }
