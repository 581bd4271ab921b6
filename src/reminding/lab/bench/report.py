"""What was measured, for people and for programs: tables, measured.json, report.md and a figure."""

from __future__ import annotations

import dataclasses
import json
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reminding.lab.bench.contestants import CONTESTANTS
from reminding.lab.bench.meter import Lap
from reminding.lab.bench.options import AXES, BASE, BenchOptions, Name, Size
from reminding.lab.bench.suite import Figures, Point
from reminding.lab.runs.config import plain
from reminding.lab.runs.machine import command_line, environment
from reminding.lab.show.plots import Growth, Panel, growth_curves
from reminding.lab.show.tables import Table

FORMAT_VERSION = 1
RECORD_NAME = "measured.json"
PAGE_NAME = "report.md"
FIGURE_NAME = "growth.png"
CLOCKS = {"cpu": "CPU", "wall": "Wall-clock"}
UNITS = {"T": "T, steps", "B": "B, sequences", "H": "H, hidden units"}


@dataclass(frozen=True)
class Summary:
    """One contestant at one size: medians over repetitions, and medians of the ratios within each repetition.

    Args:
        ms, forward_ms, backward_ms: milliseconds of a training step and its two halves; None where only the memory
            was measured.
        ratio: of its time to nn.LSTM's; None where one of them was not measured.
        backward_share: of its backward pass in the one under a loss everywhere; None where that is what it is.
        peak_bytes: None where the system does not tell.
        peak_ratio: to nn.LSTM's; None where one of them was not measured.
    """

    ms: float | None
    forward_ms: float | None
    backward_ms: float | None
    ratio: float | None
    backward_share: float | None
    peak_bytes: int | None
    peak_ratio: float | None


@dataclass(frozen=True)
class Measured:
    """What a folder of `reminding bench` holds, with its command and the machine."""

    points: Sequence[Point]
    options: BenchOptions
    command: str
    where: str


def clock_of(options: BenchOptions) -> str:
    """Which clock is reported: with one thread CPU time, which other processes disturb less."""
    return "cpu" if options.threads == 1 else "wall"


def summarize(point: Point, options: BenchOptions) -> dict[Name, Summary]:
    """Medians and ratios of everything measured at a size."""
    clock = clock_of(options)
    base = point.measured.get(BASE)
    return {name: _summary(figures, base, clock) for name, figures in point.measured.items()}


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


def _median_ratio(mine: Sequence[float], other: Sequence[float]) -> float | None:
    """The median over repetitions; None where one was not measured, or the clock too coarse to see the other."""
    if not mine or not other or min(other) <= 0:
        return None
    return statistics.median(a / b for a, b in zip(mine, other, strict=True))


def tables(points: Sequence[Point], options: BenchOptions) -> list[Table]:
    """Time and memory; with the loss at the end, its two halves too."""
    summaries = [summarize(point, options) for point in points]
    clock = CLOCKS[clock_of(options)]

    def table(title: str, cell: Callable[[Summary], str]) -> Table:
        columns = ["", *(_column(point.size, options) for point in points)]
        rows = [
            [CONTESTANTS[name].label, *(cell(each[name]) if name in each else "-" for each in summaries)]
            for name in options.contestants
        ]
        return Table(title, columns, rows)

    time = table(f"{clock} time of a training step, ms (ratio to nn.LSTM)", lambda s: _cell(s.ms, s.ratio))
    memory = table(
        "Peak memory of a training step, MB (ratio to nn.LSTM)",
        lambda s: _cell(_megabytes(s), s.peak_ratio),
    )
    if options.loss == "everywhere":
        return [time, memory]
    forward = table(f"{clock} time of its forward pass, ms", lambda s: _cell(s.forward_ms, None))
    backward = table(
        f"{clock} time of its backward pass, ms (ratio to its own under a loss everywhere)",
        lambda s: _cell(s.backward_ms, s.backward_share),
    )
    return [time, forward, backward, memory]


def _column(size: Size, options: BenchOptions) -> str:
    return f"{options.axis}={getattr(size, options.axis)}"


def _megabytes(summary: Summary) -> float | None:
    return None if summary.peak_bytes is None else summary.peak_bytes / 1e6


def _cell(value: float | None, ratio: float | None) -> str:
    """A figure with three digits or more and, where there is one, its ratio."""
    if value is None:
        return "-"
    places = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{places}f}" + ("" if ratio is None else f" ({ratio:.2f})")


def left_out(points: Sequence[Point], options: BenchOptions) -> list[str]:
    """A line for each "-" in the tables, with its reason."""
    lines = [
        f"{CONTESTANTS[name].label}, {_column(point.size, options)}: {reason}"
        for point in points
        for name, reason in point.skipped.items()
    ]
    if any(figures.peak_bytes is None for point in points for figures in point.measured.values()):
        lines.append("peak memory: this system does not tell it")
    return lines


def setting(options: BenchOptions) -> str:
    """What all figures have in common, in a line."""
    sizes = [f"{axis}={getattr(options, axis)[0]}" for axis in ("T", "B", "H") if axis != options.axis]
    return ", ".join(
        [
            *sizes,
            f"I={options.I}",
            f"k_top={options.k_top}",
            f"k_att={options.k_att}",
            f"k_trunc={options.k_trunc}",
            options.normalizer,
            f"loss {options.loss}",
            options.dtype,
            f"{options.threads} thread{'s' if options.threads > 1 else ''}",
            f"{options.repetitions} repetitions",
        ]
    )


def write(points: Sequence[Point], options: BenchOptions, out: Path) -> list[Path]:
    """Write measured.json, report.md and, where a size varies, growth.png, replacing what is there.

    Returns:
        the files.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = [out / RECORD_NAME, out / PAGE_NAME]
    files[0].write_text(json.dumps(record(points, options), indent=2) + "\n")
    if len(points) > 1:
        files.append(out / FIGURE_NAME)
        _draw(points, options, files[-1])
    files[1].write_text(page(points, options))
    return files


def record(points: Sequence[Point], options: BenchOptions) -> dict[str, Any]:
    """Everything, as JSON can hold it: each repetition's seconds, the medians, and what they depend on."""
    results = [
        {
            "size": dataclasses.asdict(point.size),
            "measured": {
                name: {**dataclasses.asdict(summary), **dataclasses.asdict(point.measured[name])}
                for name, summary in summarize(point, options).items()
            },
            "skipped": point.skipped,
            "load": point.load,
        }
        for point in points
    ]
    return {
        "format": FORMAT_VERSION,
        "command": command_line(),
        "options": plain(options),
        "clock": clock_of(options),
        "results": results,
        **environment(options.device),
        "processor": processor(),
    }


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def page(points: Sequence[Point], options: BenchOptions) -> str:
    """The tables in Markdown, with their command."""
    lines = ["# One training step beside `nn.LSTM`", "", f"{setting(options)}; {processor()}.", ""]
    for table in tables(points, options):
        lines += [f"{table.title}:", "", f"| {' | '.join(table.columns)} |", "|---" + "|---:" * len(points) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in table.rows]
        lines += [""]
    if missing := left_out(points, options):
        lines += ["Not measured (-):", "", *(f"- {line}" for line in missing), ""]
    if len(points) > 1:
        lines += [f"![Growth with {options.axis}]({FIGURE_NAME})", ""]
    return "\n".join([*lines, f"    {command_line()}", ""])


def panels(points: Sequence[Point], options: BenchOptions) -> list[Panel]:
    """Time and memory against the size that varies, a line a contestant."""
    summaries = [summarize(point, options) for point in points]
    sizes = [getattr(point.size, options.axis) for point in points]

    def panel(ylabel: str, value: Callable[[Summary], float | None]) -> Panel:
        lines: list[Growth] = []
        for name in options.contestants:
            found = [(size, value(each[name])) for size, each in zip(sizes, summaries, strict=True) if name in each]
            kept = [(size, y) for size, y in found if y is not None and y > 0]
            contestant = CONTESTANTS[name]
            if kept:
                lines.append(Growth(contestant.label, contestant.family, *zip(*kept, strict=True)))
        return Panel(ylabel, lines)

    return [
        panel(f"{CLOCKS[clock_of(options)]} time of a training step, ms", lambda s: s.ms),
        panel("Peak memory of a training step, MB", _megabytes),
    ]


def _draw(points: Sequence[Point], options: BenchOptions, path: Path) -> None:
    growth_curves(panels(points, options), UNITS[options.axis], setting(options), path)


def read(folder: Path) -> Measured | None:
    """What `write` left in a folder; None where its measured.json is of something else.

    Raises:
        ValueError: it is of this kind, and cannot be read; the message says why.
    """
    path = folder / RECORD_NAME
    try:
        content = json.loads(path.read_text())
        if "results" not in content or "clock" not in content:
            return None
        if content["format"] != FORMAT_VERSION:
            raise ValueError(f"format {content['format']}, expected {FORMAT_VERSION}")
        points = [
            Point(Size(**each["size"]), _figures(each["measured"]), each["skipped"], each["load"])
            for each in content["results"]
        ]
        where = f"{content['processor']}, {content['machine']}, PyTorch {content['torch']}"
        return Measured(points, _options(content["options"]), content["command"], where)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _options(values: dict[str, Any]) -> BenchOptions:
    several: dict[str, Any] = {name: tuple(values[name]) for name in (*AXES, "models")}
    return BenchOptions(**(values | several))


def _figures(measured: dict[Name, dict[str, Any]]) -> dict[Name, Figures]:
    return {
        name: Figures(
            [Lap(**lap) for lap in each["laps"]], [Lap(**lap) for lap in each["full_laps"]], each["peak_bytes"]
        )
        for name, each in measured.items()
    }
